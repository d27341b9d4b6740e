"""The recordings of Gemini's API are what Google's own client reads, and what we write is what it writes.

The gateway has no face that speaks Gemini's dialect, so this client can't be pointed at it: here it stands for Google.
"""

import json
import re
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from sentinel_gateway.core.streaming import Fold
from sentinel_gateway.providers._chat_answer import Writer
from sentinel_gateway.providers._gemini_answer import GeminiReader, read_response
from sentinel_gateway.providers._gemini_body import build_body
from sentinel_gateway.providers._translated import JsonEvents
from tests.sdks.conftest import HERE, PATIENCE, interpreter

pytestmark = pytest.mark.sdks

RECORDED = HERE.parent / "providers" / "recorded"
WHOLE = RECORDED / "gemini-thinking-and-tools.json"
STREAM = RECORDED / "gemini-thinking-and-tools.sse"
BLOCKED = RECORDED / "gemini-blocked.json"
MODEL = "gemini-2.5-flash"
PNG = "iVBORw=="


class Google(ThreadingHTTPServer):
    """Answers with a recording, and keeps what it was asked."""

    answer = WHOLE

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, Any]] = []

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Google

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.asked.append((self.path, json.loads(body)))
        answer = self.server.answer.read_bytes()
        self.send_response(200)
        self.send_header("content-type", "text/event-stream" if self.server.answer.suffix == ".sse" else "application/json")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        """Nobody reads it."""


@pytest.fixture
def google() -> Iterator[Google]:
    with Google() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def do(what: str, google: Google, home: Path) -> Any:
    runner = interpreter("google-genai", ".py")
    request = {"program": str(HERE / "google-genai" / "wire.py"), "do": what, "with": [google.base_url]}
    environ = {"HOME": str(home), "PATH": "/usr/bin:/bin"}
    line = json.dumps(request) + "\n"
    ended = subprocess.run(
        [runner, HERE / "worker.py"], input=line, env=environ, capture_output=True, text=True, check=True, timeout=PATIENCE
    )
    answer = json.loads(ended.stdout)
    assert "raised" not in answer, answer["raised"]["trace"]
    return answer["returned"]


def as_told(answer: Any) -> dict[str, Any]:
    """What we read, in the words of the program."""
    (choice,), usage = answer["choices"], answer["usage"]
    message, thinking = choice["message"], usage["completion_tokens_details"]["reasoning_tokens"]
    calls = [call["function"] for call in message.get("tool_calls") or ()]
    return {
        "text": message["content"] or "",
        "thoughts": message.get("reasoning_content") or "",
        "calls": [[call["name"], json.loads(call["arguments"])] for call in calls],
        "prompt": usage["prompt_tokens"],
        "answer": usage["completion_tokens"] - thinking,
        "thinking": thinking,
        "cached": usage["prompt_tokens_details"]["cached_tokens"],
        "reason": "STOP" if choice["finish_reason"] in ("stop", "tool_calls") else choice["finish_reason"],
    }


def test_it_reads_a_whole_answer_as_we_do(google, tmp_path):
    read = read_response(json.loads(WHOLE.read_text()), Writer(created=7, model="m"))
    assert do("whole", google, tmp_path) == as_told(read)
    assert google.asked[0][0].endswith(f"/models/{MODEL}:generateContent")


def test_it_reads_a_stream_as_we_do(google, tmp_path):
    google.answer = STREAM
    reader, fold = GeminiReader(Writer(created=7, model="m"), expected=1), Fold(expected=1, max_bytes=1 << 20)
    for event in JsonEvents().feed(STREAM.read_bytes()):
        for chunk in reader.read(event):
            fold.add(chunk.fields, len(chunk.raw))
    for chunk in reader.close():
        fold.add(chunk.fields, len(chunk.raw))
    assert do("stream", google, tmp_path) == as_told(fold.answer().fields)
    assert google.asked[0][0].endswith(f"/models/{MODEL}:streamGenerateContent?alt=sse")


def test_it_reads_a_blocked_prompt(google, tmp_path):
    google.answer = BLOCKED
    assert do("blocked", google, tmp_path) == json.loads(BLOCKED.read_text())["promptFeedback"]["blockReason"]


def test_it_writes_what_we_write(google, tmp_path):
    river = {"type": "object", "properties": {"river": {"type": "string"}}, "required": ["river"]}
    town = {"type": "object", "properties": {"town": {"type": "string"}}}
    call = {
        "id": "t1",
        "type": "function",
        "function": {"name": "look_up", "arguments": '{"river":"Danube"}'},
        "extra_content": {"google": {"thought_signature": "c2ln"}},
    }
    picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
    fields = {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "Look:"}, picture]},
            {"role": "assistant", "content": "I look it up.", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "t1", "content": "2,850 km"},
        ],
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 4,
        "seed": 7,
        "max_completion_tokens": 4000,
        "stop": ["END"],
        "presence_penalty": 0.5,
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": town}},
        "tools": [{"type": "function", "function": {"name": "look_up", "description": "How long?", "parameters": river}}],
        "tool_choice": {"type": "function", "function": {"name": "look_up"}},
        "thinking": {"type": "enabled", "budget_tokens": 1024},
    }
    do("write", google, tmp_path)
    written = google.asked[0][1]
    written["systemInstruction"].pop("role", None)  # it says user, which Google reads no more than we write it
    assert json.loads(build_body(fields, MODEL)) == in_one_case(written)


def in_one_case(value: Any) -> Any:
    """Names as Google's reference has them; of some of them the client writes the other spelling, which Google reads as well."""
    if isinstance(value, list):
        return [in_one_case(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {re.sub(r"_(\w)", lambda found: found[1].upper(), name): in_one_case(member) for name, member in value.items()}
