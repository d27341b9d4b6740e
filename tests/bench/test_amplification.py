"""What the amplification meter sends: something for every route, each within what that route takes."""

import json
import os
from itertools import chain

import pytest

from bench.amplification import LEAST_BYTES, Figures, chosen, measure
from bench.corpus import ADMIN, LARGE, NUMBER, SKIPPED, USUAL, bodies, corpus
from sentinel_gateway.api.wire.schemas import REQUESTS

DOCUMENT = {
    "paths": {
        **{route: {"post": {}} for route in REQUESTS},
        "/admin/keys/{id}": {"get": {"parameters": [{"name": "id", "in": "path"}, {"name": "search", "in": "query"}]}},
        "/dashboard/events": {"get": {}},
    }
}


def test_every_route_is_sent_something_but_what_never_ends():
    cases = list(corpus(DOCUMENT))
    asked = {case.route.partition(" ")[2] for case in cases if case.route != "any route"}
    assert asked == DOCUMENT["paths"].keys() - SKIPPED
    assert len({(case.route, case.name) for case in cases}) == len(cases), "each has a name of its own"
    for case in cases:
        head, _, body = case.raw.partition(b"\r\n\r\n")
        assert f"Content-Length: {len(body)}\r\n".encode() in head + b"\r\n"
        assert ADMIN.encode() in head


@pytest.mark.parametrize("only", ["", "YAML"])
def test_the_parts_are_all_of_it_each_route_in_one(only):
    whole = chosen(corpus(DOCUMENT), only, (1, 1))
    parts = [chosen(corpus(DOCUMENT), only, (number, 3)) for number in (1, 2, 3)]
    assert sorted(chain.from_iterable(parts)) == sorted(whole)
    assert sum(len({case.route for case in part}) for part in parts) == len({case.route for case in whole}) > 1


@pytest.mark.parametrize("route", sorted(REQUESTS))
def test_what_is_usual_is_what_the_route_takes(route):
    made = dict(bodies(route))
    usual = json.loads(made["as usual"])
    assert set(REQUESTS[route].get("required", ())) <= usual.keys()
    assert route in USUAL
    assert NUMBER in made["2,000 of other words each time"]
    assert max(len(body) for name, body in made.items() if "form" not in name) <= LARGE + 4096


def test_a_small_request_counts_as_a_piece_of_memory():
    figures = Figures(sent=200, gateway=300.0, caller=20.0, memory=LEAST_BYTES / 2, status=200)
    assert (figures.cpu_ratio, figures.memory_ratio) == (15.0, 0.5)


class Slow:
    """A gateway, and its callers, whose third request loads something for a second. No other takes anything."""

    pid = os.getpid()

    def __init__(self):
        self.asked = 0

    def cpu_seconds(self):
        return float(self.asked >= 3)

    def resident_bytes(self):
        return 0

    def ask(self, raw, count):
        self.asked += count
        return 200


def test_what_is_loaded_once_is_no_requests_own():
    slow = Slow()
    assert measure(slow, slow, b"GET / HTTP/1.1").gateway == 0
