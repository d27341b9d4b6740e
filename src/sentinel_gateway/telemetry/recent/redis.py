"""The last two hours of all nodes, in Redis: seed 004's keys, types and TTLs, readable by whatever else reads those.

| key | type | what | TTL |
|---|---|---|---|
| `metrics:{provider}:{hour}` | hash | counts, tokens, USD | 2 hours |
| `latency:{provider}:{model}` | sorted set | `<ms>:<id>` by its moment, the newest 10,000 | 2 hours |
| `errors:{provider}` | list | JSON, the newest first, 100 | 1 hour |
| `provider_health` | sorted set | providers by score | none |
| `circuit:{provider}:{model}` | string | JSON: state, failure_count | 5 minutes |

Ours beside them: `first_token:...` and `speed:...` as `latency:...`; `provider_health:{provider}`, a hash of 60 places, the score
in each minute; `circuits`, a sorted set of the names of circuits by the moment at which they were told of, so that nobody has to
look through all keys. In names, `:` and `%` are percent-encoded. Nothing here is below `sentinel:`, so no clear ever takes it.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from importlib import resources
from typing import Any, Final, Protocol, TypeVar
from urllib.parse import unquote

import msgspec
from redis.exceptions import NoScriptError

from sentinel_gateway.core.circuit import State
from sentinel_gateway.core.health import BEST, Sample, kept
from sentinel_gateway.core.pricing import NANO_PER_USD
from sentinel_gateway.errors import StoreDown
from sentinel_gateway.ports.recent import HOUR, USUAL, CircuitBreaker, HourStats, RecentError, RequestMetrics, Series, hour_of
from sentinel_gateway.ports.world import Clock
from sentinel_gateway.telemetry.recent.shapes import (
    CIRCUITS_KEPT,
    ERRORS_KEPT,
    KEPT,
    LONGEST_NAME,
    MOST_ERRORS,
    MOST_MEASURED,
    SERIES,
    harmless,
    has_failed,
    hours_until,
    in_order,
    measured,
    ring_place,
    summary,
    verdicts,
)

Client = Any
"""A client of redis-py, of one server or of a cluster; it may decode answers or not."""
S = TypeVar("S")
T = TypeVar("T")

HEALTH: Final = "provider_health"
CIRCUITS: Final = "circuits"
COUNTS: Final = ("total_requests", "successful_requests", "failed_requests", "tokens_input", "tokens_output")
OURS: Final = re.compile(r"[\d.]+(?:e\+\d+)?:[\w-]*\.\d+")
"""A measured call: `<ms>:<id>`, and the id ends with the number of the call."""
A_MOMENT: Final = 1e9
"""Scores below are no moments of ours, in Unix seconds."""
SCANNED: Final = 500
"""Keys that are looked through in one call."""
LAST_MOMENT: Final = 253_402_300_799.0
"""The end of the year 9999, in Unix seconds: calendars know no later ones."""
LARGEST: Final = 1e15
"""No sum and no measure of ours is larger."""
UNREADABLE: Final = (ValueError, LookupError, msgspec.MsgspecError)
"""What comes of reading what others have put there."""
SCRIPT: Final = resources.files(__package__).joinpath("lua/health.lua").read_text("utf-8")
SCRIPT_SHA: Final = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()  # what Redis calls it


class Link(Protocol):
    """The way to Redis (`stores/_redis.py`), for what no request waits for. Raises `StoreDown`."""

    async def call_patiently(self, work: Callable[[Client], Awaitable[T]]) -> T: ...


class _Circuit(msgspec.Struct, frozen=True):
    """The value of `circuit:...`."""

    state: State
    failure_count: int
    updated: float = 0.0


class RedisMetrics:
    """The port `RecentMetrics`. `prefix` stands before all keys, for a Redis that others keep the same names in."""

    def __init__(self, link: Link, clock: Clock, *, prefix: str = "") -> None:
        self._link = link
        self._clock = clock
        self._prefix = prefix

    def __repr__(self) -> str:
        return f"<RedisMetrics {self._link!r}>"

    async def record_request(self, request: RequestMetrics) -> None:
        await self.record_requests([request])

    async def record_requests(self, requests: Sequence[RequestMetrics]) -> bool:
        """In two round trips, however many they are."""

        async def write(client: Client) -> None:
            scores = await self._judge(client, requests)
            pipe = client.pipeline(transaction=False)
            self._put_scores(pipe, scores)
            self._put_hours(pipe, requests)
            self._put_errors(pipe, requests)
            self._put_measured(pipe, requests)
            await pipe.execute()

        return await self._ask(write, lambda _: True, otherwise=False)

    async def get_provider_health(self, provider: str) -> float:
        async def ask(client: Client) -> Any:
            return await client.zscore(self._key(HEALTH), provider)

        return await self._ask(ask, lambda score: BEST if score is None else _score(score), otherwise=BEST)

    async def get_all_provider_health(self) -> Mapping[str, float]:
        return await self.find_health() or {}

    async def find_health(self) -> Mapping[str, float] | None:
        async def ask(client: Client) -> Any:
            return await client.zrange(self._key(HEALTH), 0, -1, withscores=True)

        def read(found: Any) -> Mapping[str, float]:
            return dict(_readable(lambda one: (_text(one[0]), _score(one[1])), found))

        return await self._ask(ask, read, otherwise=None)

    async def get_health_history(self, providers: Collection[str]) -> Mapping[str, Sequence[Sample]]:
        async def ask(client: Client) -> Any:
            pipe = client.pipeline(transaction=False)
            for provider in providers:
                pipe.hvals(self._key(HEALTH, provider))
            return await pipe.execute() if providers else ()

        def read(found: Any) -> Mapping[str, Sequence[Sample]]:
            named = zip(providers, found, strict=True)
            return {name: in_order(list(_readable(_sample, values))) for name, values in named if values}

        return await self._ask(ask, read, otherwise={})

    async def get_recent_errors(self, provider: str, limit: int = MOST_ERRORS) -> Sequence[RecentError]:
        async def ask(client: Client) -> Any:
            return await client.lrange(self._key("errors", provider), 0, limit - 1)

        def read(found: Any) -> Sequence[RecentError]:
            return list(_readable(_error, found))

        return await self._ask(ask, read, otherwise=[])

    async def get_hourly_stats(self, provider: str, hours: int = 1) -> Mapping[str, HourStats]:
        names = hours_until(self._clock(), hours)

        async def ask(client: Client) -> Any:
            pipe = client.pipeline(transaction=False)
            for hour in names:
                pipe.hgetall(self._key("metrics", provider, hour=hour))
            return await pipe.execute()

        def read(found: Any) -> Mapping[str, HourStats]:
            hours = [(hour, fields) for hour, fields in zip(names, found, strict=True) if fields]
            return dict(_readable(_hour, hours))

        return await self._ask(ask, read, otherwise={})

    async def get_latency_percentiles(
        self, provider: str, model: str, percentiles: Sequence[float] = USUAL, series: Series = "latency"
    ) -> Mapping[str, float]:
        async def ask(client: Client) -> Any:
            return await client.zrange(self._key(series, provider, model), self._clock() - KEPT, "+inf", byscore=True)

        def read(found: Any) -> Mapping[str, float]:
            return summary(list(_readable(_measure, found[-MOST_MEASURED:])), percentiles)

        return await self._ask(ask, read, otherwise={})

    async def update_circuit_breaker(self, provider: str, model: str, state: State, failure_count: int) -> None:
        now, name = self._clock(), f"{_encoded(provider)}:{_encoded(model)}"

        async def write(client: Client) -> None:
            pipe = client.pipeline(transaction=False)
            told = msgspec.json.encode(_Circuit(state, failure_count, now))
            pipe.set(self._key("circuit", provider, model), told, ex=CIRCUITS_KEPT)
            index = self._key(CIRCUITS)
            pipe.zadd(index, {name: now})
            pipe.zremrangebyscore(index, "-inf", now - CIRCUITS_KEPT)
            pipe.expire(index, CIRCUITS_KEPT)
            await pipe.execute()

        await self._ask(write, lambda _: None, otherwise=None)

    async def get_circuit_breakers(self) -> Sequence[CircuitBreaker]:
        return await self.find_circuits() or []

    async def find_circuits(self) -> Sequence[CircuitBreaker] | None:
        async def ask(client: Client) -> Any:
            found = await client.zrange(self._key(CIRCUITS), self._clock() - CIRCUITS_KEPT, "+inf", byscore=True)
            names = [_text(name).partition(":")[::2] for name in found]
            pipe = client.pipeline(transaction=False)
            for provider, model in names:
                pipe.get(self._key("circuit", unquote(provider), unquote(model)))
            return zip(names, await pipe.execute(), strict=True) if names else ()

        def read(found: Any) -> Sequence[CircuitBreaker]:
            return list(_readable(_circuit, ((name, told) for name, told in found if told is not None)))

        return await self._ask(ask, read, otherwise=None)

    async def cleanup_old_data(self, hours: int = 2) -> int:
        """Looks through all keys of the server, some hundred at a time. What others keep by such names is left as it is."""

        async def clean(client: Client) -> int:
            oldest, removed = self._clock() - hours * HOUR, 0
            async for key in client.scan_iter(match=f"{_literal(self._prefix)}metrics:*", count=SCANNED, _type="HASH"):
                hour = _hour_in(_text(key))
                if hour is not None and hour < hour_of(oldest) and await client.hexists(key, "total_cost"):
                    removed += await client.execute_command("UNLINK", key)
            for series in SERIES:
                pattern = f"{_literal(self._prefix)}{series}:*:*"
                async for key in client.scan_iter(match=pattern, count=SCANNED, _type="ZSET"):
                    first = await client.zrange(key, A_MOMENT, f"({oldest}", byscore=True, offset=0, num=1)
                    if first and OURS.fullmatch(_text(first[0])):
                        removed += await client.zremrangebyscore(key, A_MOMENT, f"({oldest}")
            return removed

        return await self._link.call_patiently(clean)

    # --- what a batch is made of ---

    async def _judge(self, client: Client, requests: Sequence[RequestMetrics]) -> dict[str, str]:
        """The new scores of the providers of which these calls say something."""
        judged = verdicts(requests)
        if not judged:
            return {}
        arguments = [
            word
            for provider, (answered, failed) in judged.items()
            for word in (provider, repr(kept(answered + failed)), repr(BEST * answered / (answered + failed)))
        ]
        try:
            scores = await client.evalsha(SCRIPT_SHA, 1, self._key(HEALTH), *arguments)
        except NoScriptError:
            scores = await client.eval(SCRIPT, 1, self._key(HEALTH), *arguments)
        return dict(zip(judged, map(_text, scores), strict=True))

    def _put_scores(self, pipe: Any, scores: Mapping[str, str]) -> None:
        now = self._clock()
        for provider, score in scores.items():
            pipe.hset(self._key(HEALTH, provider), str(ring_place(now)), f"{now}:{score}")

    def _put_hours(self, pipe: Any, requests: Iterable[RequestMetrics]) -> None:
        for (provider, hour), sums in _by_hour(requests).items():
            key = self._key("metrics", provider, hour=hour)
            for name in COUNTS:
                if count := getattr(sums, name):
                    pipe.hincrby(key, name, count)
            pipe.hincrbyfloat(key, "total_cost", f"{sums.total_cost / NANO_PER_USD:.9f}")
            pipe.hincrbyfloat(key, "latency_ms", f"{sums.latency_ms:.3f}")
            pipe.expire(key, KEPT)

    def _put_errors(self, pipe: Any, requests: Iterable[RequestMetrics]) -> None:
        errors: defaultdict[str, list[bytes]] = defaultdict(list)
        for request in requests:
            if has_failed(request):
                error = RecentError(
                    request.model[:LONGEST_NAME], harmless(request.error_message), request.timestamp, round(request.latency_ms)
                )
                errors[request.provider].append(msgspec.json.encode(error))
        for provider, texts in errors.items():
            key = self._key("errors", provider)
            pipe.lpush(key, *texts[-MOST_ERRORS:])
            pipe.ltrim(key, 0, MOST_ERRORS - 1)
            pipe.expire(key, ERRORS_KEPT)

    def _put_measured(self, pipe: Any, requests: Iterable[RequestMetrics]) -> None:
        members: defaultdict[tuple[Series, str, str], dict[str, float]] = defaultdict(dict)
        for request in requests:
            for series, value in measured(request):
                members[series, request.provider, request.model][f"{round(value, 3):.10g}:{request.id}"] = request.timestamp
        for (series, provider, model), found in members.items():
            key = self._key(series, provider, model)
            pipe.zadd(key, found)
            pipe.zremrangebyrank(key, 0, -MOST_MEASURED - 1)
            pipe.zremrangebyscore(key, "-inf", self._clock() - KEPT)
            pipe.expire(key, KEPT)

    # --- how it is asked ---

    async def _ask(self, work: Callable[[Client], Awaitable[Any]], read: Callable[[Any], T], otherwise: T) -> T:
        """What `read` makes of the answer. What others have put there, so that it makes nothing of it, is as good as nothing."""
        try:
            return read(await self._link.call_patiently(work))
        except (StoreDown, *UNREADABLE):
            return otherwise

    def _key(self, kind: str, *names: str, hour: str = "") -> str:
        return self._prefix + ":".join([kind, *map(_encoded, names), *([hour] if hour else [])])


def _encoded(name: str) -> str:
    """A name that can't be taken for several."""
    return name.replace("%", "%25").replace(":", "%3A")


def _literal(prefix: str) -> str:
    """A prefix as a pattern of Redis'."""
    return "".join(f"\\{char}" if char in "*?[]\\^" else char for char in prefix)


def _text(value: str | bytes) -> str:
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else value


def _readable(read: Callable[[S], T], found: Iterable[S]) -> Iterator[T]:
    """What `read` makes of each, but for those that it makes nothing of: one that others have put there hides no other."""
    for one in found:
        with suppress(*UNREADABLE):
            yield read(one)


def _within(value: float, most: float) -> float:
    """A figure that can be shown; raises ValueError for what is none, such as infinity."""
    if not 0.0 <= value <= most:
        raise ValueError(f"{value} is not within 0 and {most}")
    return value


def _score(value: str | float) -> float:
    return _within(float(value), BEST)


def _error(text: str | bytes) -> RecentError:
    error = msgspec.json.decode(text, type=RecentError, strict=False)
    _within(error.timestamp, LAST_MOMENT)
    return error


def _measure(member: str | bytes) -> float:
    return _within(float(_text(member).partition(":")[0]), LARGEST)


def _sample(value: str | bytes) -> Sample:
    at, _, score = _text(value).partition(":")
    return _within(float(at), LAST_MOMENT), _score(score)


def _hour(found: tuple[str, Mapping[Any, Any]]) -> tuple[str, HourStats]:
    hour, fields = found
    stats = msgspec.convert({_text(name): _text(value) for name, value in fields.items()}, HourStats, strict=False)
    _within(stats.total_cost, LARGEST)
    _within(stats.latency_ms, LARGEST)
    return hour, stats


def _circuit(found: tuple[tuple[str, str], str | bytes]) -> CircuitBreaker:
    (provider, model), value = found
    told = msgspec.json.decode(value, type=_Circuit)
    return CircuitBreaker(unquote(provider), unquote(model), told.state, told.failure_count, _within(told.updated, LAST_MOMENT))


def _by_hour(requests: Iterable[RequestMetrics]) -> dict[tuple[str, str], HourStats]:
    """Sums by provider and hour; the cost in nano-USD still."""
    hours: defaultdict[tuple[str, str], HourStats] = defaultdict(HourStats)
    for request in requests:
        sums = hours[request.provider, hour_of(request.timestamp)]
        sums.tokens_input += request.tokens_input
        sums.tokens_output += request.tokens_output
        sums.total_cost += request.cost
        if request.success is not None:
            sums.total_requests += 1
            sums.successful_requests += request.success
            sums.failed_requests += not request.success
            sums.latency_ms += request.latency_ms * request.success
    return hours


def _hour_in(key: str) -> str | None:
    """The hour at the end of a key, if there is one."""
    hour = ":".join(key.rsplit(":", 2)[1:])
    try:
        datetime.strptime(hour, "%Y-%m-%d:%H").replace(tzinfo=UTC)
    except ValueError:
        return None
    return hour
