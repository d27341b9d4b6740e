"""What operators are told of the past: figures of windows, trends, advice on costs, and how trials go. Pure."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median
from typing import Final, Literal

import msgspec

from sentinel_gateway.core.access import DEFAULT_TENANT, Key
from sentinel_gateway.core.pricing import NANO_PER_USD
from sentinel_gateway.core.windows import MICROS, MILLIS, Series, Window, percentile

DIGITS: Final = 9
"""Decimals of amounts in USD: to the nano-USD."""
MILLION: Final = 1_000_000
STEADY: Final = 0.1
"""By how much a latency may change and still be called steady."""
LONG_PROMPT: Final = 2000
"""Tokens from which it matters whether a provider's prompt cache has them."""
FEW_CACHED: Final = 0.2
MUCH_REASONING: Final = 0.5
DEAR: Final = 5.0
"""Times what another model takes for a token."""
WORTH: Final = 0.05
"""Share of the money that an advice must be about."""
ACTIVE_DAYS: Final = 2
"""Days with requests from which somebody is more than curious."""


# --- figures of a window ---


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _usd(window: Window) -> float:
    return round(window.cost / NANO_PER_USD, DIGITS)


def _per_call(window: Window) -> float | None:
    return round(window.cost / window.decided / NANO_PER_USD, DIGITS) if window.decided else None


def _per_million(window: Window) -> float | None:
    tokens = window.prompt_tokens + window.completion_tokens
    return round(window.cost / tokens * MILLION / NANO_PER_USD, 6) if tokens else None


def _latency(share: float) -> Callable[[Window], float | None]:
    return lambda window: round(percentile(window.buckets, share), 3) if window.buckets else None


def _speed(window: Window) -> float | None:
    """Tokens a second, of answered calls, from their beginning to their end."""
    return round(window.answered_tokens / (window.latency / MICROS), 3) if window.latency else None


FIGURES: Final[Mapping[str, Callable[[Window], float | None]]] = {
    "total_requests": lambda window: window.decided,
    "successful_requests": lambda window: window.successes,
    "failed_requests": lambda window: window.failures,
    "error_rate": lambda window: _share(window.failures, window.decided),
    "refused_requests": lambda window: window.endings.get("refused", 0),
    "tokens_input": lambda window: window.prompt_tokens,
    "tokens_output": lambda window: window.completion_tokens,
    "tokens_cached": lambda window: window.cached_tokens,
    "tokens_reasoning": lambda window: window.reasoning_tokens,
    "tokens_per_second": _speed,
    "total_cost": _usd,
    "cost_per_request": _per_call,
    "cost_per_million_tokens": _per_million,
    "latency_avg_ms": lambda window: round(window.mean, 3) if window.buckets else None,
    "latency_p50_ms": _latency(0.5),
    "latency_p90_ms": _latency(0.9),
    "latency_p95_ms": _latency(0.95),
    "latency_p99_ms": _latency(0.99),
    "first_token_avg_ms": lambda window: round(window.first_token / window.streamed / MILLIS, 3) if window.streamed else None,
}
"""Each by its name, None where there is nothing to tell it of. Shares are 0 to 1, amounts USD, times milliseconds.

Requests are calls that the provider answered or failed; tokens and costs are of all calls.
"""


def group(windows: Iterable[Window], by: Callable[[Window], tuple[str | int, ...]]) -> dict[tuple[str | int, ...], Window]:
    """Added up by what `by` says, in the order in which it first said so."""
    grouped: dict[tuple[str | int, ...], Window] = {}
    for window in windows:
        key = by(window)
        whole = grouped.get(key)
        if whole is None:
            whole = grouped[key] = Window(window.start, window.provider, window.model)
        whole.add(window)
    return grouped


# --- trends ---


class Trend(msgspec.Struct, frozen=True):
    """How the median latency of the later half stands to that of the earlier: `change` is 0.5 for half as much again."""

    direction: Literal["rising", "falling", "steady", "unknown"]
    change: float | None


def trend(windows: Sequence[Window]) -> Trend:
    """Of windows in their order."""
    middle = len(windows) // 2
    halves = [[percentile(one.buckets, 0.5) for one in part if one.buckets] for part in (windows[:middle], windows[middle:])]
    if not all(halves) or not median(halves[0]):
        return Trend("unknown", None)
    change = median(halves[1]) / median(halves[0]) - 1
    if abs(change) <= STEADY:
        return Trend("steady", change)
    return Trend("rising" if change > 0 else "falling", change)


# --- costs ---


class Advice(msgspec.Struct, frozen=True):
    """Where money might be saved. `at_stake` in USD: what that took in the time that was looked at."""

    kind: Literal["cheaper_model", "prompt_cache", "reasoning"]
    provider: str
    model: str
    at_stake: float
    message: str


def advise(totals: Mapping[Series, Window]) -> list[Advice]:
    """What stands out in the bill, the dearest first. Whether answers would stay good enough nobody knows here."""
    whole = sum(window.cost for window in totals.values())
    found: list[Advice] = []
    for series, window in totals.items():
        if window.cost and window.cost >= WORTH * whole:
            found += _advice_on(series, window, totals)
    return sorted(found, key=lambda advice: -advice.at_stake)


def _is_like(other: Window, window: Window) -> bool:
    """Does it do the same kind of work? What makes no tokens of its own, such as embeddings, does not do what makes some."""
    return bool(other.successes) and bool(other.completion_tokens) == bool(window.completion_tokens)


def _advice_on(series: Series, window: Window, totals: Mapping[Series, Window]) -> Iterable[Advice]:
    name, usd = "/".join(series), _usd(window)
    own = _per_million(window) or 0.0
    prompt = window.prompt_tokens / window.requests
    others = {
        other: rate for other, one in totals.items() if other != series and _is_like(one, window) and (rate := _per_million(one))
    }
    cheapest = min(others, key=lambda other: others[other], default=None)
    if cheapest is not None and own >= DEAR * others[cheapest]:
        ratio, cheap = own / others[cheapest], "/".join(cheapest)
        said = f"{name} takes {ratio:.0f} times what {cheap} takes for a token: route what it can do as well to that."
        yield Advice("cheaper_model", *series, usd, said)
    if prompt >= LONG_PROMPT and window.cached_tokens < FEW_CACHED * window.prompt_tokens:
        share = window.cached_tokens / window.prompt_tokens
        said = f"Prompts of {name} have {prompt:,.0f} tokens, of which its prompt cache had {share:.0%}: put what stays first."
        yield Advice("prompt_cache", *series, usd, said)
    if window.completion_tokens and window.reasoning_tokens >= MUCH_REASONING * window.completion_tokens:
        share = window.reasoning_tokens / window.completion_tokens
        said = f"{share:.0%} of the tokens that {name} makes are reasoning: a lower reasoning effort takes fewer."
        yield Advice("reasoning", *series, usd, said)


# --- trials ---

Stage = Literal["created", "first_request", "active", "limit_reached", "converted"]
STAGES: Final[tuple[Stage, ...]] = ("created", "first_request", "active", "limit_reached", "converted")
Party = tuple[str, str]
"""A tenant, and a name within it."""


class Use(msgspec.Struct):
    """What a key has done. `first` and `last` in Unix seconds; of `days` there were so many with requests."""

    requests: int = 0
    limited: int = 0
    days: int = 0
    first: float | None = None
    last: float | None = None

    def add(self, *, requests: int, limited: int, first: float, last: float) -> None:
        """Add another day."""
        self.requests += requests
        self.limited += limited
        self.days += 1
        self.first = first if self.first is None else min(self.first, first)
        self.last = last if self.last is None else max(self.last, last)


class Trial(msgspec.Struct, frozen=True):
    """A trial key, what was done with it, and the stages that it has reached; `stage` is the farthest."""

    key: Key
    use: Use
    reached: frozenset[Stage]

    @property
    def stage(self) -> Stage:
        return next(stage for stage in reversed(STAGES) if stage in self.reached)


def trials(keys: Sequence[Key], uses: Mapping[str, Use], *, since: float) -> list[Trial]:
    """The trials that began since then, the newest first. What a successor of a rotated key did, its trial did."""
    by_id = {key.id: key for key in keys}
    successors = {key.successor for key in keys}
    begun = [key for key in keys if key.trial and key.created >= since and key.id not in successors]
    latest = _latest_full(keys)
    found = [
        _trial(key, _together(key, by_id, uses), converted=latest.get(_party(key), key.created) > key.created) for key in begun
    ]
    return sorted(found, key=lambda trial: -trial.key.created)


def _latest_full(keys: Sequence[Key]) -> Mapping[Party, float]:
    """When each party was given a full key last: one that asks models, for a look at figures is no purchase.

    A rotation gives it none: what it makes of a full key was one before.
    """
    rotations = {key.successor for key in keys if not key.trial}
    latest: dict[Party, float] = {}
    for key in keys:
        if not key.trial and "inference" in key.scopes and key.id not in rotations:
            party = _party(key)
            latest[party] = max(latest.get(party, key.created), key.created)
    return latest


def _party(key: Key) -> Party:
    """Who holds it: its tenant, and where tenants are not told apart, its name."""
    return key.tenant, key.name if key.tenant == DEFAULT_TENANT else ""


def _together(key: Key, by_id: Mapping[str, Key], uses: Mapping[str, Use]) -> Use:
    whole, next_ = Use(), key
    seen: set[str] = set()
    while next_.id not in seen:
        seen.add(next_.id)
        if (use := uses.get(next_.id)) is not None and use.first is not None and use.last is not None:
            days = whole.days + use.days
            whole.add(requests=use.requests, limited=use.limited, first=use.first, last=use.last)
            whole.days = days
        next_ = by_id.get(next_.successor or "", next_)
    return whole


def _trial(key: Key, use: Use, *, converted: bool) -> Trial:
    reached: set[Stage] = {"created"}
    if use.requests:
        reached.add("first_request")
    if use.days >= ACTIVE_DAYS:
        reached.add("active")
    if use.limited:
        reached.add("limit_reached")
    if converted:
        reached.add("converted")
    return Trial(key, use, frozenset(reached))


def funnel(found: Sequence[Trial]) -> dict[Stage, int]:
    """How many have come so far, or farther than where they would have been seen on the way."""
    depth = [STAGES.index(trial.stage) for trial in found]
    return {stage: sum(one >= place for one in depth) for place, stage in enumerate(STAGES)}
