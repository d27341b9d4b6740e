"""Embeddings, item by item: what a request asks vectors for, under which key each is kept, what each has cost.

Each item has a key of its own, so that of a batch only what is not known is asked for. Vectors are kept as the provider wrote
them: how they are written is part of the key, and nothing is ever rounded.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

import msgspec

from sentinel_gateway.core.chat import Fields
from sentinel_gateway.core.identity import exact_key
from sentinel_gateway.core.routing import Route

FACE: Final = "embeddings"
MAX_ITEMS: Final = 2048
"""Items in one request, as OpenAI has it."""
MAX_IDS: Final = 300_000
"""Token ids in one request, as OpenAI has it."""

Item = str | list[int]
"""What one vector is asked for: a text, or the ids of its tokens."""


class Vector(msgspec.Struct, frozen=True):
    """One vector as `caching.Entry.body`: JSON members without the opening brace. `tokens` is its share of what was counted."""

    body: bytes
    tokens: int


def items_of(value: Any) -> list[Item] | None:
    """The items of `input`: one text, a list of texts, the ids of one item, or a list of such. None if it is none of these."""
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list) or not value:
        return None
    if all(type(item) is int for item in value):
        return [value]
    if all(type(item) is str for item in value):
        return list(value)
    return list(value) if all(_are_ids(item) for item in value) else None


def _are_ids(item: Any) -> bool:
    return isinstance(item, list) and all(type(number) is int for number in item)


def of_one_model(route: Route) -> Route:
    """The route without targets of other models than the first one's: what two models make can't be compared.

    What a target can do for a chat, and where a conversation went before, is nothing to it.
    """
    model = route.targets[0].model
    same = [place for place, target in enumerate(route.targets) if target.model == model]
    targets, weights = tuple(route.targets[place] for place in same), route.weights
    kept = tuple(weights[place] for place in same) if weights else ()
    return Route(targets, route.strategy, kept, conduct=route.conduct)


def item_keys(fields: Fields, items: Sequence[Item], *, targets: Sequence[str], tenant: str, namespace: str) -> list[str]:
    """The key of each item; arguments as for `exact_key`.

    All that stands beside the items goes in as its own digest, which is made once: hashed for each item, one long field would
    keep the event loop busy for as long as there are items.
    """
    rest = {name: value for name, value in fields.items() if name != "input" and (name, value) != ("encoding_format", "float")}
    key_of = partial(exact_key, face=FACE, targets=targets, tenant=tenant, namespace=namespace)
    beside = key_of(rest)
    return [key_of({"input": item, "beside": beside}) for item in items]


def asked_for(fields: Fields, items: Sequence[Item]) -> Fields:
    """The request for these of its items alone; what is asked for as a whole goes out as it came in."""
    if items == items_of(fields["input"]):
        return fields
    return {**fields, "input": list(items)}


def stored_vector(written: bytes) -> bytes:
    """A vector as the provider wrote it, a list of numbers or a string in base64, as `caching.Entry.body`."""
    return b'"embedding":%b}' % written


def shares(total: int, items: Sequence[Item]) -> list[int]:
    """The tokens of each item, where the provider tells only what all are together: by length, and `total` in sum."""
    return shares_of(total, [len(item.encode(errors="replace")) if isinstance(item, str) else len(item) for item in items])


def shares_of(total: int, sizes: Sequence[int]) -> list[int]:
    """Whole numbers in proportion to the sizes, `total` in sum; 0 each where all sizes are."""
    whole, so_far, given = max(1, sum(sizes)), 0, 0
    found = []
    for size in sizes:
        so_far += size
        found.append(total * so_far // whole - given)
        given += found[-1]
    return found


def vectors_of(keys: Sequence[str], items: Sequence[Item], written: Sequence[bytes], tokens: int) -> Mapping[str, Vector]:
    """What a provider has answered, by key."""
    parts = zip(keys, written, shares(tokens, items), strict=True)
    return {key: Vector(stored_vector(vector), share) for key, vector, share in parts}
