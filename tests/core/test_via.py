"""What a gateway reads in `Via`, and what it calls itself there."""

import pytest

from sentinel_gateway.core.via import gateways, own_name, written

SECRET = b"s" * 40


@pytest.mark.parametrize(
    ("via", "names"),
    [
        ("", []),
        ("1.1 sentinel-0a1b2c3d", ["sentinel-0a1b2c3d"]),
        ("1.0 fred, 1.1 sentinel-00000001 ,HTTP/1.1 SENTINEL-0000000A\t,", ["sentinel-00000001", "sentinel-0000000a"]),
        ("1.1 sentinel-00000001 (Sentinel, 2), 1.1 sentinel-00000002 (x)", ["sentinel-00000002"]),
        ("sentinel-00000001", []),
        ("1.1 sentinel-0000000", []),
        ("1.1 sentinel-000000001", []),
        ("1.1 x.sentinel-00000001", []),
        ("1.1 sentinel-00000001\r\nx: y", []),
        ("1.1 sentinel-0000000\N{ARABIC-INDIC DIGIT ONE}", []),
    ],
)
def test_others_between_them_are_left_out(via, names):
    assert gateways(via) == names
    assert gateways(written(names)) == names


def test_who_shares_secret_and_name_is_one():
    own = own_name(SECRET, "sentinel")
    assert gateways(f"1.1 {own}") == [own]
    assert own == own_name(SECRET, "sentinel")
    assert len({own, own_name(SECRET, "edge"), own_name(b"t" * 40, "sentinel")}) == 3
