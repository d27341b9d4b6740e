"""Client keys, and the log of what became of them."""

from collections.abc import Callable
from typing import Protocol

import msgspec

from sentinel_gateway.core.access import Key
from sentinel_gateway.core.issuance import Amendment, AuditEntry


class KeyPage(msgspec.Struct, frozen=True):
    """Some keys in the order of their names; `next` is the cursor of those after them, None after the last."""

    keys: tuple[Key, ...]
    next: str | None


Mark = tuple[int, int]
"""A point in the history of a key store; means nothing to any other."""


class KeyChanges(msgspec.Struct, frozen=True):
    """What has become of keys up to `mark`, in that order; ask again from there while there is `more`.

    `whole`: this begins at the beginning, and whatever was known before is to be forgotten.
    """

    keys: tuple[Key, ...]
    mark: Mark
    whole: bool
    more: bool = False


class KeyStore(Protocol):
    """The client keys, kept for good. Raises `StoreDown`, within the adapter's own deadline.

    Each change stands in the audit log by the time it is made: both or neither.
    """

    async def create(self, key: Key, entry: AuditEntry) -> None:
        """Keep a new key."""
        ...

    async def get(self, id: str) -> Key | None:  # noqa: A002 - its name
        ...

    async def find(self, digest: bytes) -> Key | None:
        """The key whose text has this digest."""
        ...

    async def page(self, *, prefix: str, tenant: str | None, limit: int, cursor: str | None) -> KeyPage:
        """Keys whose names begin so, in whatever case; None is all tenants. Raises `InvalidField` for a cursor that is none."""
        ...

    async def update(self, id: str, rule: Callable[[Key], Amendment]) -> Amendment:  # noqa: A002 - its name
        """Have `rule` say what becomes of the key, and keep that; nobody changes it meanwhile.

        Raises `KeyNotFound`, and what the rule raises; then nothing is kept.
        """
        ...

    async def changes(self, since: Mark | None) -> KeyChanges:
        """What has changed since, revoked keys too; everything, if `since` is None or no point of this history."""
        ...


class AuditPage(msgspec.Struct, frozen=True):
    """Some entries, the newest first; `next` is the cursor of those before them, None before the first."""

    entries: tuple[AuditEntry, ...]
    next: int | None


class AuditLog(Protocol):
    """Every administrative change; nothing in it is changed or taken away. Raises `StoreDown`."""

    async def append(self, entry: AuditEntry) -> None: ...

    async def page(self, *, tenant: str | None, limit: int, cursor: int | None) -> AuditPage:
        """Entries before the cursor; a tenant's only, or all."""
        ...
