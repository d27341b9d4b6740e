"""A report as text and as a page: whatever stands in it is harmless, and the picture is where the figures are."""

import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel_gateway.evaluation.chart import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Chart, Series, svg
from sentinel_gateway.evaluation.document import Document, Quotes, Section, Table, page, text

NASTY = "<script>alert(1)</script>\"'&\x1b[31m\u202e\x00"


def document(said: str) -> Document:
    chart = Chart(said, said, said, [Series(said, [(0.0, 0.0), (0.05, 0.5)])], marks=[0.01])
    blocks = [said, Table([said, said], [[said, said]]), Table([said, said], [[said, said]], words=True), chart]
    return Document(said, said, [Section(said, [*blocks, Quotes([(said, [(said, said)])])])])


class Reader(HTMLParser):
    """What a browser would make of it."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.said = ""
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.said += data


@settings(max_examples=25)
@given(st.text(max_size=40))
def test_no_text_becomes_markup(said):
    plain, other = Reader(page(document("x"))), Reader(page(document(said)))
    assert [(tag, set(attrs)) for tag, attrs in other.tags] == [(tag, set(attrs)) for tag, attrs in plain.tags]


def test_a_page_fetches_nothing_and_runs_nothing():
    found = Reader(page(document(NASTY)))
    assert {tag for tag, _ in found.tags}.isdisjoint({"script", "link", "img", "iframe", "a", "form", "object", "base"})
    names = {name for _, attrs in found.tags for name in attrs}
    assert names.isdisjoint({"src", "href", "style", "srcset", "action"})
    assert not any(name.startswith("on") for name in names)
    (policy,) = [attrs["content"] for _, attrs in found.tags if attrs.get("http-equiv")]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"
    assert found.said.count("<script>alert(1)</script>") >= 10
    assert not re.search(r"url\(|@import|https?:", page(document("x")))


def test_text_has_nothing_that_a_terminal_would_obey():
    said = text(document(NASTY))
    assert all(char.isprintable() or char == "\n" for char in said)
    assert "<script>" in said


def test_text_is_in_columns_and_words_are_below_each_other():
    figures = Table(["rule", "hits"], [["a", "1,000"], ["longer", "7"]])
    words = Table(["setting", "now", "why"], [["cache.ttl", "600", "because " * 20]], words=True)
    said = text(Document("Title", "", [Section("Part", [figures, words, Quotes([("about", [("asked", "Who?")])])])]))
    assert "rule     hits\na       1,000\nlonger      7\ncache.ttl\n    now: 600\n    why: because because" in said
    assert said.endswith("* about\n    asked: Who?")
    assert max(map(len, said.splitlines())) <= 100


def drawn(chart: Chart) -> ET.Element:
    picture, _, _ = svg(chart).partition("<ul")
    return ET.fromstring(picture)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=20))
def test_a_line_stays_within_its_axes(points):
    root = drawn(Chart("t", "x", "y", [Series("s", points)], x_top=0.5))
    (line,) = root.iter("polyline")
    places = [tuple(map(float, pair.split(","))) for pair in line.get("points").split()]
    assert len(places) == sum(x <= 0.5 for x, _ in points)
    assert all(LEFT <= x <= WIDTH - RIGHT and TOP - 0.1 <= y <= HEIGHT - BOTTOM for x, y in places)


@pytest.mark.parametrize(
    ("top", "labels"),
    [
        (0.5, "0 % 10 % 20 % 30 % 40 % 50 %"),
        (0.57, "0 % 12 % 24 % 36 % 48 % 60 %"),
        (0.033, "0 % 0.8 % 1.6 % 2.4 % 3.2 % 4 %"),
        (0.0, "0 % 0.2 % 0.4 % 0.6 % 0.8 % 1 %"),
    ],
)
def test_axes_end_at_round_numbers(top, labels):
    root = drawn(Chart("t", "x", "y", [Series("s", [(0.0, 0.0), (1.0, top)])]))
    said = [each.text for each in root.iter("text") if each.get("text-anchor") == "end"]
    assert " ".join(said) == labels


def test_a_threshold_is_no_per_cent():
    series = [Series("s", [(0.7, 0.1), (1.0, 0.0)])]
    for plain, labels in ((True, "0.70 0.76 0.82 0.88 0.94 1.00"), (False, "70 % 76 % 82 % 88 % 94 % 100 %")):
        root = drawn(Chart("t", "x", "y", series, x_start=0.7, x_plain=plain))
        said = [each.text for each in root.iter("text") if each.get("text-anchor") == "middle"]
        assert " ".join(said[:6]) == labels


def test_lines_are_told_apart_by_more_than_colour():
    root = drawn(Chart("t", "x", "y", [Series(str(number), [(0.0, 0.1)]) for number in range(7)]))
    looks = [(line.get("class"), line.get("stroke-dasharray")) for line in root.iter("polyline")]
    assert len(set(looks[:6])) == 6
    assert len({dash for _, dash in looks[:6]}) == 6
    assert root.get("aria-label") == "t"


def test_on_a_narrow_screen_every_figure_stands_under_its_row_with_its_head():
    said = page(document("x"))
    assert said.count('<td data-head="x">x</td>') == 2
    narrow = said[said.index("@media (max-width:36rem)") :]
    assert "thead{display:none}" in narrow
    assert 'td::before{content:attr(data-head) ": "' in narrow
