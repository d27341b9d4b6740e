"""The gateway with the real DSPy, as a program in an environment of its own, before an upstream that says what a test wants.

DSPy requires an OpenAI package that is older than the one the suite speaks to gateways with: they can't be in one environment.
"""

import json
import re
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.process.conftest import Answer, Program

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-dspy" / "bin" / "python"
ADMIN_KEY = "sk-sn-admin-of-the-programs"
PATIENCE = 30.0
"""Seconds after which a test fails instead of waiting on."""
PREDICT = "/v1/predict"
QUESTION = "What is the capital of France?"
WANTED = re.compile(r"`\[\[ ## (\w+) ## \]\]`")

SHOP = '''
"""Programs of an operator's."""

import sys
import threading

import dspy


class Price(dspy.Signature):
    """Say what the thing costs."""

    thing: str = dspy.InputField()
    amount: int = dspy.InputField()
    total: float = dspy.OutputField()
    currency: str = dspy.OutputField()


priced = dspy.Predict(Price)


class Upper(dspy.Module):
    def __init__(self):
        super().__init__()
        self.ask = dspy.Predict("question -> answer")

    def forward(self, question: str, times: int = 1):
        return dspy.Prediction(answer=(self.ask(question=question).answer.upper() + " ") * times)


class Fails(dspy.Module):
    def forward(self, question: str):
        raise LookupError(question)


class Leaves(dspy.Module):
    def forward(self, question: str):
        sys.exit(3)


class Stubborn(dspy.Module):
    """Asks until it is answered, whatever happens."""

    def __init__(self):
        super().__init__()
        self.ask = dspy.Predict("question -> answer")

    def forward(self, question: str):
        while True:
            try:
                return self.ask(question=question)
            except Exception:
                pass


class Three(dspy.Module):
    """Asks three things at once."""

    def __init__(self):
        super().__init__()
        self.ask = dspy.Predict("question -> answer")

    def forward(self, question: str):
        asked = [(self.ask, {"question": f"{question} {number}"}) for number in range(3)]
        answers = dspy.Parallel(num_threads=3, disable_progress_bar=True)(asked)
        return dspy.Prediction(answer=" ".join(sorted(answer.answer for answer in answers)))


class Loaded(dspy.Module):
    def forward(self, name: str):
        return dspy.Prediction(loaded=name in sys.modules)


class Threads(dspy.Module):
    """How many threads programs have, beside its own."""

    def forward(self, question: str):
        names = [thread.name for thread in threading.enumerate()]
        return dspy.Prediction(count=sum(name.startswith(("sentinel-program-", "ThreadPoolExecutor")) for name in names) - 1)


def best():
    ask = dspy.Predict("question -> answer")
    return dspy.BestOfN(module=ask, N=3, reward_fn=lambda args, pred: len(pred.answer), threshold=99)


def own_model():
    module = dspy.Predict("question -> answer")
    module.set_lm(dspy.LM("openai/elsewhere", api_base="http://127.0.0.1:9/v1", api_key="none"))
    return module
'''
STATE = {
    "traces": [],
    "train": [],
    "demos": [{"augmented": True, "question": "Are you there?", "answer": "AYE"}],
    "signature": {
        "instructions": "Answer as a pirate does.",
        "fields": [{"prefix": "Question:", "description": "${question}"}, {"prefix": "Answer:", "description": "${answer}"}],
    },
    "lm": {"model": "openai/gpt-4o", "model_type": "chat", "cache": True, "api_base": "http://127.0.0.1:9/v1"},
    "metadata": {"dependency_versions": {"python": "3.9", "dspy": "2.6", "cloudpickle": "3.1"}},
}
PROGRAMS = """
programs:
  score: {signature: "question, context -> score: float"}
  several: {signature: "text -> title, words: list[str]", kind: cot}
  pirate: {signature: "question -> answer", state: pirate.json}
  open: {signature: "question -> answer", semantic: true}
  price: {module: "shop:priced"}
  upper: {module: "shop:Upper"}
  three: {module: "shop:Three"}
  best: {module: "shop:best"}
  own: {module: "shop:own_model"}
  fails: {module: "shop:Fails"}
  leaves: {module: "shop:Leaves"}
  stubborn: {module: "shop:Stubborn"}
  loaded: {module: "shop:Loaded", signature: "name -> loaded: bool"}
  threads: {module: "shop:Threads"}
  absent: {module: "no_such_shop:program"}
  wrong: {signature: "question"}
"""


def fields(**values: Any) -> str:
    """What a model says to DSPy."""
    return "\n\n".join([*(f"[[ ## {name} ## ]]\n{value}" for name, value in values.items()), "[[ ## completed ## ]]"])


def echo(body: dict[str, Any]) -> str:
    """A model that answers every field with the same word."""
    names = [name for name in WANTED.findall(body["messages"][-1]["content"]) if name != "completed"]
    return fields(**dict.fromkeys(names, "Paris"))


def agent(*steps: tuple[str, dict[str, Any]]) -> Callable[[dict[str, Any]], str]:
    """A model that uses these tools, one by one, and then answers with the last observation."""

    def say(body: dict[str, Any]) -> str:
        asked = body["messages"][-1]["content"]
        if "`[[ ## answer ## ]]`" in asked:
            return fields(reasoning="I have looked.", answer=asked.rpartition("observation_")[0].rpartition("## ]]\n")[2].strip())
        done = asked.count("[[ ## thought_")
        tool, arguments = [*steps, ("finish", {})][done]
        return fields(next_thought="Let me see.", next_tool_name=tool, next_tool_args=json.dumps(arguments))

    return say


class Call:
    """One call of the upstream."""

    def __init__(self, body: dict[str, Any]) -> None:
        self.body = body
        self.at = time.monotonic()
        self.left_at: float | None = None
        """When the gateway hung up, if it did before it was answered."""

    @property
    def asked(self) -> str:
        return self.body["messages"][-1]["content"]

    @property
    def system(self) -> str:
        first = self.body["messages"][0]
        return first["content"] if first["role"] == "system" else ""


class Upstream:
    """A provider. `say` makes its answers, or a status; each takes `delay` seconds; `most` is how many it had at once.

    It answers nobody before a `crowd` of so many has asked.
    """

    def __init__(self) -> None:
        self.reset()
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                upstream._answer(self, body)

            def do_GET(self) -> None:
                upstream._send(self, 404, {"error": {"message": "none"}})

            def log_message(self, *args: object) -> None:
                """Quiet."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 256

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.base_url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def reset(self) -> None:
        self.say: Callable[[dict[str, Any]], str | int] = echo
        self.delay = 0.0
        self.crowd = 0
        self._all_here = threading.Event()
        self.finish = "stop"
        self.calls: list[Call] = []
        self.most = self._running = 0
        self._lock = threading.Lock()

    def _answer(self, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        call = Call(body)
        with self._lock:
            self.calls.append(call)
            self._running += 1
            self.most = max(self.most, self._running)
            if self.most >= self.crowd:
                self._all_here.set()
        try:
            self._all_here.wait(PATIENCE)
            if self._left(handler.connection, self.delay):
                call.left_at = time.monotonic()
                handler.close_connection = True
                return
            said = self.say(body)
        finally:
            with self._lock:
                self._running -= 1
        if isinstance(said, int):
            self._send(handler, said, {"error": {"message": "as told", "code": "told"}})
            return
        choice = {"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": self.finish}
        whole = {"id": "c", "object": "chat.completion", "created": 1, "model": body["model"], "choices": [choice]}
        self._send(handler, 200, whole | {"usage": {"prompt_tokens": 7, "completion_tokens": 8, "total_tokens": 15}})

    @staticmethod
    def _left(connection: socket.socket, seconds: float) -> bool:
        ready, _, _ = select.select([connection], [], [], seconds)
        return bool(ready) and connection.recv(1, socket.MSG_PEEK) == b""

    @staticmethod
    def _send(handler: BaseHTTPRequestHandler, status: int, document: dict[str, Any]) -> None:
        raw = json.dumps(document).encode()
        handler.send_response(status)
        handler.send_header("content-type", "application/json")
        handler.send_header("content-length", str(len(raw)))
        handler.end_headers()
        handler.wfile.write(raw)

    @property
    def count(self) -> int:
        return len(self.calls)

    def until(self, count: int) -> None:
        end = time.monotonic() + PATIENCE
        while self.count < count:
            assert time.monotonic() < end, f"only {self.count} calls came"
            time.sleep(0.01)

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Gateway(Program):
    """`sentinel serve` with DSPy, before the upstream as the provider `openai`."""

    def __init__(self, home: Path, upstream: Upstream, config: str = "", **environ: str) -> None:
        self.home = home
        home.mkdir(exist_ok=True)
        (home / "shop.py").write_text(SHOP)
        (home / "pirate.json").write_text(json.dumps(STATE))
        file = home / "sentinel.yaml"
        file.touch(mode=0o600)
        file.write_text(config)
        variables = {
            "PYTHONPATH": str(ROOT / "src"),
            "OPENAI_API_KEY": "sk-of-the-upstream",
            "OPENAI_BASE_URL": upstream.base_url,
            "SENTINEL_ADMIN_KEY": ADMIN_KEY,
            "SENTINEL_ROUTING__RETRY_BUDGET": "0",
            "SENTINEL_ROUTING__COOL_DOWN": "0",
            "CIRCUIT_BREAKER_FAILURE_THRESHOLD": "1000000",
        }
        super().__init__(home, variables | environ, PYTHON)

    def predict(self, given: Any = QUESTION, headers: dict[str, str] | None = None, /, **members: Any) -> Answer:
        body = {"model": "gpt-3.5-turbo", "input": given} | members
        return self.request("POST", PREDICT, body, **(headers or {}))

    def admin(self, method: str, path: str, body: Any = None) -> Answer:
        return self.request(method, path, body, authorization=f"Bearer {ADMIN_KEY}")

    def metric(self, sample: str) -> float:
        lines = self.request("GET", "/metrics").body.decode().splitlines()
        values = [line.rpartition(" ")[2] for line in lines if line.rpartition(" ")[0] == sample]
        return float(values[0]) if values else 0.0

    def costs(self) -> dict[str, Any]:
        return self.request("GET", "/costs").json

    def has_loaded(self, library: str) -> bool:
        """Is it in the memory of the process?"""
        return library in Path(f"/proc/{self.process.pid}/maps").read_text()

    def threads(self) -> int:
        """Those that programs have."""
        return int(self.predict(variant="threads", use_cache=False).json["output"])

    def noted(self, event: str, program: str) -> dict[str, Any]:
        """What the log says of that, as soon as it is written."""
        end = time.monotonic() + PATIENCE
        while True:
            lines = [json.loads(line) for line in self.lines.read_text().splitlines() if event in line]
            if found := [line for line in lines if line.get("program") == program]:
                return found[-1]
            assert time.monotonic() < end, f"no {event} of {program}: {lines}"
            time.sleep(0.05)


@pytest.fixture(scope="session")
def dspy(absent) -> None:
    """The environment that `make test` makes of requirements/dspy.lock."""
    if not PYTHON.exists():
        absent("DSPy: make test installs it")


@pytest.fixture(scope="module")
def provider(dspy) -> Iterator[Upstream]:
    upstream = Upstream()
    yield upstream
    upstream.stop()


@pytest.fixture
def upstream(provider) -> Upstream:
    """Without a memory."""
    provider.reset()
    return provider


@pytest.fixture(scope="module")
def shared(provider, tmp_path_factory) -> Iterator[Gateway]:
    gateway = Gateway(tmp_path_factory.mktemp("gateway"), provider, PROGRAMS)
    yield gateway
    gateway.stop()


@pytest.fixture
def gateway(shared, upstream) -> Gateway:
    """One for all tests, with nothing in its cache."""
    assert shared.admin("POST", "/admin/cache/clear").status == 200
    return shared


@pytest.fixture
def start(upstream, tmp_path) -> Iterator[Callable[..., Gateway]]:
    """start("yaml", NAME="value") starts a gateway of one's own, in the same folder each time."""
    started: list[Gateway] = []

    def begin(config: str = "", **environ: str) -> Gateway:
        started.append(Gateway(tmp_path / "home", upstream, config, **environ))
        return started[-1]

    yield begin
    for one in started:
        one.stop()
