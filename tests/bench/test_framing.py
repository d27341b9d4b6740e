"""The meter of framing: what it sends comes as it says, and what is dear and long is told first."""

import re
import socketserver
import threading
from collections.abc import Iterator

import pytest

from bench.framing import ALONE, HELD, TIMES, TURN, Cost, asking, play, table
from bench.shapes import BURST, CLOSING, GET, QUESTION, Shape, shapes, speeches

ANSWER = b"HTTP/1.1 %d OK\r\nContent-Length: 2\r\n\r\nok"


class Server:
    """Answers each head with a status of its own, counted from 200, and closes after one that asks for it."""

    def __init__(self) -> None:
        self.came: list[bytes] = []
        server = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                head = b""
                for line in self.rfile:
                    head += line
                    if line == b"\r\n":
                        server.came.append(head)
                        self.wfile.write(ANSWER % (199 + len(server.came)))
                        if b"Connection: close" in head:
                            break
                        head = b""

        class Threads(socketserver.ThreadingTCPServer):
            daemon_threads = True

        self.server = Threads(("127.0.0.1", 0), Handler)
        self.port: int = self.server.server_address[1]


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join()


def test_who_keeps_a_pace_waits_for_each_answer(server):
    assert play(server.port, Shape("", GET * 5, 5, len(GET), pace=1)) == 204
    assert server.came == [GET] * 5


def test_a_burst_is_answered_before_the_next(server):
    assert play(server.port, Shape("", GET * 2 * BURST, 2 * BURST, BURST * len(GET), pace=BURST)) == 199 + 2 * BURST


@pytest.mark.parametrize("cut", [0, 1, 7])
def test_however_it_is_cut_it_comes_from_each_connection(server, cut):
    assert play(server.port, Shape("", CLOSING, cut=cut, connections=3)) in {200, 201, 202}
    assert server.came == [CLOSING] * 3


def test_each_way_has_a_name_and_the_first_is_the_measure():
    for ways in (list(shapes()), list(speeches())):
        assert len({way.name for way in ways}) == len(ways)
        assert ways[0].name.startswith("plain")


def test_a_pace_is_kept_where_each_segment_holds_whole_requests():
    for shape in shapes():
        if shape.pace:
            assert len(shape.raw) * shape.pace == shape.cut * shape.requests, shape.name


def test_what_is_asked_anew_is_as_long_as_before():
    plain = next(iter(shapes()))
    assert plain.raw.count(QUESTION) == plain.requests
    assert len(QUESTION) == len(b"question %08d" % 12345)


def test_a_provider_is_asked_for_what_it_answers():
    for speech in speeches():
        assert (b'"stream": false' in asking(speech, 1).raw) == speech.whole == (b"application/json" in speech.raw[:99])


def cost(name: str, gateway: float, *, sent: int = 1000, wait: float = 0.0, connections: int = 1) -> Cost:
    return Cost(name, sent, 2 * connections, connections, 200, gateway, 0.001, wait)


@pytest.mark.parametrize(
    ("one", "is_too_much"),
    [
        (cost("dear, and short", 0.1), False),
        (cost("dear, and long", HELD + 0.1), True),
        (cost("dear, and long in all", HELD + 0.1, connections=10), False),
        (cost("dear, and a long turn", 0.1, wait=TURN + 0.001), True),
        (cost("long, and cheap", HELD + 0.1, sent=1_000_000, wait=ALONE + 0.001), False),
        (cost("a request's turn, and cheap", 0.1, sent=1_000_000, wait=ALONE + 0.001)._replace(requests=1), True),
        (cost("a request, long and cheap", HELD + 0.1, sent=1_000_000)._replace(requests=1), True),
    ],
    ids=lambda one: one.name if isinstance(one, Cost) else "",
)
def test_what_is_dear_and_long_is_too_much(one, is_too_much):
    assert one.breaks(cost("plain", 0.1 / TIMES / 1.1)) is is_too_much


def test_the_dearest_byte_stands_first():
    told = table([cost("plain", 0.01), cost("cheap", 0.005), cost("dear", 0.6)])
    names = [re.split(r" *\| *", line)[1] for line in told[2:]]
    assert names == ["dear", "plain", "cheap"]
    assert [line for line in told if "too much" in line] == [told[2]]
    assert {line.count("|") for line in told} == {told[0].count("|")}
