"""Keys of a data folder, and what it has closed, come along when its gateway begins to keep them in PostgreSQL.

Others may have brought theirs.
"""

import time
from collections.abc import Sequence
from functools import partial

from sentinel_gateway.core import issuance
from sentinel_gateway.core.access import Key, operator
from sentinel_gateway.core.tightening import Stance
from sentinel_gateway.errors import ConfigurationError, StoreDown
from sentinel_gateway.stores import evidence, keys
from sentinel_gateway.stores._state import Statements
from sentinel_gateway.stores._state_file import StateFile
from sentinel_gateway.stores.keys import SqlKeys


async def keys_of(file: StateFile) -> list[Key]:
    """All that it holds; `ConfigurationError` where it can't be read now, for a gateway without them might be open to all."""
    store, found = SqlKeys(file), list[Key]()
    mark, more = None, True
    try:
        while more:
            changes = await store.changes(mark)
            found += changes.keys
            mark, more = changes.mark, changes.more
    except StoreDown as exc:
        fault = f"its keys are to come along to PostgreSQL, and can't be read now ({exc}): start again when they can be"
        raise ConfigurationError([(str(file.path), fault)]) from exc
    return found


async def steps_of(file: StateFile) -> list[Stance]:
    """What its error budgets have closed or made stricter; `ConfigurationError` where it can't be read now, as above."""
    try:
        return await file.read(evidence.stances)
    except StoreDown as exc:
        fault = (
            f"what it has switched off is to come along to PostgreSQL, and can't be read now ({exc}): start again when it can be"
        )
        raise ConfigurationError([(str(file.path), fault)]) from exc


def adopt(server: Statements, *, found: list[Key], steps: Sequence[Stance] = ()) -> None:
    """Keep there the keys that it lacks, and revoke there what was revoked here: never the other way. Be as strict there as here.

    Done again, it changes nothing.
    """
    evidence.adopt(server, found=steps)
    ended, starter, now = keys.ended(server) if found else {}, operator("start"), time.time()
    for key in found:
        if key.id not in ended:
            keys.create(server, key=key, entry=issuance.adopt(starter, key, now))
        elif key.revoked is not None and not ended[key.id]:
            keys.change(server, id=key.id, rule=partial(issuance.revoke, caller=starter, now=key.revoked))
