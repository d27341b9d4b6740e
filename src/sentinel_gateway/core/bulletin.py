"""What one node tells all others. A notice says what has happened, and each node knows what to do about it.

They travel between nodes of different versions: what is added to one has a default, and a kind that is not known is passed over.
"""

from typing import Final, get_args

import msgspec

from sentinel_gateway.core.caching import Selector


class CacheCleared(msgspec.Struct, frozen=True, tag="cache-cleared"):
    """These entries are gone from every store that nodes share."""

    selector: Selector


class SimilarCleared(msgspec.Struct, frozen=True, tag="similar-cleared"):
    """So are those that the selector matches and whose question has at least this cosine to `vector`: that of a text, by `model`.

    Single floats, the lowest byte first. The text itself is somebody's and stays where it is.
    """

    selector: Selector
    model: str
    vector: bytes
    least: float


class EntryAmended(msgspec.Struct, frozen=True, tag="entry-amended"):
    """The entry under this key ends at another time from now on: it was pinned or unpinned, or has expired."""

    key: str


class KeysChanged(msgspec.Struct, frozen=True, tag="keys-changed"):
    """A client key was made or ended."""


class CircuitTurned(msgspec.Struct, frozen=True, tag="circuit-turned"):
    """The circuit of a target (`provider/model`) has opened on a node, or closed."""

    target: str
    opened: bool


Notice = CacheCleared | SimilarCleared | EntryAmended | KeysChanged | CircuitTurned

KINDS: Final = frozenset(str(kind.__struct_config__.tag) for kind in get_args(Notice))
