"""The shared client: what it sends, what it refuses, how it uses connections, and when it gives up."""

import asyncio
import contextlib
import gc
import os
import socket
import ssl
import time

import msgspec
import pytest

from sentinel_gateway.core.routing import Deadlines
from sentinel_gateway.errors import (
    UpstreamBroken,
    UpstreamError,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from sentinel_gateway.ports import Unsent
from sentinel_gateway.providers._connection import READ_AHEAD_BYTES, READ_SIZE, ROOM_SIZE
from sentinel_gateway.providers._deadlines import Timeouts
from sentinel_gateway.providers._errors import UpstreamTooLong
from sentinel_gateway.providers._http import MAX_REPLY_BYTES, MAX_STREAM_BYTES, ByteStream, Endpoint, HttpClient
from sentinel_gateway.providers._provider import MOST_PARTS, ProviderConfig, list_timeouts
from sentinel_gateway.providers._tls import verifying_tls
from sentinel_gateway.providers.openai import OpenAIProvider
from tests.gateway import DEADLINE, until

pytestmark = pytest.mark.anyio

QUICK = Timeouts(connect=0.2, first_byte=0.2, idle=0.2, total=5)


async def read_all(provider, asked):
    async with await provider.open_stream(asked) as stream:
        return [chunk async for batch in stream for chunk in batch], stream.finished


async def closed_by_us(upstream):
    """The last upstream call was hung up on, at once."""
    await upstream.settle()
    assert upstream.calls[-1].closed_by_peer_at is not None
    assert not upstream.calls[-1].completed


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_call_that_is_over_waits_for_no_collector(provider, upstream, call, streamed):
    """To look for garbage holds the loop up, longer than all calls of that moment take."""
    groq = provider(upstream.base_url)
    before = sum(isinstance(each, ByteStream) for each in gc.get_objects())
    gc.disable()
    try:
        for _ in range(5):
            await (read_all(groq, call()) if streamed else groq.complete(call()))
        assert sum(isinstance(each, ByteStream) for each in gc.get_objects()) <= before
    finally:
        gc.enable()


# what is sent


@pytest.mark.parametrize("streamed", [False, True])
async def test_only_our_own_headers_are_sent(provider, upstream, call, streamed):
    groq = provider(upstream.base_url, query={"api-version": "1"})
    await (read_all(groq, call()) if streamed else groq.complete(call()))
    (seen,) = upstream.calls
    assert seen.path == "/v1/chat/completions?api-version=1"
    assert len(seen.raw_headers) == len(seen.headers)
    assert seen.headers == {
        "host": upstream.base_url.split("/")[2],
        "via": "1.1 sentinel-n1",
        "user-agent": "sentinel/9.9",
        "accept-encoding": "identity",
        "accept": "text/event-stream" if streamed else "application/json",
        "authorization": "Bearer sk-live-0123456789abcdef",
        "content-type": "application/json",
        "content-length": str(len(seen.raw_body)),
        "x-request-id": "sentinel-1",
    }


async def test_no_cookie_is_kept(provider, raw_server, call, answered):
    async def handle(server, reader, writer):
        while True:
            await server.read_request(reader)
            writer.write(answered(headers="set-cookie: session=abc; Path=/\r\n"))

    async with raw_server(handle) as server:
        groq = provider(server.base_url)
        await groq.complete(call())
        await groq.complete(call())
    assert len(server.heads) == 2
    assert b"cookie" not in server.heads[1].lower()


async def test_proxies_of_the_environment_are_not_used(provider, upstream, call, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("all_proxy", "http://127.0.0.1:1")
    assert os.environ["http_proxy"]
    await provider(upstream.base_url).complete(call())
    assert upstream.count == 1


async def test_a_large_body_arrives_whole(provider, upstream, call):
    asked = call(messages=[{"role": "user", "content": "x" * 3_500_000}])
    await provider(upstream.base_url).complete(asked)
    assert upstream.calls[0].body["messages"] == asked.fields["messages"]


# what is refused


async def test_a_redirect_is_never_followed(provider, raw_server, call, answered):
    async def handle(server, reader, writer):
        await server.read_request(reader)
        writer.write(answered("307 Temporary Redirect", f"location: {server.base_url}/elsewhere\r\n", b""))

    async with raw_server(handle) as server:
        for ask in (provider(server.base_url).complete, provider(server.base_url).open_stream):
            with pytest.raises(UpstreamBroken, match="redirects"):
                await ask(call())
    assert len(server.heads) == 2
    assert all(head.startswith(b"POST /v1/chat/completions ") for head in server.heads)


@pytest.mark.parametrize("encoding", ["gzip", "BR", "identity, gzip"])
@pytest.mark.parametrize("streamed", [False, True])
async def test_a_compressed_answer_is_refused_unread(provider, raw_server, call, encoding, streamed):
    closed = asyncio.Event()

    async def handle(server, reader, writer):
        await server.read_request(reader)
        writer.write(f"HTTP/1.1 200 OK\r\ncontent-encoding: {encoding}\r\ncontent-length: 100\r\n\r\n".encode())
        assert await reader.read() == b""
        closed.set()

    async with raw_server(handle) as server:
        groq = provider(server.base_url)
        with pytest.raises(UpstreamBroken, match="compressed"):
            await (groq.open_stream(call()) if streamed else groq.complete(call()))
        async with asyncio.timeout(15):
            await closed.wait()


async def test_an_answer_over_the_cap_is_cut_off(provider, upstream, call):
    upstream.script(f"huge={4 * MAX_REPLY_BYTES}")
    with pytest.raises(UpstreamTooLong, match="more than 32 MiB"):
        await provider(upstream.base_url).complete(call())
    await closed_by_us(upstream)


async def test_an_answer_that_comes_with_its_head_is_held_to_the_cap_as_well(http, raw_server):
    async def handle(server, reader, writer):
        await server.read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n6\r\n[1, 2]\r\n0\r\n\r\n")
        await writer.drain()

    async with raw_server(handle) as server:
        endpoint = Endpoint("groq", server.base_url, {}, Timeouts())
        assert await (await http.send(endpoint, None)).read_whole(6) == b"[1, 2]"
        with pytest.raises(UpstreamTooLong):
            await (await http.send(endpoint, None)).read_whole(5)


async def test_an_answer_of_too_many_parts_is_not_read_and_not_asked_for_again(provider, raw_server, call):
    wide = b"[" + b"[]," * (MOST_PARTS // 2) + b"[]]"

    async def handle(server, reader, writer):
        await server.read_request(reader)
        writer.write(f"HTTP/1.1 200 OK\r\ncontent-length: {len(wide)}\r\n\r\n".encode() + wide)
        await writer.drain()

    async with raw_server(handle) as server:
        with pytest.raises(UpstreamTooLong, match="more than 4,000,000 keys and values") as caught:
            await provider(server.base_url).complete(call())
    assert not caught.value.next_target


async def test_an_answer_announced_over_the_cap_is_not_read(provider, raw_server, call):
    closed = asyncio.Event()

    async def handle(server, reader, writer):
        await server.read_request(reader)
        writer.write(f"HTTP/1.1 200 OK\r\ncontent-length: {MAX_REPLY_BYTES + 1}\r\n\r\n".encode())
        assert await reader.read() == b""
        closed.set()

    async with raw_server(handle) as server:
        with pytest.raises(UpstreamTooLong, match="more than 32 MiB"):
            await provider(server.base_url).complete(call())
        async with asyncio.timeout(15):
            await closed.wait()


async def test_an_endless_event_is_cut_off(provider, upstream, call):
    upstream.script("huge=40000000;chunks=1")
    with pytest.raises(UpstreamBroken, match="endless"):
        await read_all(provider(upstream.base_url), call())
    await closed_by_us(upstream)


@pytest.mark.parametrize("piped", [False, True])
async def test_a_stream_over_the_cap_is_cut_off(http, upstream, piped):
    upstream.script(f"huge={2 * MAX_STREAM_BYTES};chunks=5000")
    endpoint = Endpoint("groq", f"{upstream.base_url}/chat/completions", {}, Timeouts())
    stream = await http.send(endpoint, b'{"model":"m","messages":[{"role":"user","content":"x"}],"stream":true}')
    assert repr(stream) == "<ByteStream groq 200 open>"
    size = 0

    def take(data):
        nonlocal size
        size += len(data)
        return True

    with pytest.raises(UpstreamBroken, match="more than 256 MiB in one stream"):
        while data := await stream.read():
            take(data)
            if piped:
                await stream.pipe(take)
    assert abs(MAX_STREAM_BYTES - size) < 1_000_000
    stream.close()
    await closed_by_us(upstream)


@pytest.mark.parametrize("ciphered", [False, True])
async def test_little_waits_here_for_who_does_not_read(raw_server, self_signed, monkeypatch, ciphered):
    """Whatever the loop would read at once: the rest stays with the provider, who is made to wait, and all comes in the end."""
    size, options, most = 4 * 2**20, {}, READ_AHEAD_BYTES + (ROOM_SIZE if ciphered else READ_SIZE)

    async def handle(server, reader, writer):
        await server.read_request(reader)
        said = b"%d" % server.connections * size
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (size, said))
        await reader.read()

    if ciphered:
        monkeypatch.setenv("SSL_CERT_FILE", str(self_signed))
        options["ssl"] = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        options["ssl"].load_cert_chain(self_signed)
    async with HttpClient(via="sentinel-n", version="1") as http, raw_server(handle, **options) as server:
        endpoint = Endpoint("groq", f"{server.base_url}/chat/completions", {}, Timeouts())
        streams, came = [await http.send(endpoint, b"{}") for _ in range(2)], [b"", b""]
        while not all(len(whole) == size for whole in came):
            for number, stream in enumerate(streams):
                data = await stream.read()
                assert len(data) <= most
                came[number] += data
        assert came == [b"1" * size, b"2" * size], "what comes at the same time is not mixed up"
        for stream in streams:
            stream.close()


ODD = {
    "not HTTP": b"220 mail ready\r\n",
    "a bad status": b"HTTP/1.1 20x OK\r\n\r\n",
    "an endless header": b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000,
    "endless headers": b"HTTP/1.1 200 OK\r\n" + b"".join(b"x-%d: y\r\n" % number for number in range(100_000)) + b"\r\n",
    "a bad chunk": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    "too short a body": b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{",
    "no body": b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
    "an odd success": b"HTTP/1.1 204 No Content\r\n\r\n",
    "not UTF-8": b'HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n"\xff"',
    "nothing": b"",
}


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("said", ODD.values(), ids=ODD)
async def test_what_is_not_a_sound_answer_is_broken(provider, raw_server, call, said, streamed):
    async def handle(server, reader, writer):
        await server.read_request(reader)
        writer.write(said)
        await writer.drain()

    async with raw_server(handle) as server:
        groq = provider(server.base_url)
        with pytest.raises(UpstreamBroken):
            await (read_all(groq, call()) if streamed else groq.complete(call()))
    assert len(server.heads) == 1


async def test_a_refusal_before_the_body_was_read_is_heard(provider, raw_server, call, answered):
    async def handle(server, reader, writer):
        server.heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answered("413 Payload Too Large", "connection: close\r\n", b'{"error":{"message":"too large for us"}}'))
        await writer.drain()
        await reader.read()

    async with raw_server(handle) as server:
        with pytest.raises(UpstreamRefused, match="too large for us"):
            await provider(server.base_url).complete(call(messages=[{"role": "user", "content": "x" * 4_000_000}]))


@pytest.mark.parametrize(
    "base_url",
    [
        "http://169.254.169.254/v1",
        "http://[::ffff:169.254.169.254]/v1",
        "http://[fe80::1%25lo]/v1",
        "http://[fd00:ec2::254]/v1",
        "http://100.100.100.200/v1",
        "http://127.0.0.1:1/v1",
        "http://a..b/v1",
        "ftp://localhost/v1",
        "/v1",
    ],
)
async def test_what_cannot_or_must_not_be_reached(provider, call, base_url):
    with pytest.raises(UpstreamUnreachable, match="can't be reached") as caught:
        await provider(base_url, timeouts=QUICK).complete(call())
    assert (caught.value.kind, caught.value.code) == ("io_error", "upstream_error")


async def test_a_certificate_that_nobody_vouches_for(provider, raw_server, call, self_signed):
    async def handle(server, reader, writer):
        await server.read_request(reader)

    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(self_signed)
    async with raw_server(handle, ssl=tls) as server:
        with pytest.raises(UpstreamUnreachable, match="certificate") as caught:
            await provider(server.base_url).complete(call())
    assert (caught.value.kind, caught.value.code) == ("tls_error", "upstream_error")
    assert server.heads == []


async def test_a_server_that_speaks_no_tls(provider, raw_server, call):
    async def handle(server, reader, writer):
        assert (await reader.read(1)) == b"\x16", "a TLS handshake"
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with raw_server(handle) as server:
        with pytest.raises(UpstreamUnreachable, match="TLS handshake failed") as caught:
            await provider(server.base_url.replace("http:", "https:")).complete(call())
    assert caught.value.kind == "tls_error"


def test_tls_is_verified_and_no_older_than_1_2():
    tls = verifying_tls()
    assert tls.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert tls.verify_mode is ssl.CERT_REQUIRED
    assert tls.check_hostname


async def test_trusted_tls_works_and_leaving_a_stream_closes_it(raw_server, call, self_signed, monkeypatch):
    # The system's list of authorities is an environment variable away, as operators set it too.
    monkeypatch.setenv("SSL_CERT_FILE", str(self_signed))
    closed = asyncio.Event()

    async def handle(server, reader, writer):
        await server.read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-type: text/event-stream\r\n\r\n")
        event = b'data: {"choices":[]}\n\n'
        try:
            while not reader.at_eof():
                writer.write(b"%x\r\n%b\r\n" % (len(event), event))
                await writer.drain()
                await asyncio.sleep(0.01)
        finally:
            closed.set()

    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(self_signed)
    async with HttpClient(via="sentinel-n", version="1") as http, raw_server(handle, ssl=tls) as server:
        async with await OpenAIProvider(ProviderConfig("p", server.base_url), http).open_stream(call()) as stream:
            assert await anext(stream)
        async with asyncio.timeout(15):
            await closed.wait()


# connections


async def test_connections_are_used_again(provider, upstream, call):
    groq = provider(upstream.base_url)
    for _ in range(3):
        await groq.complete(call())
        assert (await read_all(groq, call()))[1]
        with pytest.raises(UpstreamError):
            upstream.script("err=429")
            await groq.open_stream(call())
    assert upstream.count == 9
    assert upstream.open_connections == 1


async def test_a_stream_that_is_closed_again_takes_no_limit_from_the_next_on_its_connection(http, upstream):
    url, body = f"{upstream.base_url}/chat/completions", b'{"model":"m","messages":[{"role":"user","content":"x"}],"stream":true}'
    first = await http.send(Endpoint("groq", url, {}, Timeouts()), body)
    while await first.read():
        pass
    first.close()
    upstream.script("latency_ms=60000")
    second = asyncio.create_task(http.send(Endpoint("groq", url, {}, Timeouts(first_byte=0.5)), body))
    await until(lambda: upstream.count == 2)
    first.close()
    with pytest.raises(UpstreamTimeout, match="first_byte"):
        await asyncio.wait_for(second, DEADLINE)


async def test_what_comes_beyond_an_answer_is_nobody_elses(provider, raw_server, call, answered):
    """A provider that says too much, a moment later: the next caller gets another connection."""

    async def handle(server, reader, writer):
        while True:
            await server.read_request(reader)
            number = len(server.heads)
            body = b'{"choices":[{"message":{"role":"assistant","content":"%d"},"finish_reason":"stop"}]}' % number
            writer.write(answered(body=body))
            await writer.drain()
            writer.write(answered(body=body.replace(b'"%d"' % number, b'"stale"')))

    async with raw_server(handle) as server:
        groq = provider(server.base_url)
        said = [(await groq.complete(call())).answer.fields["choices"][0]["message"]["content"] for _ in range(100)]
    assert "stale" not in said
    assert server.connections > 1


async def test_connections_that_are_idle_for_long_are_closed(upstream, call):
    async with HttpClient(via="sentinel-n3", version="1", keep_alive=0.4) as http:
        mock = OpenAIProvider(ProviderConfig("mock", upstream.base_url), http)
        await mock.complete(call())
        assert upstream.open_connections == 1
        async with asyncio.timeout(20):
            while upstream.open_connections:  # noqa: ASYNC110 - the mock counts; it doesn't tell
                await asyncio.sleep(0.01)
        await mock.complete(call())
        assert upstream.count == 2


async def test_a_body_that_ends_a_moment_after_done_still_frees_its_connection(provider, raw_server, call):
    async def handle(server, reader, writer):
        while True:
            await server.read_request(reader)
            writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            writer.write(b"e\r\ndata: [DONE]\n\n\r\n")
            await writer.drain()
            await asyncio.sleep(0.01)
            writer.write(b"0\r\n\r\n")

    async with raw_server(handle) as server:
        groq = provider(server.base_url)
        for _ in range(3):
            assert await read_all(groq, call()) == ([], True)
        assert (len(server.heads), server.connections) == (3, 1)


async def test_a_body_that_never_ends_after_done_is_not_waited_for(provider, raw_server, call):
    closed = asyncio.Event()

    async def handle(server, reader, writer):
        await server.read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\ne\r\ndata: [DONE]\n\n\r\n")
        assert await reader.read() == b""
        closed.set()

    async with raw_server(handle) as server:
        started = time.monotonic()
        assert await read_all(provider(server.base_url), call()) == ([], True)
        async with asyncio.timeout(15):
            await closed.wait()
    assert time.monotonic() - started < 15, "it would be idle for 30 s"


async def test_a_half_read_connection_is_never_used_again(provider, upstream, call):
    groq = provider(upstream.base_url)
    upstream.script("stall_after=1")
    async with await groq.open_stream(call()) as stream:
        await anext(stream)
    await closed_by_us(upstream)
    assert (await groq.complete(call())).answer.finish_reasons == ("stop",)


def dies_on_second_request(answered, *, after=0.0):
    async def handle(server, reader, writer):
        await server.read_request(reader)
        writer.write(answered())
        await server.read_request(reader)
        await asyncio.sleep(after)

    return handle


async def test_a_pooled_connection_that_was_just_closed_is_replaced_once(provider, raw_server, call, answered):
    async with raw_server(dies_on_second_request(answered)) as server:
        groq = provider(server.base_url)
        await groq.complete(call())
        assert (await groq.complete(call())).answer.finish_reasons == ("stop",)
        assert (len(server.heads), server.connections) == (3, 2)


async def test_a_pooled_connection_that_dies_at_work_is_not_replaced(provider, raw_server, call, answered):
    async with raw_server(dies_on_second_request(answered, after=1.1)) as server:
        groq = provider(server.base_url)
        await groq.complete(call())
        with pytest.raises(UpstreamBroken, match="before it answered"):
            await groq.complete(call())
        assert len(server.heads) == 2


async def test_a_new_connection_that_dies_is_not_replaced(provider, raw_server, call):
    async def handle(server, reader, writer):
        await server.read_request(reader)

    async with raw_server(handle) as server:
        with pytest.raises(UpstreamBroken, match="before it answered"):
            await provider(server.base_url).complete(call())
        assert len(server.heads) == 1


async def test_closing_the_client_closes_every_connection(upstream, call):
    http = HttpClient(via="sentinel-n2", version="1")
    mock = OpenAIProvider(ProviderConfig("mock", upstream.base_url), http)
    assert repr(http) == "<HttpClient '1.1 sentinel-n2' closed>"
    async with http:
        assert "open" in repr(http)
        await mock.complete(call())
        assert upstream.open_connections == 1
    await until(lambda: not upstream.open_connections)
    with pytest.raises(UpstreamUnreachable, match="stopping"):
        await mock.complete(call())


async def test_a_storm_of_cancelled_calls_leaves_nothing_behind(provider, upstream, call):
    tasks_before = len(asyncio.all_tasks())
    slow, fast = provider(upstream.url_with("latency_ms=60000")), provider(upstream.url_with("chunk_ms=100;tokens=1000"))
    waiting = [asyncio.create_task(slow.complete(call()) if n % 2 else read_all(fast, call())) for n in range(150)]
    async with asyncio.timeout(50):
        while upstream.count < len(waiting):  # noqa: ASYNC110  # the mock counts; it doesn't tell
            await asyncio.sleep(0.01)
    connecting = [asyncio.create_task(slow.complete(call())) for _ in range(50)]
    for index, task in enumerate([*waiting, *connecting]):
        task.cancel()
        if index % 10 == 0:
            await asyncio.sleep(0)
    results = await asyncio.gather(*waiting, *connecting, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results)
    await upstream.settle()
    assert sum(seen.closed_by_peer_at is not None for seen in upstream.calls) == upstream.count >= len(waiting)
    assert len(asyncio.all_tasks()) == tasks_before
    mock = provider(upstream.base_url)
    assert len(await asyncio.gather(*(mock.complete(call()) for _ in range(50)))) == 50


@contextlib.contextmanager
def deaf_server():
    """An address that no connection is made to, and none is refused."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        address = full.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(address)
        yield f"http://127.0.0.1:{address[1]}/v1"
        for one in waiting:
            one.close()


async def given_up(work, reached=lambda: True):
    """What it ends with if nobody waits for it any more, a moment later or once its request has come."""
    asking = asyncio.create_task(work)
    await asyncio.sleep(0.1)
    await until(reached)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await asking
    return caught.type


async def test_who_gives_up_is_told_whether_it_was_sent(provider, upstream, call):
    with deaf_server() as address:
        assert await given_up(provider(address).complete(call())) is Unsent
        assert await given_up(read_all(provider(address), call())) is Unsent
    slow = provider(upstream.url_with("latency_ms=5000"))
    assert await given_up(slow.complete(call()), lambda: upstream.count) is asyncio.CancelledError


# time


async def timed_out(work, limit):
    started = time.monotonic()
    with pytest.raises(UpstreamTimeout, match=rf"timeouts\.{limit}"):
        await work
    assert time.monotonic() - started < 4, "the next limit is 5 s"


async def test_no_connection_in_time(provider, call):
    with deaf_server() as address:
        await timed_out(provider(address, timeouts=Timeouts(connect=0.2)).complete(call()), "connect")


@pytest.mark.parametrize("fault", ["latency_ms=5000", "stall_after=-1", "stall_after=0", "stall_after=1"])
async def test_no_whole_answer_in_time(provider, upstream, call, fault):
    upstream.script(fault)
    await timed_out(provider(upstream.base_url, timeouts=QUICK).complete(call()), "first_byte")
    await closed_by_us(upstream)


@pytest.mark.parametrize("fault", ["latency_ms=5000", "stall_after=-1", "stall_after=0", "first_token_ms=5000"])
async def test_no_first_byte_of_a_stream_in_time(provider, upstream, call, fault):
    upstream.script(fault)
    await timed_out(read_all(provider(upstream.base_url, timeouts=QUICK), call()), "first_byte")
    await closed_by_us(upstream)


@pytest.mark.parametrize("piped", [False, True])
@pytest.mark.parametrize("first_byte", [0.1, 0.2, 4.0])
async def test_a_stream_that_falls_silent(provider, upstream, call, first_byte, piped):
    upstream.script("stall_after=3")
    heard = []

    async def read():
        async with await provider(upstream.base_url, timeouts=Timeouts(1, first_byte, 0.2, 5)).open_stream(call()) as stream:
            if piped:
                await stream.pipe(lambda batch: heard.extend(batch) or True)
            async for batch in stream:
                heard.extend(batch)

    await timed_out(read(), "idle")
    assert len(heard) == 4
    await closed_by_us(upstream)


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_call_that_takes_too_long_in_all(provider, upstream, call, streamed):
    upstream.script("chunk_ms=20;tokens=1000" if streamed else "latency_ms=5000")
    groq = provider(upstream.base_url, timeouts=Timeouts(1, 1, 0.2, 0.4))
    await timed_out(read_all(groq, call()) if streamed else groq.complete(call()), "total")
    await closed_by_us(upstream)


async def test_chunks_that_keep_coming_never_time_out(provider, upstream, call):
    upstream.script("chunk_ms=20;chunks=20")
    chunks, finished = await read_all(provider(upstream.base_url, timeouts=QUICK), call())
    assert finished
    assert len(chunks) >= 20


async def test_chunks_that_keep_being_piped_never_time_out(provider, upstream, call):
    upstream.script("chunk_ms=20;chunks=20")
    piped = []
    async with await provider(upstream.base_url, timeouts=QUICK).open_stream(call()) as stream:
        with pytest.raises(StopAsyncIteration):
            await stream.pipe(lambda batch: piped.extend(batch) or True)
        assert stream.finished
    assert len(piped) >= 20


async def test_a_pipe_that_takes_too_long_in_all(provider, upstream, call):
    upstream.script("chunk_ms=20;tokens=1000")
    groq = provider(upstream.base_url, timeouts=Timeouts(1, 1, 0.2, 0.4))

    async def read():
        async with await groq.open_stream(call()) as stream:
            await stream.pipe(lambda _: True)

    await timed_out(read(), "total")
    await closed_by_us(upstream)


async def test_a_slow_reader_is_not_the_providers_fault(provider, upstream, call):
    upstream.script("chunk_ms=1;chunks=4")
    async with await provider(upstream.base_url, timeouts=QUICK).open_stream(call()) as stream:
        async for _ in stream:
            await asyncio.sleep(0.3)
    assert stream.finished


async def test_listing_models_waits_for_five_seconds_at_most(provider, upstream):
    assert list_timeouts(Timeouts()).first_byte == 5
    groq = provider(upstream.url_with("stall_after=-1"), timeouts=QUICK)
    await timed_out(groq.list_models(), "first_byte")


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("announced", [True, False])
async def test_an_error_is_read_no_farther_than_its_reason(provider, raw_server, call, streamed, announced):
    """However long it is, it stays the error that its status says, and so goes to another target."""
    closed, sent = asyncio.Event(), 0

    async def handle(server, reader, writer):
        nonlocal sent
        await server.read_request(reader)
        length = f"content-length: {MAX_REPLY_BYTES + 1}" if announced else "connection: close"
        writer.write(f"HTTP/1.1 500 Internal Server Error\r\n{length}\r\n\r\n".encode())
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(b"x" * 65_536)
                await writer.drain()
                sent += 65_536
        closed.set()

    async with raw_server(handle) as server:
        groq = provider(server.base_url)
        with pytest.raises(UpstreamBroken, match=r"failed \(500\)") as failed:
            await (groq.open_stream(call()) if streamed else groq.complete(call()))
        assert failed.value.next_target
        async with asyncio.timeout(15):
            await closed.wait()
    assert sent < MAX_REPLY_BYTES


@pytest.mark.parametrize(
    ("streamed", "limit", "script"),
    [
        (False, "first_byte", "latency_ms=5000"),
        (True, "first_byte", "latency_ms=5000"),
        (True, "first_byte", "first_token_ms=5000"),
        (True, "idle", "stall_after=1"),
        (False, "total", "latency_ms=5000"),
        (True, "total", "chunk_ms=40;chunks=500;tokens=500"),
    ],
)
async def test_a_call_may_have_shorter_limits_of_its_own(provider, upstream, call, streamed, limit, script):
    upstream.script(script)
    hurried, groq = msgspec.structs.replace(call(), deadlines=Deadlines(**{limit: 0.2})), provider(upstream.base_url)
    with pytest.raises(UpstreamTimeout, match=rf"0\.2 s \(timeouts\.{limit}\)"):
        await (read_all(groq, hurried) if streamed else groq.complete(hurried))
    await closed_by_us(upstream)
    assert 0.1 <= upstream.calls[-1].closed_by_peer_at - upstream.calls[-1].started < 4


def test_a_call_s_limits_never_lengthen_the_provider_s():
    own = Timeouts(connect=1, first_byte=2, idle=3, total=4)
    assert own.within(Deadlines(first_byte=9, idle=9, total=9)) == own == own.within(Deadlines())
    assert own.within(Deadlines(first_byte=1, idle=1, total=1)) == Timeouts(connect=1, first_byte=1, idle=1, total=1)
