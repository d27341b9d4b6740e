"""What this node does about what others tell on the bulletin, and where it may have missed something."""

from typing import assert_never

from sentinel_gateway.core.bulletin import CacheCleared, CircuitTurned, EntryAmended, KeysChanged, Notice, SimilarCleared
from sentinel_gateway.pipeline.circuits import Circuits
from sentinel_gateway.pipeline.keyring import KeyRing
from sentinel_gateway.pipeline.purge import Purge
from sentinel_gateway.pipeline.tiers import Tiers


class Hearing:
    """`purge` is None where questions are not compared."""

    def __init__(self, tiers: Tiers, ring: KeyRing, purge: Purge | None, circuits: Circuits) -> None:
        self._tiers = tiers
        self._ring = ring
        self._purge = purge
        self._circuits = circuits

    def heard(self, notice: Notice) -> None:
        """Do as the others did. Nothing that was cleared is served from memory any more; what takes longer has been begun."""
        match notice:
            case CacheCleared(selector):
                self._tiers.clear_own(selector)
            case SimilarCleared():
                if self._purge is not None:
                    self._purge.follow(notice)
            case EntryAmended(key):
                self._tiers.amended(key)
            case KeysChanged():
                self._ring.hurry()
            case CircuitTurned():
                self._circuits.hear(notice)
            case _:
                assert_never(notice)

    def missed(self) -> None:
        """Anything may have been told. Circuits are not asked for: what is failing shows by itself."""
        self._ring.hurry()
        self._tiers.forget()
