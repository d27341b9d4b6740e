"""Figures as people read them."""

import pytest

from sentinel_gateway.api.dashboard import words


@pytest.mark.parametrize(
    ("said", "read"),
    [
        (words.count(0), "0"),
        (words.count(12345), "12,345"),
        (words.count(999_999), "999,999"),
        (words.count(1_234_567), "1.23 M"),
        (words.count(12_345_678_901), "12.3 G"),
        (words.count(999_900_000), "1,000 M"),
        (words.count(5e15), "5,000 T"),
        (words.rate(0), "0"),
        (words.rate(0.42), "0.4"),
        (words.rate(27.4), "27"),
        (words.share(2, 3), "66.7%"),
        (words.share(0.0015, 1), "0.15%"),
        (words.share(1, 3_000_000), "<0.01%"),
        (words.share(0, 2), "0.0%"),
        (words.share(0, 0), words.NOTHING),
        (words.usd(None), words.NOTHING),
        (words.usd(0), "$0"),
        (words.usd(1234.5), "$1,234"),
        (words.usd(12.344), "$12.34"),
        (words.usd(0.0123), "$0.012"),
        (words.usd(0.5), "$0.50"),
        (words.usd(0.00003887), "$0.000039"),
        (words.nano_usd(38_870), "$0.000039"),
        (words.millis(None), words.NOTHING),
        (words.millis(0.421), "0.42 ms"),
        (words.millis(123.4), "123 ms"),
        (words.millis(1234), "1.23 s"),
        (words.millis(123_456), "123 s"),
        (words.span(45), "45 s"),
        (words.span(720), "12 min"),
        (words.span(3 * 86_400 + 4 * 3600 + 120), "3 d 4 h"),
        (words.clock(0), "00:00:00"),
        (words.moment(86_400), "1970-01-02 00:00"),
        (words.moment(1e12), "after 9999"),
        (words.moment(1e300), "after 9999"),
    ],
)
def test_a_figure_is_read(said, read):
    assert said == read
