"""May it be read, may it be stored, for how long? Outcomes are types that carry their reason.

Times are seconds of `ports.Clock`: Unix time that never jumps while the process runs. Ages and lifetimes are seconds.
"""

from typing import Final, Literal

import msgspec

from sentinel_gateway.core.bound import Bound, Restriction
from sentinel_gateway.core.chat import ENDINGS_WITH_TOOLS, Answer, ChatRequest, says_something
from sentinel_gateway.core.pricing import Basis

DAY: Final = 86_400.0
HOUR: Final = 3_600.0
YEAR: Final = 365 * DAY
CREATIVE_ABOVE: Final = 0.7
"""Above this temperature an answer is one of many: it is kept an hour instead of a day (seed 000)."""
DEFAULT_TEMPERATURE: Final = 1.0
"""What OpenAI's dialect means by no temperature at all."""
ANY_AGE: Final = float("inf")
MAX_JITTER: Final = 0.1
"""Entries written together must not expire together: lifetimes are shortened by up to a tenth, never lengthened."""

Tier = Literal["memory", "disk", "redis", "vector"]
Forward = Literal["uri-miss", "stale", "request", "bypass", "miss"]
"""Why a tier passed the request on, in RFC 9211's words."""
Why = Literal[
    "no-store",
    "bypass",
    "ttl-0",
    "too-large",
    "length",
    "content-filter",
    "unfinished",
    "unknown-finish",
    "too-few-choices",
    "empty",
    "unproven-end",
    "cleared-meanwhile",
    "pinned",
    "not-taken",
    Bound,
]
"""Why an answer was not kept: a closed list, told in Cache-Status and explained in docs/cache.md."""


class Wish(msgspec.Struct, frozen=True):
    """What the caller asks of the cache, and of a provider's stream, by headers or in the body."""

    read: bool = True
    write: bool = True
    bypass: bool = False
    """`x-bypass-cache: true`: neither `read` nor `write`, and said so."""
    only_if_cached: bool = False
    max_age: float | None = None
    min_fresh: float | None = None
    max_stale: float | None = None
    """An answer serves that has expired so long ago, at most; None: none does."""
    stale_if_error: float | None = None
    """The same where every target fails; None leaves it to the gateway."""
    ttl: float | None = None
    namespace: str = ""
    tags: tuple[str, ...] = ()
    explain: bool = False
    similarity_threshold: float | None = None
    """The least similarity, 0 to 1, with which a stored answer may serve; None leaves it to the gateway."""
    buffered: bool = False
    """`x-recovery: buffered`: nothing of a provider's stream before its end is here, so that a cut one can be begun anew."""

    @property
    def stalest(self) -> float:
        """Seconds since its end after which an answer is no good even where there is no other."""
        said = [limit for limit in (self.max_stale, self.stale_if_error) if limit is not None]
        return max(said, default=ANY_AGE)


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """A stored answer without its body: whose it is, and what it answered."""

    key: str
    model: str
    """The target that answered, `provider/model`."""
    created: float
    expires: float
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: int = 0
    """What it has cost, in nano-USD: as much is saved each time that it serves."""
    basis: Basis = "price"
    tenant: str = ""
    """Who asked for it: the caller's own tenant (`core.access.Caller.space`), also where a cache group shares the answer."""
    namespace: str = ""
    writer: str = ""
    tags: tuple[str, ...] = ()
    scope: str = ""
    """All that a reworded question must share with this one (`core.identity`); empty: it answers none."""
    text: str = ""
    """The question itself, where there is a scope."""


class Entry(Head, frozen=True, kw_only=True):
    """One stored answer. Immutable: a new answer to the same request is a new entry under the same key."""

    body: bytes
    """The answer as JSON object members, without `id` and `created`: each hit gets fresh ones."""

    def head(self) -> Head:
        """What is known of it without its body."""
        return Head(**{name: getattr(self, name) for name in Head.__struct_fields__})


class Hit(msgspec.Struct, frozen=True):
    """`entry` answers the request; `tier` held it. `similarity`, 0 to 1, is that of its question, if it is another one.

    `confidence`, 0 to 1: how sure it is that the answer is right, on the basis on which that was decided.
    """

    entry: Entry
    tier: Tier
    similarity: float | None = None
    confidence: float | None = None
    stale: bool = False
    """It has expired, and is served because every target failed, or because the caller takes it so."""


class Step(msgspec.Struct, frozen=True):
    """Why one tier did not answer."""

    tier: Tier
    forward: Forward
    detail: str | None = None


NOT_IN_MEMORY: Final = Step("memory", "uri-miss")


class Miss(msgspec.Struct, frozen=True):
    """No tier answered. `steps` go from the farthest tier to the nearest, as Cache-Status lists them."""

    steps: tuple[Step, ...]


class Store(msgspec.Struct, frozen=True):
    """The answer is kept for `ttl` seconds. `tiers` took it, the nearest first."""

    ttl: float
    tiers: tuple[Tier, ...]


class NotStorable(msgspec.Struct, frozen=True):
    """The answer must not be kept; `why` completes `uncacheable-<why>`."""

    why: Why


class TtlRules(msgspec.Struct, frozen=True):
    """The operator's lifetimes, in seconds. `per_model` is by public model name."""

    fixed: float | None = None
    per_model: dict[str, float] = {}


def judge(entry: Entry, wish: Wish, tier: Tier, now: float, *, last: bool = False) -> Hit | Step:
    """Does what this tier found answer the caller, as the caller wishes? `last`: no tier after it may have a fresh one."""
    stale = entry.expires <= now
    if stale and not (last and wish.max_stale is not None and now - entry.expires <= wish.max_stale):
        return Step(tier, "stale")
    if wish.max_age is not None and now - entry.created > wish.max_age:
        return Step(tier, "request")
    if wish.min_fresh is not None and entry.expires - now < wish.min_fresh:
        return Step(tier, "request")
    return Hit(entry, tier, stale=stale)


def outlived(entry: Entry | None, tier: Tier, now: float, *, within: float) -> Hit | None:
    """What this tier found, if it has not expired for longer than `within` seconds: better than no answer at all."""
    return None if entry is None or now >= entry.expires + within else Hit(entry, tier, stale=entry.expires <= now)


def lifetime(
    request: ChatRequest, wish: Wish, rules: TtlRules, *, jitter: float, restriction: Restriction | None = None
) -> float:
    """Seconds to keep an answer: the header, else the model's, else the fixed one, else by temperature. `jitter` is 0..1.

    What restricts the question shortens all but the header: who sends that knows what is asked.
    """
    base = wish.ttl
    if base is None:
        base = rules.per_model.get(request.model, rules.fixed)
        if base is None:
            temperature = DEFAULT_TEMPERATURE if request.temperature is None else request.temperature
            base = HOUR if temperature > CREATIVE_ABOVE else DAY
        if restriction is not None and restriction.most is not None:
            base = min(base, restriction.most)
    return base * (1.0 - MAX_JITTER * jitter)


def refusal(wish: Wish, *, ttl: float, restriction: Restriction | None = None) -> NotStorable | None:
    """Why nothing is to be kept, whatever the answer is; None if it may be."""
    if not wish.write:
        return NotStorable("bypass" if wish.bypass else "no-store")
    if restriction is not None and restriction.forbids:
        return NotStorable(restriction.why)
    return NotStorable("ttl-0") if ttl <= 0 else None


def rejection(
    request: ChatRequest, answer: Answer, wish: Wish, *, ttl: float, restriction: Restriction | None = None
) -> NotStorable | None:
    """Why this answer must not be kept, whatever its size; None if it may be. A stream is judged by its folded answer."""
    unwanted = refusal(wish, ttl=ttl, restriction=restriction)
    if unwanted is not None:
        return unwanted
    if len(answer.finish_reasons) < request.choices:
        return NotStorable("too-few-choices")
    for reason in answer.finish_reasons:
        if (why := _unfinished(reason, request)) is not None:
            return NotStorable(why)
    return None if says_something(answer) else NotStorable("empty")


def _unfinished(reason: str | None, request: ChatRequest) -> Why | None:
    if reason == "stop" or reason in ENDINGS_WITH_TOOLS:
        return None
    if reason == "length":
        return None if request.token_limit is not None else "length"
    if reason is None:
        return "unfinished"
    return "content-filter" if reason == "content_filter" else "unknown-finish"


class Selector(msgspec.Struct, frozen=True):
    """Which entries a clear is about; a member that is None selects all."""

    tenant: str | None = None
    namespace: str | None = None
    model: str | None = None
    tag: str | None = None
    writer: str | None = None
    older_than: float | None = None
    """Entries made more than so many seconds ago."""
    keys: frozenset[str] | None = None
    """These entries and no others."""

    def matches(self, entry: Head, now: float) -> bool:
        """The meaning of a selector, which every store's own query must agree with."""
        return (
            (self.tenant is None or entry.tenant == self.tenant)
            and (self.namespace is None or entry.namespace == self.namespace)
            and (self.model is None or entry.model == self.model)
            and (self.tag is None or self.tag in entry.tags)
            and (self.writer is None or entry.writer == self.writer)
            and (self.older_than is None or now - entry.created > self.older_than)
            and (self.keys is None or entry.key in self.keys)
        )

    @property
    def everything(self) -> bool:
        """True if nothing is left out."""
        return self == Selector()
