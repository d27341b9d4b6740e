"""Who watches a gateway while more comes than it can serve: probes, `/metrics`, `/api/monitoring`. For `bench.overload`."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from bench.client import Exchange
from bench.flood import TOO_MUCH, enough, flood
from bench.load import MakeMessage, Message, Quantiles, Turn
from bench.overload_report import Bar
from bench.processes import get

PROBES: Final = ("/livez", "/ready", "/health", "/metrics")
MONITORING: Final = "/api/monitoring/"
OFTEN: Final = 10.0
"""Looks a second, in turn at all that there is to be looked at: more than all probes, scrapes and people of one gateway."""
TIMES: Final = (0.5, 3.0)
"""The knee."""
ANSWERED: Final = 1.0
"""Seconds for probes and scrapes: what Kubernetes gives a probe that does not say how long it waits. Prometheus waits for ten."""
READ: Final = 5.0
"""Seconds for what is read in the ledger for people: details of statistics give way before requests do."""
MUCH: Final = 0.1
"""Of the other requests are refused, at least, or it is no overload that is watched."""
TOLD: Final = 0.020
"""Seconds in which a refusal is told, as to anybody else."""


class Looks(msgspec.Struct, frozen=True):
    """At one rate of other requests. Times in seconds from the planned moment; `slowest` is the path with the highest one."""

    rate: float
    refused: float
    """Share of the other requests."""
    looks: int
    probes: Quantiles
    """Of those that were answered: probes and scrapes, ..."""
    monitoring: Quantiles
    """... and the rest."""
    slowest: str
    told: Quantiles
    without_wait: int
    problems: dict[str, int]


class Watched(msgspec.Struct, frozen=True):
    """At leisure, and at three times the knee."""

    paths: list[str]
    calm: Looks
    high: Looks

    def bars(self) -> Iterator[Bar]:
        """What is asked of it: each look is answered in time, or refused at once, and told when to come again."""
        name = f"watching at {TIMES[1]:g} times the knee"
        others = sum(count for problem, count in self.high.problems.items() if problem not in TOO_MUCH)
        yield Bar(f"{name}: share of the others that is refused", self.high.refused, MUCH, least=True)
        yield Bar(f"{name}: looks", float(self.high.looks), float(len(self.paths)), least=True)
        yield Bar(f"{name}: neither answered nor refused", float(others), 0.0)
        yield Bar(f"{name}: slowest probe or scrape, ms", 1000 * self.high.probes.max, 1000 * ANSWERED)
        yield Bar(f"{name}: slowest of the monitoring, ms", 1000 * self.high.monitoring.max, 1000 * READ)
        yield Bar(f"{name}: p99 of refusals, ms", 1000 * self.high.told.p99, 1000 * TOLD)
        yield Bar(f"{name}: refusals without Retry-After", float(self.high.without_wait), 0.0)


def watch(url: str, port: int, make: MakeMessage, knee: float, *, seconds: float) -> Watched:
    """Look at everything, while requests for `make` come at half of the knee, then at three times it, `seconds` each."""
    told: dict[str, dict[str, object]] = json.loads(get(port, "/openapi.json")[1])["paths"]
    paths = [*PROBES, *(path for path, item in told.items() if is_looked_at(path, item))]

    def look(rate: float) -> Looks:
        every = round(rate / OFTEN)

        def mixed(number: int) -> Message:
            turn, rest = divmod(number, every)
            return make(number) if rest else Message(b"", line=f"GET {paths[turn % len(paths)]}")

        done = flood(url, mixed, [(rate, seconds)], enough(rate)).done
        others = [exchange.problem in TOO_MUCH for turn, exchange in done if turn.number % every]
        ours = ((turn.number // every, turn, exchange) for turn, exchange in done if not turn.number % every)
        named = [(paths[number % len(paths)], turn, exchange) for number, turn, exchange in ours]
        return looks(named, rate, sum(others) / len(others))

    return Watched(paths, *(look(times * knee) for times in TIMES))


def is_looked_at(path: str, item: dict[str, object]) -> bool:
    """Is it of the monitoring, and read without naming anything?"""
    return path.startswith(MONITORING) and "get" in item and "{" not in path


def looks(done: Sequence[tuple[str, Turn, Exchange]], rate: float, refused: float) -> Looks:
    """What came of them, by path; `refused` of the other requests were."""
    answered = [(exchange.last_byte - turn.planned, path) for path, turn, exchange in done if not exchange.problem]
    refusals = [exchange for _, _, exchange in done if exchange.problem in TOO_MUCH]
    return Looks(
        rate=rate,
        refused=refused,
        looks=len(done),
        probes=Quantiles.of([seconds for seconds, path in answered if path in PROBES]),
        monitoring=Quantiles.of([seconds for seconds, path in answered if path not in PROBES]),
        slowest=max(answered, default=(0.0, ""))[1],
        told=Quantiles.of([exchange.last_byte - exchange.sent for exchange in refusals]),
        without_wait=sum(not exchange.wait for exchange in refusals),
        problems=dict(Counter(exchange.problem for _, _, exchange in done if exchange.problem)),
    )
