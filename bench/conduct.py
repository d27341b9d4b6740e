"""What a caller gets when a provider misbehaves, and whom the gateway asked: `python -m bench.conduct`.

Each scenario is a provider that fails in one way, always. It is asked for whole answers, for streams, and for streams that are
withheld to their end: once with a second target beside it that is well, once alone. All of them at once, in one gateway as it
comes, but for shorter deadlines.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, get_args

import aiohttp
import msgspec
import uvloop

from bench.chaos import ChaosUpstream
from bench.processes import Process, free_port, share_out
from bench.run import describe_machine

FIRST_BYTE: Final = 0.8
IDLE: Final = 0.8
LATEST: Final = 12.0
"""Seconds: three attempts, each with its deadline, the pauses between them, and what a busy machine adds."""
ATTEMPTS: Final = 3
ASKED_FOR: Final = {"whole": "a whole answer", "stream": "a stream", "withheld": "a stream, withheld"}
QUESTION: Final = "What do you do when it fails?"
SETTLE_SECONDS: Final = 0.5

Form = Literal["whole", "stream", "withheld"]
"""What is asked for: a whole answer, a stream, or one with `x-recovery: buffered`."""
Want = Literal["second", "own", "refused", "cut"]
"""The second target's answer; the failing one's own, as it is; its refusal, as it is; a stream that says that it broke off."""


class Case(msgspec.Struct, frozen=True):
    """What is wanted beside a second target, and the status and the code of the error where there is none."""

    beside: Want
    status: int
    code: str


class Scenario(msgspec.Struct, frozen=True):
    """`fault` as `bench.chaos` has it, or else the `url` of nobody."""

    name: str
    whole: Case
    stream: Case
    fault: str = ""
    url: str = ""

    def case(self, form: Form) -> Case:
        """What is wanted. What would be told of a stream that breaks off is mended where it is withheld."""
        if form == "whole":
            return self.whole
        return MENDED.get(self.stream, self.stream) if form == "withheld" else self.stream

    def provider(self, form: Form) -> str:
        """A name that a configuration takes. Each form has a provider of its own: no circuit has seen what the others asked."""
        return "".join(char if char.isalnum() else "-" for char in f"{self.name} {form}".lower())


BROKEN: Final = Case("second", 502, "upstream_error")
LATE: Final = Case("second", 504, "upstream_timeout")
LIMITED: Final = Case("second", 429, "rate_limit_exceeded")
CUT: Final = Case("cut", 200, "upstream_error")
SILENT: Final = Case("cut", 200, "upstream_timeout")
OWN: Final = Case("own", 200, "")
MENDED: Final = {CUT: BROKEN, SILENT: LATE}

SCENARIOS: Final = (
    Scenario("429 with Retry-After", LIMITED, LIMITED, "err=429;retry_after=1"),
    Scenario("429 without Retry-After", LIMITED, LIMITED, "err=429"),
    Scenario("500", BROKEN, BROKEN, "err=500"),
    Scenario("503", BROKEN, BROKEN, "err=503"),
    Scenario("timeout before headers", LATE, LATE, "latency_ms=60000"),
    Scenario("slow first token", LATE, LATE, "stall_after=0"),
    Scenario("stall", LATE, SILENT, "stall_after=2"),
    Scenario("cut mid-stream", BROKEN, CUT, "cut_after=2"),
    Scenario("malformed JSON", BROKEN, BROKEN, "bad_json"),
    Scenario("malformed SSE", OWN, CUT, "bad_sse"),
    Scenario("wrong content type", BROKEN, BROKEN, "html"),
    Scenario("empty answer", OWN, OWN, "empty"),
    Scenario("content filter", OWN, OWN, "finish=content_filter"),
    Scenario("context length", Case("refused", 400, ""), Case("refused", 400, ""), "err=400"),
    Scenario("bad key", Case("second", 502, "upstream_unauthorized"), Case("second", 502, "upstream_unauthorized"), "err=401"),
    Scenario("DNS failure", BROKEN, BROKEN, url="http://nowhere.invalid/v1"),
    Scenario("TCP failure", BROKEN, BROKEN, url="http://127.0.0.1:1/v1"),
    Scenario("connection reset", BROKEN, BROKEN, "rst_after=-1"),
)


class Got(msgspec.Struct, frozen=True):
    """One answer: `code` of its error, wherever it stood; `done` if a stream said that it was complete; who answered."""

    status: int
    code: str
    done: bool
    model: str
    seconds: float
    sentinel_id: str
    kept: bool


class Row(msgspec.Struct, frozen=True):
    """One answer beside what was wanted. `trace` are the attempts in their order."""

    scenario: str
    form: Form
    alone: bool
    problem: str
    got: Got
    trace: Sequence[str]


def judge(got: Got, case: Case, *, form: Form, alone: bool, attempts: int) -> str:
    """What is wrong with it; empty if nothing is."""
    whole = got.status == 200 and not got.code and got.done == (form != "whole")  # noqa: PLR2004 - OK
    if got.seconds > LATEST:
        return f"it took {got.seconds:.1f} s"
    if attempts > ATTEMPTS:
        return f"{attempts} attempts"
    right = {
        "second": (got.status, got.code) == (case.status, case.code) if alone else whole and got.model == "second" and got.kept,
        "own": whole and got.model == "first" and attempts == 1,
        "refused": got.status == case.status and got.code != "" and attempts == 1,
        "cut": (got.status, got.code, got.done) == (case.status, case.code, False) and attempts == 1,
    }[case.beside]
    if case.beside in {"cut", "refused"} and got.kept:
        return "a failure is in the cache"
    return "" if right else f"{got.status} {got.code} from {got.model or 'nobody'} after {attempts} attempts"


def configuration(upstream: ChaosUpstream) -> Mapping[str, Any]:
    """All scenarios in one gateway: a provider for each and its form, and `second`, which is well."""
    timeouts = {"connect": 2, "first_byte": FIRST_BYTE, "idle": IDLE, "total": 30}
    failing = {one.provider(form): one.url or upstream.url_with(one.fault) for one in SCENARIOS for form in get_args(Form)}
    urls = failing | {"second": upstream.base_url}
    providers = {
        name: {"dialect": "openai", "base_url": url, "models": ["second" if name == "second" else "first"], "timeouts": timeouts}
        for name, url in urls.items()
    }
    return {
        "providers": providers | {"demo": {"enabled": False}},
        "models": {f"{name}-beside": [f"{name}/first", "second/second"] for name in failing},
        "cache": {"semantic": {"enabled": False}},
    }


async def ask(session: aiohttp.ClientSession, model: str, *, form: Form) -> Got:
    """One answer, and whether it is in the cache afterwards."""
    stream = form != "whole"
    body = {"model": model, "stream": stream, "messages": [{"role": "user", "content": f"{QUESTION} {form}"}]}
    headers = {"x-recovery": "buffered"} if form == "withheld" else {}
    start = time.monotonic()
    async with session.post("/v1/chat/completions", json=body, headers=headers) as response:
        raw = await response.read()
    seconds = time.monotonic() - start
    async with session.post("/v1/chat/completions", json=body, headers={"cache-control": "only-if-cached"}) as again:
        kept = again.status == 200  # noqa: PLR2004 - OK
        await again.read()
    done = raw.endswith(b"data: [DONE]\n\n")
    events = [line.removeprefix(b"data: ") for line in raw.splitlines() if line.startswith(b"data: {")] if stream else []
    pieces = [json.loads(piece) for piece in events or [raw]]
    error = pieces[-1].get("error") or {}
    told = next((piece["model"] for piece in pieces if "model" in piece), "")
    return Got(
        response.status,
        error.get("code") or "",
        done,
        told,
        seconds,
        response.headers["x-sentinel-id"],
        kept,
    )


def traces(log: str) -> Mapping[str, list[str]]:
    """The attempts of each request, by our id, as the gateway's log tells them."""
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    found: defaultdict[str, list[str]] = defaultdict(list)
    for line in lines:
        if line["event"] == "target_failed":
            target, outcome = line["target"].partition("/")[2], line["outcome"]
            lost = f", {line['tokens']} tokens" if line["tokens"] else ""
            found[line["sentinel_id"]].append(f"{target}: {outcome} ({line['error']}, {line['seconds']:.2f} s{lost})")
    for line in lines:
        if line["event"] == "request" and line["attempts"] > len(found[line["sentinel_id"]]):
            target = line["target"].partition("/")[2]
            found[line["sentinel_id"]].append(f"{target}: {'refused' if line['error'] else 'answered'}")
    return found


@contextmanager
def gateway(upstream: ChaosUpstream, folder: Path, more: Mapping[str, str]) -> Iterator[tuple[Process, int]]:
    """One with all scenarios, and its port."""
    port, file = free_port(), folder / "sentinel.yaml"
    file.write_text(json.dumps(configuration(upstream)))
    file.chmod(0o600)
    environment = {
        "HOME": str(folder),
        "PORT": str(port),
        "SENTINEL_CONFIG": str(file),
        "SENTINEL_DATA_DIR": str(folder / "data"),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    command = [sys.executable, "-m", "sentinel_gateway", "serve"]
    core = share_out(sorted(os.sched_getaffinity(0))).gateway
    with Process("conduct", command, environment={**environment, **more}, directory=folder, core=core) as process:
        yield process, port


async def score(folder: Path, scenarios: Sequence[Scenario] = SCENARIOS, **more: str) -> list[Row]:
    """Every scenario in every form, beside another target and alone. `more`: variables of the gateway's environment."""
    async with ChaosUpstream() as upstream:
        with gateway(upstream, folder, more) as (process, port):
            await asyncio.to_thread(process.wait_until_ready, port)
            async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
                cases = [(one, form, alone) for one in scenarios for form in get_args(Form) for alone in (False, True)]
                answers = await asyncio.gather(
                    *(
                        ask(session, f"{one.provider(form)}/first" if alone else f"{one.provider(form)}-beside", form=form)
                        for one, form, alone in cases
                    )
                )
                await asyncio.sleep(SETTLE_SECONDS)  # the log is written behind the answers
    told = traces((folder / "conduct.log").read_text())
    rows = []
    for (one, form, alone), got in zip(cases, answers, strict=True):
        trace = told.get(got.sentinel_id, [])
        problem = judge(got, one.case(form), form=form, alone=alone, attempts=len(trace))
        rows.append(Row(one.name, form, alone, problem, got, trace))
    return rows


def report(rows: Sequence[Row]) -> str:
    """The scorecard, as Markdown."""
    passed = sum(not row.problem for row in rows)
    lines = [
        f"{passed} of {len(rows)} as they should be.",
        "",
        "| fault | asked for | beside | | s | attempts |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        what, where = ASKED_FOR[row.form], "nobody" if row.alone else "another"
        ending = row.problem or row.got.code or f"answer of {row.got.model}"
        mark = "FAILED: " if row.problem else ""
        trace = "; ".join(row.trace)
        lines.append(f"| {row.scenario} | {what} | {where} | {mark}{row.got.status} {ending} | {row.got.seconds:.2f} | {trace} |")
    return "\n".join(lines)


def main() -> None:
    """Print the scorecard; exit 1 if anything is not as it should be."""
    argparse.ArgumentParser(prog="python -m bench.conduct", description=__doc__).parse_args()
    with tempfile.TemporaryDirectory(prefix="sentinel-conduct-") as folder:
        rows = uvloop.run(score(Path(folder)))
    machine = describe_machine()
    print(f"`python -m bench.conduct`, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {machine.cpu}, {machine.cores} cores,", end=" ")
    print(f"{machine.kernel}, Python {machine.python}, load average {machine.load_average:.1f}.")
    print(report(rows))
    sys.exit(any(row.problem for row in rows))


if __name__ == "__main__":
    main()
