"""What the path has written down for good: who asked for what, what was asked of a provider for it, and what that took.

Rows are frozen and hold no prompt, answer, header or key text. Money is whole nano-USD; times are whole microseconds, moments
those since 1970. They are written as arrays: a later Sentinel may add members at the end, with defaults, and nowhere else.
"""

from collections.abc import Mapping, Sequence
from typing import Final, Literal, Protocol

import msgspec

from sentinel_gateway.core.alerting.figures import Served
from sentinel_gateway.core.experiments import Tally
from sentinel_gateway.core.pricing import Basis, Costs
from sentinel_gateway.core.record import Ending, Outcome
from sentinel_gateway.core.stretches import Share, Stretch
from sentinel_gateway.core.windows import Window

Closing = Ending | Literal["orphan"]
"""How an attempt ended. `orphan`: the process died before it was known; the provider may have billed it."""


class Intent(msgspec.Struct, frozen=True, array_like=True, tag=1, gc=False):
    """A call of a provider that is about to be made. `request` is our id of the request (32 hex digits), `number` counts from 1.

    `tenant` and `key` (its id) are those who pay; where no key is needed, no tenant and `anybody`. `model` is the public name,
    `target` the provider's. `reserved` is what was set aside for it.
    """

    request: str
    number: int
    started: int
    tenant: str
    key: str
    route: str
    model: str
    provider: str
    target: str
    stream: bool = False
    reserved: int = 0


class Spent(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a call took. `cached_tokens` and `cache_write_tokens` are of the prompt's, `reasoning_tokens` of the completion's.

    `cost` in nano-USD; `priced` is the day (YYYY-MM-DD) that its price is of, empty where nobody says.
    """

    prompt_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    cost: int = 0
    priced: str = ""
    basis: Basis = "price"


class Settled(msgspec.Struct, frozen=True, array_like=True, tag=2, gc=False):
    """That call, ended: complete by itself, so that nothing else has to be found for it. `error` is the error's kind."""

    intent: Intent
    ending: Closing
    spent: Spent
    error: str = ""
    duration: int = 0
    first_token: int = 0


class Handled(msgspec.Struct, frozen=True, array_like=True, tag=3, gc=False):
    """A request that has ended. `request_id` is the caller's name for it; empty where it is made of ours.

    `provider` and `target` made the answer, perhaps long ago. What it cost stands with its attempts; `saved` is what a hit did
    not cost, in nano-USD.
    """

    id: str
    at: int
    tenant: str
    key: str
    route: str
    status: int
    outcome: Outcome
    tier: str
    model: str
    provider: str
    target: str
    attempts: int = 0
    stream: bool = False
    prompt_tokens: int = 0
    completion_tokens: int = 0
    saved: int = 0
    similarity: float = 0.0
    duration: int = 0
    upstream: int = 0
    first_byte: int = 0
    error: str = ""
    request_id: str = ""


class Enrolled(msgspec.Struct, frozen=True, array_like=True, tag=4, gc=False):
    """A request that was part of an experiment has ended, beside what `Handled` says of it. `unit` is who was put into the arm.

    `cost` is what providers took for it as far as that was known at its end, in nano-USD.
    """

    id: str
    at: int
    experiment: str
    arm: str
    unit: int
    status: int
    outcome: Outcome
    cost: int = 0
    saved: int = 0
    duration: int = 0
    first_byte: int = 0


Row = Intent | Settled | Handled | Enrolled


class Past(msgspec.Struct, frozen=True):
    """What all requests before a moment came to: how many by the cache's part in them, and money by model and route."""

    outcomes: Mapping[str, int]
    costs: Mapping[tuple[str, str], Costs]


NEVER: Final = 1 << 62
"""A moment (Unix seconds) beyond all others."""


class KeyUse(msgspec.Struct, frozen=True, gc=False):
    """What a key did on a day (UTC). `first` and `last` are Unix seconds; `limited` requests met a limit or a spent budget."""

    day: int
    key: str
    requests: int
    limited: int
    first: float
    last: float


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Calls from one moment to before another (Unix seconds), of one request or tenant, or of all: the dearest, or the latest."""

    since: int
    until: int
    request: str | None = None
    tenant: str | None = None
    dearest: bool = False
    limit: int


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """Requests from one moment to before another (Unix seconds), of one tenant or of all: the latest, with this outcome or any.

    `failed`: those alone that ended in an error. `id` is our own or the caller's name for one.
    """

    since: int
    until: int
    tenant: str | None = None
    outcome: Outcome | None = None
    failed: bool = False
    id: str | None = None
    limit: int


By = Literal["tenant", "key", "model", "day"]
"""What money can be told apart by."""


class Told(msgspec.Struct, frozen=True, gc=False):
    """A request that has ended, and what providers took for it in nano-USD."""

    request: Handled
    cost: int


class Tried(msgspec.Struct, frozen=True, gc=False):
    """An experiment, how many requests were part of it, and when the first and the last of them were (Unix seconds)."""

    name: str
    requests: int
    first: int
    last: int


class Windows(Protocol):
    """The past, added up. Raises `StoreDown` where it can't be told, or not in the time that somebody waits."""

    async def hourly(self, since: int, until: int, provider: str | None = None) -> list[Window]:
        """The hours that begin from `since` on and before `until` (Unix seconds), of one provider or all, in their order."""
        ...

    async def windows(self, since: int, until: int, *, seconds: int, provider: str | None = None) -> list[Window]:
        """The same by stretches of so many seconds: 300, 3600 or 86400. Those of days also have what retention has taken."""
        ...

    async def served(self, since: int, until: int) -> list[Served]:
        """Requests to models, by 5 minutes, in their order."""
        ...

    async def key_days(self, since: int, until: int, keys: Sequence[str]) -> list[KeyUse]:
        """What these keys did, by day."""
        ...

    async def calls(self, wanted: Wanted) -> list[Settled]:
        """Calls of providers one by one."""
        ...

    async def requests(self, asked: Asked) -> list[Told]:
        """Requests one by one."""
        ...

    async def shares(self, since: int, until: int, *, by: By, tenant: str | None = None) -> list[Share]:
        """What came to each tenant, key or model, by day; to those of one tenant, or of all."""
        ...

    async def stretches(self, since: int, until: int, *, seconds: int) -> list[Stretch]:
        """What all requests came to, by stretches of 60, 300, 900, 3600 or 86400 seconds. Those of days as in `windows`."""
        ...

    async def tried(self, since: int, until: int) -> list[Tried]:
        """Which experiments there were, by name."""
        ...

    async def tallies(self, experiment: str, since: int, until: int) -> list[Tally]:
        """What each arm of one came to, by name."""
        ...


class Ledger(Protocol):
    """Where rows are kept. Belongs to the event loop's thread; takes microseconds, and never raises.

    What can't be kept for lack of room is counted, and told of by `is_full` before that.
    """

    def intend(self, intent: Intent) -> None:
        """Before a provider is asked: when this returns, no death of the process undoes it."""
        ...

    def settle(self, settled: Settled) -> None:
        """Once an attempt: as above."""
        ...

    def handled(self, request: Handled | Enrolled) -> None:
        """Once a request, and once more if it is part of an experiment: kept within 50 ms, as whatever was paid is settled."""
        ...

    @property
    def is_full(self) -> bool:
        """Can no more be kept now?"""
        ...
