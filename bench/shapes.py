"""How bytes may come to the gateway: what callers may do with the framing of HTTP, and what a provider may say in a stream.

Each is one connection's bytes, and how they are cut. All are allowed, or refused at some bound: what either takes is measured.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from bench.corpus import ADMIN, request, written

CHAT: Final = "/v1/chat/completions"
MANY: Final = 300
"""Requests one after the other on a connection, where each is to be a plain one."""
QUESTION: Final = b"question 00000000"
"""In its place stands another one each time."""
BURST: Final = 32
"""Requests that may wait on a connection for their turn."""
CROWD: Final = 1000
HEADERS: Final = 66
"""Bytes of Ethernet, IP and TCP before those of a segment."""
SEGMENT: Final = 1460
"""Bytes of one at most, between machines."""


class Shape(NamedTuple):
    """What each of so many connections sends, `cut` bytes at a time; 0: as much as the kernel takes."""

    name: str
    raw: bytes
    requests: int = 1
    cut: int = 0
    connections: int = 1
    pace: int = 0
    """Requests after which their answers are waited for. 0: not before all is sent."""
    leaves: bool = False
    """The connections are closed unanswered: nothing would be said."""

    @property
    def size(self) -> int:
        """Bytes on the wire, of a connection: each segment has a head, and so has the end of the connection."""
        segments = -(-len(self.raw) // (self.cut or SEGMENT))
        return len(self.raw) + HEADERS * (segments + 2)


def chat(text: str) -> bytes:
    """The body of a small one."""
    return written({"model": "mock/mock-model", "messages": [{"role": "user", "content": text}]})


def head(target: str, *lines: str, method: str = "POST", version: str = "1.1") -> bytes:
    """A head with these lines, and a key."""
    own = (f"{method} {target} HTTP/{version}", "Host: localhost", f"Authorization: Bearer {ADMIN}", *lines)
    return "".join(f"{line}\r\n" for line in (*own, "")).encode("latin-1")


LAST: Final = "Connection: close"
GET: Final = head("/livez", method="GET")
CLOSING: Final = head("/livez", LAST, method="GET")
CHUNKED: Final = head(CHAT, "Content-Type: application/json", "Transfer-Encoding: chunked", LAST)
TO_NOBODY: Final = head("/livez", "Transfer-Encoding: chunked", LAST, method="GET")


def chunks(body: bytes, size: int, more: bytes = b"") -> bytes:
    """A body in chunks of so many bytes; `more` is the extension of each."""
    pieces = (body[start : start + size] for start in range(0, len(body), size))
    return b"".join(b"%x%b\r\n%b\r\n" % (len(piece), more, piece) for piece in pieces) + b"0\r\n\r\n"


def repeated(name: str, one: bytes, *, requests: int = MANY, cut: int = 0) -> Shape:
    """The same again and again, each after the answer to the one before."""
    return Shape(name, one * requests, requests, cut or len(one), pace=1)


def shapes() -> Iterator[Shape]:
    """What callers may send; what each of them measures is in its name."""
    question = request("POST", CHAT, chat(QUESTION.decode()))
    yield repeated("plain: a question, a miss", question)
    yield repeated("the same question", question.replace(QUESTION, b"the same question"))
    yield repeated("GET /livez", GET)
    yield from whole(question)
    yield from bodies()
    yield from heads()
    yield from idlers()
    yield from browsers()


def whole(question: bytes) -> Iterator[Shape]:
    """Requests that are small, many, or odd as a whole."""
    yield Shape("pipelined, as many as may be", GET * MANY * 8, MANY * 8, len(GET) * BURST, pace=BURST)
    yield Shape("pipelined, more than may be", GET * 20_000)
    yield Shape("questions, pipelined", question * MANY * 8, MANY * 8, len(question) * BURST, pace=BURST)
    for method in ("HEAD", "OPTIONS", "DELETE", "PROPFIND"):
        yield repeated(f"{method} of a page", head("/livez", method=method))
        yield repeated(f"{method} of chats", head(CHAT, method=method))
    yield repeated("a path that there is not", head("/nowhere", method="GET"))
    yield repeated("an absolute target", head("http://localhost/livez", method="GET"))
    yield repeated("an upgrade", head("/livez", "Connection: upgrade", "Upgrade: websocket", method="GET"))
    upgrade = head("/livez", "Connection: upgrade", "Upgrade: h2c", method="GET")
    yield Shape("upgrades, pipelined", upgrade * 2500)
    yield Shape("HTTP/1.0", head("/livez", method="GET", version="1.0"), connections=MANY)
    yield Shape("HTTP/1.0, kept alive", head("/livez", "Connection: keep-alive", method="GET", version="1.0"), connections=MANY)
    yield Shape("a connection for each request", CLOSING, connections=MANY)
    yield Shape("connections without a word", b"", connections=MANY, leaves=True)
    yield Shape("no HTTP", b"\x16\x03\x01\x02\x00\x01\x00", connections=MANY)
    yield Shape("half a request, then gone", request("POST", CHAT, chat("gone"))[:-5], connections=MANY, leaves=True)
    yield Shape("a request, then gone", request("POST", CHAT, chat("gone")), connections=MANY, leaves=True)
    yield repeated("a wrong key", request("POST", CHAT, chat("the same each time"), key="sk-sn-wrong-key-of-nobody"))


def bodies() -> Iterator[Shape]:
    """How a body may come, wanted or not."""
    long = chat("a" * 65_000)
    yield Shape("a long body at once", head(CHAT, f"Content-Length: {len(long)}", LAST) + long)
    yield Shape("the same in segments of a byte", head(CHAT, f"Content-Length: {len(long)}", LAST) + long, cut=1)
    longest = chat("a" * 3_999_000)
    longest = head(CHAT, f"Content-Length: {len(longest)}", LAST) + longest
    yield Shape("a body of 4 MB at once", longest)
    yield Shape("the same in segments of 32 bytes", longest, cut=32)
    for size in (1, 8, 64, 4096):
        body = chat("a" * min(4_000_000, 65_400 * size))
        yield Shape(f"chunks of {size:,}", CHUNKED + chunks(body, size))
    yield Shape("chunks of 8 without end", CHUNKED + b"8\r\naaaaaaaa\r\n" * 530_000)
    yield Shape("chunks of 1 without end", CHUNKED + b"1\r\na\r\n" * 700_000)
    yield Shape("chunks of 1, a byte a segment", CHUNKED + chunks(chat("a" * 10_000), 1), cut=1)
    yield Shape("chunks of 8 with extensions", CHUNKED + chunks(chat("a" * 300_000), 8, b";a=b;c=" + b"d" * 30))
    yield Shape("an extension without end", CHUNKED + b"1;" + b"e" * 4_000_000)
    yield Shape("sizes with many zeros", CHUNKED + (b"0" * 60_000 + b"1\r\na\r\n") * 60 + b"0\r\n\r\n")
    yield Shape("trailers", CHUNKED + chunks(chat("a"), 64)[:-2] + b"X: y\r\n" * 90 + b"\r\n")
    yield Shape("too many trailers", CHUNKED + chunks(chat("a"), 64)[:-2] + b"X: y\r\n" * 600_000)
    trailing = head("/livez", "Transfer-Encoding: chunked", method="GET") + b"0\r\n" + b"X: y\r\n" * 10_000 + b"\r\n"
    yield repeated("10,000 trailers", trailing, requests=40)
    yield Shape("chunks for nobody", TO_NOBODY + chunks(b"a" * 1_000_000, 4096))
    yield Shape("chunks of 1 for nobody", TO_NOBODY + chunks(b"a" * 700_000, 1))
    yield Shape("an announced body for nobody", head("/livez", "Content-Length: 4000000", LAST, method="GET") + b"a" * 4_000_000)
    yield repeated("a short body for nobody", head("/livez", "Content-Length: 60000", method="GET") + b"a" * 60_000)
    few = chat(QUESTION.decode())
    yield repeated("Expect: 100-continue", head(CHAT, "Expect: 100-continue", f"Content-Length: {len(few)}") + few)
    yield repeated("Expect, for nobody", head("/livez", "Expect: 100-continue", method="GET"))
    yield Shape("half a body, 1,000 at a time", head(CHAT, "Content-Length: 2000") + b"a" * 100, 1, 10, CROWD, leaves=True)


def heads() -> Iterator[Shape]:
    """What may stand in a head, and how it may come."""
    small = "".join(f"X{number}: {number}\r\n" for number in range(95)).encode()
    end = f"{LAST}\r\n\r\n".encode()
    yield repeated("95 headers", GET[:-2] + small + b"\r\n")
    yield Shape("95 headers, a byte a segment", GET[:-2] + small + end, cut=1)
    yield Shape(
        "95 headers, then 60,000 bytes, a byte a segment", GET[:-2] + small + b"Y: " + b"y" * 60_000 + b"\r\n" + end, cut=1
    )
    yield Shape("a header of 60,000 bytes, a byte a segment", GET[:-2] + b"Y: " + b"y" * 60_000 + b"\r\n" + end, cut=1)
    yield Shape("a target of 60,000 bytes, a byte a segment", b"GET /" + b"a" * 60_000 + b" HTTP/1.1\r\n" + end, cut=1)
    yield Shape("a head, a byte a segment", CLOSING, cut=1, connections=MANY)
    yield Shape("headers without end", GET[:-2] + b"X: y\r\n" * 600_000)
    yield Shape("a header without end", GET[:-2] + b"X: " + b"y" * 4_000_000)
    yield Shape("a method without end", b"A" * 4_000_000)
    yield Shape("headers without a name", GET[:-2] + b": y\r\n\r\n", connections=MANY)
    yield Shape("folded headers", GET[:-2] + b"X: y\r\n" + b" y\r\n" * 10_000 + b"\r\n", connections=20)
    yield Shape("blanks in a header", GET[:-2] + b"X:" + b" " * 60_000 + b"y\r\n" + end, connections=20)
    yield repeated("a header of 60,000 bytes", GET[:-2] + b"X: " + b"y" * 60_000 + b"\r\n\r\n")
    yield repeated("a Host of 60,000 bytes", b"GET /livez HTTP/1.1\r\nHost: " + b"a." * 30_000 + b"\r\n\r\n", requests=1)
    yield repeated("200 parameters", head("/livez?" + "&".join(f"a{n}=b" for n in range(200)), method="GET"))
    yield repeated("8,000 parameters", head("/livez?" + "&".join("a" for n in range(4000)), method="GET"), requests=1)
    escaped = b"".join(head(f"/{number:03}" + "%41" * 2600, method="GET") for number in range(MANY))
    yield Shape("an escaped path, each time another", escaped, MANY, len(escaped) // MANY, pace=1)
    codings = "Accept-Encoding: " + ", ".join(f"c{n};q=0.{n % 9 + 1}" for n in range(3500))
    yield repeated("3,500 codings accepted", head("/openapi.json", codings, method="GET"), requests=40)
    yield repeated("a page, compressed", head("/openapi.json", "Accept-Encoding: gzip", method="GET"), requests=40)
    yield repeated("a page, as it is", head("/openapi.json", method="GET"), requests=40)


def idlers() -> Iterator[Shape]:
    """What comes between requests, and from many at a time."""
    yield Shape("line breaks between requests", GET + b"\r\n" * 2_000_000 + CLOSING, 2)
    yield Shape("line breaks, one a segment", b"\r\n" * 30_000 + CLOSING, cut=2)
    yield Shape("line breaks, 30,000 bytes a segment", b"\r\n" * 4_000_000 + CLOSING, cut=30_000)
    yield Shape("garbage behind an answer", GET + b"garbage\r\n" * 400_000)
    yield Shape("a byte at a time, 1,000 at a time", CLOSING, 1, 1, CROWD)
    yield Shape("a request each, 1,000 at a time", CLOSING, 1, 0, CROWD)


def browsers() -> Iterator[Shape]:
    """What pages of other origins send."""
    foreign = ("Origin: https://a.example", "Access-Control-Request-Method: POST")
    yield repeated("a preflight", head(CHAT, *foreign, method="OPTIONS"))
    asks = "Access-Control-Request-Headers: " + ",".join(f"x-{n}" for n in range(7000))
    yield repeated("a preflight of 7,000 headers", head(CHAT, *foreign, asks, method="OPTIONS"), requests=40)
    yield repeated("a page of another origin", head("/livez", foreign[0], method="GET"))


# --- what providers say ---

EVENTS: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n"
UNTIL_CLOSE: Final = EVENTS + b"\r\n"
IN_CHUNKS: Final = EVENTS + b"Transfer-Encoding: chunked\r\n\r\n"
MIB: Final = 1 << 20


class Speech(NamedTuple):
    """All that a provider answers, and in which dialect."""

    name: str
    raw: bytes
    dialect: str = "openai"
    whole: bool = False
    """It was asked for a whole answer."""


def event(members: str, name: str = "") -> bytes:
    """One, of these members."""
    return (f"event: {name}\n" if name else "").encode() + b"data: {%b}\n\n" % members.encode()


def of_delta(delta: str) -> bytes:
    """The shortest event that OpenAI's dialect has for it."""
    return event(f'"choices":[{{"index":0,"delta":{{{delta}}}}}]')


USUAL: Final = event(
    '"id":"chatcmpl-0123456789","object":"chat.completion.chunk","created":1700000000,"model":"m","system_fingerprint":"fp_0",'
    '"choices":[{"index":0,"delta":{"content":" word"},"logprobs":null,"finish_reason":null}],"usage":null'
)
ENDING: Final = event('"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]') + b"data: [DONE]\n\n"


def filled(piece: bytes, size: int = 2 * MIB) -> bytes:
    """So much of the same."""
    return piece * (size // len(piece))


def numbered(form: str, size: int = MIB) -> bytes:
    """The same with another number each time."""
    return b"".join(of_delta(form % number) for number in range(size // len(of_delta(form % 10_000))))


def speeches() -> Iterator[Speech]:
    """What a provider may say. The first is the measure."""
    yield Speech("plain: words", UNTIL_CLOSE + filled(USUAL) + ENDING)
    alike = {
        "words, in few bytes": of_delta('"content":"a"'),
        "empty words": of_delta('"content":""'),
        "empty objects": b"data: {}\n\n",
        "no data": b"data:\n\n",
        "comments": b":\n\n",
        "line breaks": b"\n",
        "lines of data without end": b"data:\n",
        "unknown fields": b"x\n\n",
        "usage only": event('"choices":[],"usage":{}'),
        "the same call of a tool": of_delta('"tool_calls":[{"index":0,"function":{"arguments":"a"}}]'),
        "calls without a number": of_delta('"tool_calls":[{"function":{"arguments":"a"}}]'),
        "thoughts with an empty proof": of_delta('"thinking_blocks":[{"signature":""}]'),
        "deep objects": of_delta('"a":' + '{"a":' * 60 + "1" + "}" * 60),
        "many members": of_delta(",".join(f'"a{n}":"b"' for n in range(200))),
    }
    for name, piece in alike.items():
        yield Speech(name, UNTIL_CLOSE + filled(piece) + b"\n\n" + ENDING)
    yield Speech("each word another member", UNTIL_CLOSE + numbered('"a%d":"b"') + ENDING)
    yield Speech("each a call of its own", UNTIL_CLOSE + numbered('"tool_calls":[{"index":%d,"function":{}}]') + ENDING)
    choices = b"".join(event(f'"choices":[{{"index":{n},"delta":{{"content":"a"}}}}]') for n in range(18_000))
    yield Speech("each a choice of its own", UNTIL_CLOSE + choices + ENDING)
    wide = event('"choices":[' + ",".join(f'{{"index":{n},"delta":{{"content":"a"}}}}' for n in range(20_000)) + "]")
    yield Speech("20,000 choices in an event", UNTIL_CLOSE + wide + ENDING)
    for name, form in {
        "choices in an event": '"choices":[%s]',
        "calls of tools in an event": '"choices":[{"index":0,"delta":{"tool_calls":[%s]}}]',
        "members in an event": '"choices":[],"a":[%s]',
    }.items():
        for part, many in {"{}": 348_000, "[]": 348_000, "1": 520_000}.items():
            yield Speech(f"{many:,} {name}: {part}", UNTIL_CLOSE + event(form % ",".join([part] * many)) + ENDING)
    for part, many in {"{}": 348_000, "[]": 348_000, "1": 520_000}.items():
        body = b'{"choices":[%b]}' % b",".join([part.encode()] * many)
        told = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body)
        yield Speech(f"{many:,} choices in a whole answer: {part}", told + body, whole=True)
    for size in (1, 8, 64):
        yield Speech(f"words in chunks of {size}", IN_CHUNKS + chunks(filled(USUAL, MIB // 4) + ENDING, size))
    yield Speech("chunks with extensions", IN_CHUNKS + chunks(filled(USUAL, MIB // 4) + ENDING, 1, b";a=b"))
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    yield Speech("answers before the answer", early * 1500 + UNTIL_CLOSE + ENDING)
    yield from translated()


def translated() -> Iterator[Speech]:
    """In the dialects that are put into other words."""
    start = event('"type":"message_start","message":{"id":"a","model":"m","usage":{"input_tokens":1}}', "message_start")
    text = event('"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a"}', "content_block_delta")
    block = event('"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"a","name":"a"}')
    think = event('"type":"content_block_start","index":0,"content_block":{"type":"thinking"}')
    proof = event('"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":""}')
    for name, piece in {
        "Anthropic's words": text,
        "Anthropic's pings": event('"type":"ping"', "ping"),
        "Anthropic's calls": block,
        "Anthropic's thoughts": think,
        "Anthropic's empty proofs": proof,
    }.items():
        yield Speech(name, UNTIL_CLOSE + start + think + filled(piece) + event('"type":"message_stop"'), "anthropic")
    said = event('"candidates":[{"content":{"parts":[{"text":"a"}]}}]')
    calls = event('"candidates":[{"content":{"parts":[{"functionCall":{"name":"a"}}]}}]')
    yield Speech("Gemini's words", UNTIL_CLOSE + filled(said), "gemini")
    yield Speech("Gemini's calls", UNTIL_CLOSE + filled(calls), "gemini")
    yield Speech("Gemini's empty objects", UNTIL_CLOSE + filled(b"data: {}\n\n"), "gemini")
