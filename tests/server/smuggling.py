"""Requests that a proxy before us may have understood in another way, by a name for each.

`REFUSED` can be understood in two ways, or in none; `ACCEPTED` in one, with the body that belongs to it. What is known from
published attacks stands here by hand, and families make the rest: each damages one place in each way that some parser takes.
"""

from collections.abc import Iterator
from itertools import product

HOST = b"Host: a\r\n"
NEXT = b"GET /next HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
CHUNKS = b"5\r\nhello\r\n0\r\n\r\n"


def post(fields: bytes, body: bytes = CHUNKS) -> bytes:
    return b"POST /case HTTP/1.1\r\n" + HOST + fields + b"\r\n" + body


def get(fields: bytes = HOST, line: bytes = b"GET /case HTTP/1.1", end: bytes = b"\r\n") -> bytes:
    return line + b"\r\n" + fields + end


KNOWN = {
    # Both lengths
    "CL.TE": post(b"Content-Length: 5\r\n" + CHUNKED),
    "TE.CL": post(CHUNKED + b"Content-Length: 5\r\n"),
    "CL 0 and TE": post(b"Content-Length: 0\r\n" + CHUNKED, SMUGGLED),
    # Content-Length
    "CL twice, equal": post(b"Content-Length: 5\r\nContent-Length: 5\r\n", b"hello"),
    "CL twice, different": post(b"Content-Length: 5\r\nContent-Length: 0\r\n", b"hello"),
    "CL list": post(b"Content-Length: 5, 5\r\n", b"hello"),
    "CL plus": post(b"Content-Length: +5\r\n", b"hello"),
    "CL minus": post(b"Content-Length: -5\r\n", b"hello"),
    "CL hex": post(b"Content-Length: 0x5\r\n", b"hello"),
    "CL float": post(b"Content-Length: 5.0\r\n", b"hello"),
    "CL with a blank inside": post(b"Content-Length: 5 0\r\n", b"hello"),
    "CL empty": post(b"Content-Length: \r\n", b""),
    "CL beyond 64 bits": post(b"Content-Length: 18446744073709551621\r\n", b"hello"),
    "CL non-ASCII digits": post(b"Content-Length: \xd9\xa5\r\n", b"hello"),
    "CL name with a blank": post(b"Content-Length : 5\r\n", b"hello"),
    "CL name with a tab": post(b"Content-Length\t: 5\r\n", b"hello"),
    "CL name with NUL": post(b"Content-Length\x00: 5\r\n", b"hello"),
    # Transfer-Encoding
    "TE identity": post(b"Transfer-Encoding: identity\r\n"),
    "TE unknown": post(b"Transfer-Encoding: xchunked\r\n"),
    "TE chunked, identity": post(b"Transfer-Encoding: chunked, identity\r\n"),
    "TE identity, chunked": post(b"Transfer-Encoding: identity, chunked\r\n"),
    "TE gzip, chunked": post(b"Transfer-Encoding: gzip, chunked\r\n"),
    "TE chunked twice": post(CHUNKED + CHUNKED),
    "TE chunked, then identity": post(CHUNKED + b"Transfer-Encoding: identity\r\n"),
    "TE quoted": post(b'Transfer-Encoding: "chunked"\r\n'),
    "TE with a parameter": post(b"Transfer-Encoding: chunked;q=1\r\n"),
    "TE with a vertical tab": post(b"Transfer-Encoding: \x0bchunked\r\n"),
    "TE folded": post(b"Transfer-Encoding:\r\n chunked\r\n"),
    "TE name with a blank": post(b"Transfer-Encoding : chunked\r\n"),
    "TE empty": post(b"Transfer-Encoding:\r\n"),
    "TE in HTTP/1.0": b"POST /case HTTP/1.0\r\n" + CHUNKED + b"\r\n" + CHUNKS,
    # Chunks
    "chunk size hex prefix": post(CHUNKED, b"0x5\r\nhello\r\n0\r\n\r\n"),
    "chunk size negative": post(CHUNKED, b"-5\r\nhello\r\n0\r\n\r\n"),
    "chunk size with a blank": post(CHUNKED, b"5 \r\nhello\r\n0\r\n\r\n"),
    "chunk size beyond 64 bits": post(CHUNKED, b"10000000000000005\r\nhello\r\n0\r\n\r\n"),
    "chunk size empty": post(CHUNKED, b"\r\nhello\r\n0\r\n\r\n"),
    "chunk line ends in LF": post(CHUNKED, b"5\nhello\r\n0\r\n\r\n"),
    "chunk data without end": post(CHUNKED, b"5\r\nhello0\r\n\r\n"),
    "chunk data ends in LF": post(CHUNKED, b"5\r\nhello\n0\r\n\r\n"),
    "chunk data too long": post(CHUNKED, b"5\r\nhello!\r\n0\r\n\r\n"),
    "chunk extension with LF": post(CHUNKED, b"5;\nx\r\nhello\r\n0\r\n\r\n"),
    "last chunk ends in LF": post(CHUNKED, b"5\r\nhello\r\n0\r\n\n"),
    "trailer with LF": post(CHUNKED, b"5\r\nhello\r\n0\r\nX: y\n\r\n"),
    "trailer that frames": post(CHUNKED, b"5\r\nhello\r\n0\r\nContent-Length: 99\r\n\r\n"),
    # Lines
    "folded header": get(HOST + b"X: a\r\n b\r\n"),
    "header folded by a tab": get(HOST + b"X: a\r\n\tb\r\n"),
    "folded first header": get(b" " + HOST),
    "header ends in LF": get(HOST + b"X: a\nY: b\r\n"),
    "header ends in CR": get(HOST + b"X: a\rY: b\r\n"),
    "head ends in LF": get(HOST, end=b"\n"),
    "line ends in LF": b"GET /case HTTP/1.1\n" + HOST + b"\r\n",
    "header with NUL": get(HOST + b"X: a\x00b\r\n"),
    "header with a control character": get(HOST + b"X: a\x1bb\r\n"),
    "header without a name": get(HOST + b": b\r\n"),
    "header without a colon": get(HOST + b"X\r\n"),
    "header name with a blank": get(HOST + b"X Y: b\r\n"),
    "header name not ASCII": get(HOST + b"X\xff: b\r\n"),
    # Host
    "no Host": get(b""),
    "two Hosts": get(HOST + HOST),
    "two different Hosts": get(HOST + b"Host: b\r\n"),
    "two Hosts in two cases": get(HOST + b"hOST: b\r\n"),
    "Host empty": get(b"Host:\r\n"),
    "Host with a blank": get(b"Host: a b\r\n"),
    "Host with a path": get(b"Host: a/b\r\n"),
    "Host with a user": get(b"Host: u@a\r\n"),
    "Host with a query": get(b"Host: a?b\r\n"),
    "Host with a fragment": get(b"Host: a#b\r\n"),
    "Host list": get(b"Host: a, b\r\n"),
    "Host with a backslash": get(b"Host: a\\b\r\n"),
    "Host not ASCII": get(b"Host: \xc3\xa9\r\n"),
    "Host with a wrong port": get(b"Host: a:b\r\n"),
    "Host with two ports": get(b"Host: a:1:2\r\n"),
    "Host with half an address": get(b"Host: [::1\r\n"),
    "Host very long": get(b"Host: " + b"a" * 300 + b"\r\n"),
    # Request line
    "HTTP/0.9": b"GET /case\r\n" + HOST + b"\r\n",
    "HTTP/1.2": get(line=b"GET /case HTTP/1.2"),
    "HTTP/2.0": get(line=b"GET /case HTTP/2.0"),
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "lower-case method": get(line=b"get /case HTTP/1.1"),
    "unknown method": get(line=b"GETS /case HTTP/1.1"),
    "lower-case protocol": get(line=b"GET /case http/1.1"),
    "blank after the version": get(line=b"GET /case HTTP/1.1 "),
    "tab after the method": get(line=b"GET\t/case HTTP/1.1"),
    "blank in the target": get(line=b"GET /case /smuggled HTTP/1.1"),
    "target not ASCII": get(line=b"GET /\xc3\xa9 HTTP/1.1"),
    "target with NUL": get(line=b"GET /\x00 HTTP/1.1"),
    "target with a fragment": get(line=b"GET /case#x HTTP/1.1"),
    "absolute target with a fragment": get(line=b"GET http://a/case#x HTTP/1.1"),
    "target without a slash": get(line=b"GET case HTTP/1.1"),
    "target *": get(line=b"GET * HTTP/1.1"),
    "target * for OPTIONS": get(line=b"OPTIONS * HTTP/1.1"),
    "absolute target without a host": get(line=b"GET http:///case HTTP/1.1"),
    "absolute target with a user": get(line=b"GET http://u@a/case HTTP/1.1"),
    "absolute target of another scheme": get(line=b"GET ftp://a/case HTTP/1.1"),
    # Upgrades: the parser would take the body for the next request
    "upgrade with a body": post(b"Connection: upgrade\r\nUpgrade: h2c\r\nContent-Length: %d\r\n" % len(SMUGGLED), SMUGGLED),
    "upgrade with chunks": post(b"Connection: upgrade\r\nUpgrade: websocket\r\n" + CHUNKED, CHUNKS),
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n",
    "nothing but NULs": bytes(100),
}

ACCEPTED = {
    "CL": (post(b"Content-Length: 5\r\n", b"hello"), b"hello"),
    "CL with leading zeros": (post(b"Content-Length: 0005\r\n", b"hello"), b"hello"),
    "CL with a blank after it": (post(b"Content-Length: 5 \r\n", b"hello"), b"hello"),
    "CL of a smuggled request": (post(b"Content-Length: %d\r\n" % len(SMUGGLED), SMUGGLED), SMUGGLED),
    "GET with CL": (get(HOST + b"Content-Length: %d\r\n" % len(SMUGGLED)) + SMUGGLED, SMUGGLED),
    "TE": (post(CHUNKED), b"hello"),
    "TE in capitals": (post(b"TRANSFER-ENCODING: CHUNKED\r\n"), b"hello"),
    "TE of a smuggled request": (post(CHUNKED, b"%x\r\n%b\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED)), SMUGGLED),
    "TE and an upgrade that isn't asked for": (post(b"Upgrade: h2c\r\n" + CHUNKED), b"hello"),
    "chunk extension": (post(CHUNKED, b"5;a=b\r\nhello\r\n0\r\n\r\n"), b"hello"),
    "chunk size with leading zeros": (post(CHUNKED, b"0005\r\nhello\r\n000\r\n\r\n"), b"hello"),
    "trailer": (post(CHUNKED, b"5\r\nhello\r\n0\r\nHost: b\r\n\r\n"), b"hello"),
    "empty lines first": (b"\r\n\r\n" + get(), b""),
    "header not ASCII": (get(HOST + b"X: \xff\r\n"), b""),
    "Host with a port": (get(b"Host: a:8080\r\n"), b""),
    "Host with an address": (get(b"Host: [::1]:8080\r\n"), b""),
    "Host with a blank after it": (get(b"Host: a \r\n"), b""),
    "upgrade without a body": (get(HOST + b"Connection: upgrade\r\nUpgrade: websocket\r\n"), b""),
}

# --- families: name, request ---

ODD = (b"\x00", b"\x01", b"\x0b", b"\x0c", b"\x1f", b"\x7f", b"\x85", b"\xa0", b"\xff")
"""Bytes that some parsers skip as blanks, and others keep."""
MARKS = (b" ", b"\t", b'"', b"(", b",", b";", b"=", b"@", b"\\")
"""No part of a name."""


def _names() -> Iterator[tuple[str, bytes]]:
    """A framing header whose name some parser mends."""
    framing = {"CL": (b"Content-Length", b": 5\r\n", b"hello"), "TE": (b"Transfer-Encoding", b": chunked\r\n", CHUNKS)}
    for (kind, (name, value, body)), odd in product(framing.items(), ODD + MARKS):
        first, second = name.split(b"-")
        yield f"{kind} name ends in {odd!r}", post(name + odd + value, body)
        yield f"{kind} name with {odd!r} for its hyphen", post(first + odd + second + value, body)
        if odd.strip(b" \t"):
            yield f"{kind} name begins with {odd!r}", post(odd + name + value, body)


def _values() -> Iterator[tuple[str, bytes]]:
    """A framing header whose value some parser mends."""
    for odd in ODD:
        yield f"CL begins with {odd!r}", post(b"Content-Length: " + odd + b"5\r\n", b"hello")
        yield f"CL ends in {odd!r}", post(b"Content-Length: 5" + odd + b"\r\n", b"hello")
        yield f"TE begins with {odd!r}", post(b"Transfer-Encoding: " + odd + b"chunked\r\n")
        yield f"TE ends in {odd!r}", post(b"Transfer-Encoding: chunked" + odd + b"\r\n")
    for value in (
        b"5,",
        b",5",
        b"5;5",
        b"5\t5",
        b"5_0",
        b"5e0",
        b"5x",
        b".5",
        b"5.",
        b"'5'",
        b'"5"',
        b"(5)",
        b"-0",
        b"+0",
        b"0b1",
        b"five",
    ):
        yield f"CL {value!r}", post(b"Content-Length: " + value + b"\r\n", b"hello")
    for value in (
        b"chunked,",
        b",chunked",
        b"chunked, chunked",
        b"chunked, gzip",
        b"chunked gzip",
        b"chunke",
        b"chunkedx",
        b"chunked, ",
    ):
        yield f"TE {value!r}", post(b"Transfer-Encoding: " + value + b"\r\n")
    for value in (
        b"gzip",
        b"deflate",
        b"trailers",
        b"br, chunked",
        b"chun ked",
        b"chun\tked",
        b"\xef\xbb\xbfchunked",
        b"'chunked'",
    ):
        yield f"TE {value!r}", post(b"Transfer-Encoding: " + value + b"\r\n")


def _both() -> Iterator[tuple[str, bytes]]:
    """Both framing headers, in both orders."""
    codings = (b"Chunked", b"chunked ", b"identity", b"xchunked", b"gzip", b"")
    for coding, length in product(codings, (b"0", b"5", b"35")):
        lines = (b"Transfer-Encoding: " + coding + b"\r\n", b"Content-Length: " + length + b"\r\n")
        yield f"TE {coding!r}, CL {length!r}", post(b"".join(lines))
        yield f"CL {length!r}, TE {coding!r}", post(b"".join(reversed(lines)))


def _chunks() -> Iterator[tuple[str, bytes]]:
    """A chunk whose size or end some parser mends."""
    for odd in (*ODD, b" ", b"\t", b"+", b"0x", b"_", b",", b"g"):
        yield f"chunk size begins with {odd!r}", post(CHUNKED, odd + b"5\r\nhello\r\n0\r\n\r\n")
        yield f"chunk size ends in {odd!r}", post(CHUNKED, b"5" + odd + b"\r\nhello\r\n0\r\n\r\n")
    for end in (b"\n", b"\r", b"\n\r", b"\r\r\n", b"\x00\r\n", b"", b" \r\n"):
        yield f"chunk line ends in {end!r}", post(CHUNKED, b"5" + end + b"hello\r\n0\r\n\r\n")
        yield f"chunk ends in {end!r}", post(CHUNKED, b"5\r\nhello" + end + b"0\r\n\r\n")


def _lines() -> Iterator[tuple[str, bytes]]:
    """A line break, or what some parser takes for one, where none may stand."""
    places = {
        "after the method": b"GET%b/case HTTP/1.1\r\nHost: a\r\n\r\n",
        "in the target": b"GET /ca%bse HTTP/1.1\r\nHost: a\r\n\r\n",
        "before the version": b"GET /case %bHTTP/1.1\r\nHost: a\r\n\r\n",
        "in the version": b"GET /case HTTP/1.%b1\r\nHost: a\r\n\r\n",
        "in a name": b"GET /case HTTP/1.1\r\nHost: a\r\nX%bY: b\r\n\r\n",
        "in Host": b"GET /case HTTP/1.1\r\nHost: a%bb\r\n\r\n",
        "in a value": b"GET /case HTTP/1.1\r\nHost: a\r\nX: b%bContent-Length: 35\r\n\r\n",
    }
    for (place, request), mark in product(places.items(), (b"\n", b"\r", b"\x00", b"\x0b")):
        yield f"{mark!r} {place}", request % mark


def _folds() -> Iterator[tuple[str, bytes]]:
    """A header that goes on in the next line, as HTTP once allowed."""
    headers = {
        "Host": HOST,
        "CL": HOST + b"Content-Length: 5\r\n",
        "TE": HOST + CHUNKED,
        "Connection": HOST + b"Connection: keep-alive\r\n",
    }
    for (name, fields), blank in product(headers.items(), (b" ", b"\t", b" \t")):
        body = {"CL": b"hello", "TE": CHUNKS}.get(name, b"")
        yield f"{name} folded by {blank!r}", b"POST /case HTTP/1.1\r\n" + fields + blank + b"x\r\n\r\n" + body
        yield f"{name} and an empty line folded by {blank!r}", b"POST /case HTTP/1.1\r\n" + fields + blank + b"\r\n\r\n" + body


def _hosts() -> Iterator[tuple[str, bytes]]:
    """More than one Host, or one that names more than a host."""
    for first, second in product((b"Host: a", b"HOST: a:80"), (b"Host: a", b"host: b", b"Host:", b"hOst: a:80", b"Host: [::1]")):
        yield f"{first!r} and {second!r}", get(first + b"\r\n" + second + b"\r\n")
        yield f"{first!r}, X and {second!r}", get(first + b"\r\nX: y\r\n" + second + b"\r\n")
    for odd in (*ODD, b"@b", b"/", b"?", b"#", b"%00", b"*", b"<", b"'"):
        yield f"Host ends in {odd!r}", get(b"Host: a" + odd + b"\r\n")


FAMILIES = (_names, _values, _both, _chunks, _lines, _folds, _hosts)
REFUSED = KNOWN | dict(case for family in FAMILIES for case in family())
