"""The learners in memory, one for each realm, and which of them go when there are too many: rules, without I/O.

A learner that much was asked of takes megabytes, its fit alone takes kilobytes. So a realm may be here in part: then its fit
decides, and nothing is taught. One that comes takes the room of those that nobody asked for a while, never of one in use: where
more realms are in use than there is room for, some stay here in part, instead of all of them pushing each other out.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, Literal

from sentinel_gateway.core.calibration import Calibrator
from sentinel_gateway.core.confidence.learner import Learner
from sentinel_gateway.core.evidence import parts_of

if TYPE_CHECKING:
    import asyncio

MEMORY: Final = 256 << 20
"""Bytes of all learners together, about."""
REALMS: Final = 256
IDLE: Final = 60.0
"""Seconds after which a realm that nobody has asked for makes room for another."""
FIT_BYTES: Final = 64 << 10
"""Of a realm that is here in part, and of a new one."""

Extent = Literal["nothing", "fit", "coming", "whole"]


class Ward:
    """One realm's learner, how much of it is here, and whether there is more to it than what was kept."""

    def __init__(self, learner: Learner) -> None:
        self.calibrator = Calibrator(learner)
        self.extent: Extent = "nothing"
        """What has been brought back, or been found not to exist; `coming`: the fit is here, and the rest has its room."""
        self.size = FIT_BYTES
        """Bytes of memory that it takes, about, or would take if it were whole."""
        self.used = 0.0
        self.changed = False
        self.lesson = 0
        """The number of the last lesson that it was taught, where nodes learn from each other's."""
        self.bringing: asyncio.Task[None] | None = None
        """What brings it back, while it does."""

    def __repr__(self) -> str:
        return f"<Ward {self.learner!r}>"

    @property
    def learner(self) -> Learner:
        return self.calibrator.learner

    @property
    def is_whole(self) -> bool:
        return self.extent == "whole"

    @property
    def takes(self) -> int:
        """Bytes of memory, about."""
        return self.size if self.extent in {"coming", "whole"} else FIT_BYTES

    def weigh(self) -> bool:
        """Find out anew how large it is; does that make a difference?"""
        size = FIT_BYTES + self.learner.weight
        if self.is_whole and abs(size - self.size) < FIT_BYTES:
            return False
        self.size = size
        return True


class Wards:
    """All of them by realm, the one asked for last coming last."""

    def __init__(self) -> None:
        self._wards: OrderedDict[str, Ward] = OrderedDict()

    def __len__(self) -> int:
        return len(self._wards)

    def __iter__(self) -> Iterator[tuple[str, Ward]]:
        """The one asked for last comes first; what is added meanwhile is left out."""
        return iter([*reversed(self._wards.items())])

    def get(self, realm: str) -> Ward | None:
        return self._wards.get(realm)

    def use(self, realm: str, now: float) -> Ward | None:
        """The ward of a realm that somebody asks for now; None if it is not here."""
        ward = self._wards.get(realm)
        if ward is not None:
            ward.used = now
            self._wards.move_to_end(realm)
        return ward

    def add(self, realm: str, ward: Ward, now: float) -> None:
        ward.used = now
        self._wards[realm] = ward

    def drop(self, realm: str, ward: Ward) -> None:
        """Forget this one; without effect if another has taken its place."""
        if self._wards.get(realm) is ward:
            del self._wards[realm]

    def has_room(self, realm: str, ward: Ward, now: float) -> bool:
        """Is there room for the whole of it, once those have gone that nobody has used for long?

        Of its own tenant and of those with more in memory: who makes up namespaces pushes out nobody else's.
        """
        crowds = self._crowds()
        own = crowds[_crowd(realm)]
        idle = sum(
            other.takes
            for name, other in self._wards.items()
            if other is not ward and _is_idle(other, now) and crowds[_crowd(name)] >= own
        )
        return crowds.total() - ward.takes + ward.size - idle <= MEMORY

    def surplus(self, now: float) -> Iterator[tuple[str, Ward]]:
        """Those that have to go, one after the other: they are here no more. The one asked for last stays.

        Of those that nobody has used for long, else of all: of whoever has most in memory the one asked for longest ago.
        """
        crowds = self._crowds()
        while len(self._wards) > 1 and (len(self._wards) > REALMS or crowds.total() > MEMORY):
            idle = {_crowd(realm) for realm, ward in self._wards.items() if _is_idle(ward, now)}
            largest = max(idle or crowds, key=crowds.__getitem__)
            realm = next(realm for realm in self._wards if _crowd(realm) == largest)
            ward = self._wards.pop(realm)
            crowds[largest] -= ward.takes
            yield realm, ward

    def _crowds(self) -> Counter[str]:
        """Bytes of memory that each tenant's learners take."""
        crowds: Counter[str] = Counter()
        for realm, ward in self._wards.items():
            crowds[_crowd(realm)] += ward.takes
        return crowds


def _crowd(realm: str) -> str:
    return parts_of(realm)[0]


def _is_idle(ward: Ward, now: float) -> bool:
    return now - ward.used >= IDLE
