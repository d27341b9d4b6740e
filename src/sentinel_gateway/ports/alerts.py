"""Where alerts are kept, and where they are sent."""

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

import msgspec

from sentinel_gateway.core.alerting.board import Board
from sentinel_gateway.core.alerting.notices import Message
from sentinel_gateway.core.alerting.rules import Rule

Kind = Literal["firing", "resolved", "delivered", "undelivered", "dropped", "test", "silenced"]


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the history. `at` in Unix seconds; `id` is given by the store. `rule` and `subject`, or `channel`, are empty."""

    at: float
    kind: Kind
    rule: str = ""
    subject: str = ""
    channel: str = ""
    text: str = ""
    id: int | None = None


class EntryPage(msgspec.Struct, frozen=True):
    """The newest first; `next` begins the page after it."""

    entries: Sequence[Entry]
    next: int | None


class Silence(msgspec.Struct, frozen=True):
    """Until `until` (Unix seconds) nobody is told that alerts of this rule fire. `actor` said so."""

    rule: str
    until: float
    actor: str


class Letter(msgspec.Struct, frozen=True):
    """A message on its way to a channel. `id` is the same however often it is sent; `tries` counts this one."""

    id: str
    channel: str
    at: float
    tries: int
    message: Message


class Waiting(msgspec.Struct, frozen=True):
    """The letters to a channel that have not arrived yet. `oldest` in Unix seconds; `tries` is how often one was sent at most."""

    channel: str
    letters: int
    oldest: float
    tries: int


class Led(msgspec.Struct, frozen=True):
    """What whoever leads goes on from."""

    board: Board
    silences: Mapping[str, float]


class AlertStore(Protocol):
    """Where nodes keep alerts together. All raise `StoreDown`, within the adapter's own deadline. Moments in Unix seconds."""

    async def lead(self, node: str, now: float, seconds: float) -> Led | None:
        """Be the one that looks, for so many seconds from now; None while another node is."""
        ...

    async def resign(self, node: str) -> None:
        """Another may look at once."""
        ...

    async def keep(self, node: str, board: Board, entries: Sequence[Entry], letters: Sequence[Letter], *, oldest: float) -> bool:
        """Keep what came of a look, all of it or nothing; False if another node leads by now: then nothing is kept.

        Of entries older than `oldest` some are removed.
        """
        ...

    async def claim(self, channel: str, now: float, seconds: float) -> Letter | None:
        """The oldest letter to a channel if it is due; nobody is given it, or a newer one, for so many seconds.

        What is newer waits until that one is settled for good, so that the last word is the true one.
        """
        ...

    async def due(self, channel: str) -> float | None:
        """When the oldest letter to a channel may be claimed; None if there is none."""
        ...

    async def waiting(self) -> Sequence[Waiting]:
        """What has not arrived yet, by channel, also of those that are configured no more."""
        ...

    async def settle(self, letter: Letter, entry: Entry | None, *, due: float | None = None) -> None:
        """It was delivered, or given up; or it is tried again when it is `due`."""
        ...

    async def silence(self, silence: Silence, entry: Entry) -> None:
        """From now on; one that ends at once is lifted."""
        ...

    async def look(self) -> tuple[Board, Sequence[Silence]]:
        """How things stand, on whichever node."""
        ...

    async def note(self, entry: Entry) -> None: ...

    async def history(self, *, limit: int, cursor: int | None) -> EntryPage: ...


class Channel(Protocol):
    """Where somebody reads what is sent. `name` is the operator's, `kind` is `webhook` or a service's name."""

    @property
    def name(self) -> str: ...

    @property
    def kind(self) -> str: ...

    async def send(self, letter: Letter) -> None:
        """Returns once it has arrived. Raises `ChannelDown`, within the adapter's own deadline: its words hold no secret."""
        ...


class AlertDesk(Protocol):
    """What looks, as those see it who ask about it."""

    @property
    def store(self) -> AlertStore: ...

    @property
    def rules(self) -> Sequence[Rule]:
        """Those in force."""
        ...

    @property
    def channels(self) -> Mapping[str, Channel]: ...

    @property
    def is_on(self) -> bool: ...

    async def test(self, name: str) -> str:
        """Send a test to a channel, now and once; the id under which it came. Raises `AlertNotFound` and `ChannelDown`."""
        ...
