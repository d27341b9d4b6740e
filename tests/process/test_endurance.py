"""Memory stays flat, whatever is asked: hits and misses, whole and streamed, reworded, bypassed and refused."""

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from bench.load import Clients, Message, closed_loop
from bench.processes import Process
from tests.gateway import until

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
CLIENTS = Clients(8)
MOCK = "tokens=60;chunks=6"
BOUNDED = {
    "MEMORY_CACHE_SIZE": "2000",
    "SENTINEL_CACHE__SEMANTIC__ENTRIES": "2000",
    "SENTINEL_CACHE__DISK__BYTES": "64MiB",
    "LOG_LEVEL": "warn",
}
"""Small enough to be full before the first look."""
THINGS = 300
"""Questions that come seldom: so few that what is remembered of each (its vector, its words) is complete by the first look."""
SAME_BODY = 4
"""So often a body comes, byte for byte, in as many hundreds. Together they fill the memo of plans by the first look."""


class Run(NamedTuple):
    """So many requests. Memory is looked at after a fifth of them, then `looks` times; it may be off by a share of the first."""

    requests: int
    looks: int
    share: float


RUNS = [
    pytest.param(Run(6_000, 4, 0.15), id="some"),
    pytest.param(Run(1_000_000, 16, 0.03), id="a million", marks=pytest.mark.long),
]


def mixed(number: int) -> Message:
    """The request of this number: of each hundred the same mixture."""
    kind, turn = number % 100, number // 100
    spelling = turn // SAME_BODY
    fact = f"What is fact {kind + 60 * (spelling % 8)}?"
    if kind < 50:
        return _chat(fact, user=str(spelling))
    if kind < 60:
        return _chat(fact, user=str(spelling), stream=True)
    if kind < 75:
        return _chat("Which one?", system=f"Another world, {number}.")
    if kind < 85:
        return _chat("Which one?", system=f"Another world, {number}.", stream=True)
    if kind < 90:
        return _chat(f"What is fact {number}?", ("x-bypass-cache", "true"))
    if kind < 96:
        return Message(b'{"model": "openai/mock-model", "messages": [], "number": %d}' % number)
    if kind < 98:
        return _chat("How can I reset my password?", system="Compared.", seed=turn)
    return _chat(f"Tell me of the {turn % THINGS}th thing, please.", system="Compared.")


def _chat(text: str, *headers: tuple[str, str], system: str = "Be brief.", **more: Any) -> Message:
    messages = [{"role": "system", "content": system}, {"role": "user", "content": text}]
    return Message(json.dumps({"model": "openai/mock-model", "messages": messages, **more}).encode(), headers)


@pytest.mark.parametrize("run", RUNS)
async def test_memory_is_flat(serve, tmp_path, run: Run):
    command = (sys.executable, "-m", "bench.chaos", "--keep-calls", "0")
    with Process("mock", command, environment={"PYTHONPATH": str(ROOT)}, directory=tmp_path, core=0) as mock:
        upstream = mock.wait_for_line().split()[-1]
        folder = tmp_path / "data"
        environ = {"OPENAI_API_KEY": "sk-endurance", "OPENAI_BASE_URL": f"{upstream}/{MOCK}/v1", "SENTINEL_DATA_DIR": str(folder)}
        program = serve(**environ, **BOUNDED)
        url = f"{program.base_url}/v1/chat/completions"
        sent, seen, problems = 0, [], dict[str, int]()
        first = run.requests // 5
        for requests in (first, *[(run.requests - first) // run.looks] * run.looks):
            start = sent
            report = await closed_loop(url, lambda number, start=start: mixed(start + number), CLIENTS, requests=requests)
            sent += report.requests
            for problem, count in report.problems.items():
                problems[problem] = problems.get(problem, 0) + count
            await until((folder / "ledger.db").exists)  # what writes it is loaded late, once
            seen.append(program.resident())
        metrics = program.request("GET", "/metrics").body.decode()
        program.stop()
    print(f"{sent} requests; MB resident: {', '.join(f'{size / 1e6:.1f}' for size in seen)}; {problems}")
    assert sent >= 0.99 * run.requests
    assert set(problems) == {"400"}, problems
    for outcome in ("exact", "semantic", "miss", "bypass"):
        assert f'outcome="{outcome}"' in metrics or f'result="{outcome}"' in metrics, outcome
    assert max(abs(size - seen[0]) for size in seen) <= run.share * seen[0], seen
