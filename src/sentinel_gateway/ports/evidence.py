"""What is known of the answers that reworded questions were given."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from sentinel_gateway.core.evidence import Count, Decision, Findings, Label
from sentinel_gateway.core.spending import DayCost
from sentinel_gateway.core.tightening import Stance


class EvidenceStore(Protocol):
    """Decisions and what was said of them, kept for a time. Raises `StoreDown`, within the adapter's own deadline."""

    async def keep(self, decisions: Sequence[Decision], counts: Sequence[Count]) -> None:
        """Keep these decisions, and add the counts to those of the same hour and scope; what has been kept for too long goes."""
        ...

    async def find(self, id: str, *, tenant: str) -> Decision | None:  # noqa: A002 - its name
        """The decision on a request of this tenant, by our id or by the caller's: of several under that, the latest."""
        ...

    async def get(self, id: str) -> Decision | None:  # noqa: A002 - its name
        """The decision on a request of any tenant, by our id."""
        ...

    async def label(self, label: Label) -> bool:
        """Keep what its source says now; False if it has said so before."""
        ...

    async def findings(self, since: float, *, scopes: int) -> Findings:
        """What was labelled since then, the latest if there are very many, and counted; of so many scopes, the busiest.

        Of scopes and budgets that are stricter than configured, of each.
        """
        ...

    async def stances(self) -> Sequence[Stance]:
        """Of all scopes that have one."""
        ...

    async def take(self, stance: Stance) -> None:
        """Keep it in place of the scope's last one, and count anew from now on: there, or by `ALL` everywhere."""
        ...

    async def spend(self, cost: DayCost) -> None:
        """Add this to what its day has cost; of a day that is over nothing is kept."""
        ...

    async def spent(self) -> DayCost:
        """What the last such day has cost."""
        ...

    async def labels(self, decision: str) -> tuple[Label, ...]:
        """What was said of a decision."""
        ...


class LearnerStore(Protocol):
    """What was learned, as bytes of its owner's making, one piece for each realm. Raises `StoreDown`, as above."""

    async def keep(self, realm: str, state: bytes, at: float, lesson: int) -> bool:
        """Keep it in place of the realm's last one; of very many, the oldest of who has the most goes. `at`: Unix time.

        `lesson`: where nodes learn together, the number of the last lesson in it. False, and nothing is kept, if there are later
        ones in what is there.
        """
        ...

    async def find(self, realm: str) -> bytes | None:
        """What was kept of it last."""
        ...

    async def begins(self, realm: str, size: int) -> bytes | None:
        """So many bytes of the beginning of what was kept of it last."""
        ...

    async def latest(self, limit: int) -> Sequence[str]:
        """At most so many realms, those kept last first."""
        ...


class Told(NamedTuple):
    """A lesson that some node has told, by its number: what is told later has a higher one."""

    number: int
    realm: str
    lesson: bytes


class News(NamedTuple):
    """The next lessons, the number of the last one that was ever told, and when each realm's learner was kept last."""

    lessons: Sequence[Told]
    last: int
    kept: Mapping[str, float]


class LessonStore(Protocol):
    """What nodes learn from together: each tells its lessons, all are taught all of them. Raises `StoreDown`, as above."""

    async def tell(self, lessons: Sequence[tuple[str, str, bytes]], at: float) -> None:
        """Tell all nodes, in this order: of each its id, for what is told twice is kept once, its realm, and the lesson."""
        ...

    async def news(self, since: int | None, limit: int) -> News:
        """At most so many lessons with a higher number, of all realms; None: none of them."""
        ...

    async def of(self, realm: str, since: int, limit: int) -> News:
        """The same of one realm."""
        ...

    async def claim(self, realm: str, node: str, now: float, seconds: float) -> bool:
        """Is it this node that makes something of the realm's lessons, for so long?"""
        ...

    async def learned(self, realm: str, upto: int, at: float) -> None:
        """Those up to that number are in what was kept of the realm at that Unix time: an hour later they may be forgotten."""
        ...
