"""`sentinel alerts`."""

import asyncio
import json
import threading
from collections.abc import Iterator

import pytest

from tests.alerts.sinks import SECRET, HttpSink, http_sink


@pytest.fixture
def sink() -> Iterator[HttpSink]:
    """On a loop of its own: the command has another."""
    loop, ready, held = asyncio.new_event_loop(), threading.Event(), {}

    async def serve() -> None:
        held["stop"] = asyncio.Event()
        async with http_sink() as sink:
            held["sink"] = sink
            ready.set()
            await held["stop"].wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert ready.wait(10)
    yield held["sink"]
    loop.call_soon_threadsafe(held["stop"].set)
    thread.join()
    loop.close()


@pytest.fixture
def written(tmp_path, sink):
    file = tmp_path / "sentinel.yaml"
    file.touch(mode=0o600)
    file.write_text(
        f"""
alerts:
  channels:
    hook: {{webhook: '{sink.url}/hook', secret: '{SECRET}'}}
    chat: {{apprise: 'json://127.0.0.1:{sink.port}/chat'}}
  rules:
    slow: {{metric: latency_p95_ms, above: 5000, channels: [hook]}}
"""
    )


def test_a_test_of_all_channels(sentinel, sink, written):
    sink.script.extend([204, 200])
    result = sentinel("alerts", "test")
    assert result == (0, "hook (webhook): delivered\nchat (json): delivered\n", "")
    hook, chat = sink.arrived
    hook.verify()
    assert hook.json["data"]["test"] is True
    assert "This is a test of the channel 'chat'" in chat.json["message"]


def test_a_test_that_fails_says_so(sentinel, sink, written):
    sink.script.append(500)
    result = sentinel("alerts", "test", "hook", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout) == {
        "channels": [{"channel": "hook", "kind": "webhook", "delivered": False, "detail": "it answered 500"}]
    }


def test_a_channel_that_there_is_not(sentinel, written):
    result = sentinel("alerts", "test", "hooks")
    assert result.exit_code == 2
    assert "there is no 'hooks': there are hook, chat" in result.stderr


def test_no_channel_at_all(sentinel):
    assert sentinel("alerts", "test") == (1, "", "No channel is configured: name one under alerts.channels.\n")


def test_the_rules_and_channels_are_listed_without_what_is_secret(sentinel, sink, written):
    result = sentinel("alerts", "list")
    assert result.exit_code == 0
    assert "Alerts are on.\nchannel hook: webhook\nchannel chat: json\n" in result.stdout
    assert "slow" in result.stdout
    assert "circuit-open" in result.stdout
    found = json.loads(sentinel("alerts", "list", "--json").stdout)
    assert found["channels"] == {"hook": "webhook", "chat": "json"}
    assert {"slow", "wrong-answers"} <= {rule["name"] for rule in found["rules"]}
    assert SECRET not in result.stdout + json.dumps(found)
    assert str(sink.port) not in result.stdout + json.dumps(found)


def test_nothing_is_on_unless_something_is_written(sentinel):
    assert "Alerts are off: name a channel or a rule" in sentinel("alerts", "list").stdout
    assert sentinel("alerts").exit_code == 2
