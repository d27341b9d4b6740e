"""A question as a point of Qdrant's, and what may be asked of points."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import msgspec
import numpy as np
from qdrant_client import models

from sentinel_gateway.core.caching import Head, Selector
from sentinel_gateway.vectors._records import Records

if TYPE_CHECKING:  # a name for the type checker: it needs no numpy there
    from sentinel_gateway.ports.cache import Vector

PREFIX: Final = "sentinel-vectors-"
VECTOR: Final = "question"
"""Vectors have a name, so that a point may be without one."""
KEYWORD: Final = models.PayloadSchemaType.KEYWORD
FIELDS: Final[Mapping[str, models.PayloadSchemaType | models.KeywordIndexParams]] = {
    "scope": models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, is_tenant=True),
    "waiting": models.PayloadSchemaType.BOOL,
    "added": models.PayloadSchemaType.INTEGER,
    "expires": models.PayloadSchemaType.FLOAT,
    "created": models.PayloadSchemaType.FLOAT,
    "tenant": KEYWORD,
    "namespace": KEYWORD,
    "model": KEYWORD,
    "tags": KEYWORD,
    "writer": KEYWORD,
}
"""What points are looked for by, and how."""


def prefix_of(records: Records) -> str:
    """What the names of all our collections begin with."""
    return f"{PREFIX}{records.owner}-"


def collection_of(records: Records) -> str:
    """The name of the collection for these vectors; it tells the model, and no two models have the same."""
    digest = hashlib.blake2b(records.model.encode(), digest_size=4).hexdigest()
    return f"{prefix_of(records)}{re.sub('[^A-Za-z0-9._-]', '-', records.model)[:100]}-{digest}"


def id_of(key: str) -> str:
    """The point of all answers under one key."""
    return str(UUID(bytes=hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest()))


def point(head: Head, stamp: str, *, added: int, vector: list[float] | None = None) -> models.PointStruct:
    """The question, which waits for a vector if it has none. `added` puts those that wait in order."""
    payload = msgspec.to_builtins(head) | {"stamp": stamp, "waiting": vector is None, "added": added}
    return models.PointStruct(id=id_of(head.key), payload=payload, vector={} if vector is None else {VECTOR: vector})


def head_of(payload: Mapping[str, Any] | None, records: Records) -> Head | None:
    """The question of a point; None if it is not exactly what was stored."""
    try:
        head = msgspec.convert(payload, Head)
        return head if payload is not None and records.stamp_of(head).hex() == payload.get("stamp") else None
    except (msgspec.ValidationError, ValueError, OverflowError):
        return None


def vector_of(record: models.Record) -> "Vector | None":
    """The vector of a point that was read with it; None while it waits for one."""
    numbers = record.vector.get(VECTOR) if isinstance(record.vector, dict) else None
    return None if numbers is None else np.asarray(numbers, np.float32)


def in_scope(scope: str, *, waiting: bool, now: float) -> models.Filter:
    """The questions of a scope that are not over: those that wait, or those that have a vector."""
    return models.Filter(must=[_is("scope", scope), _is("waiting", waiting), _range("expires", gt=now)])


def exactly(stamped: Iterable[tuple[Head, str]]) -> models.Filter:
    """These, unless another answer has taken the place."""
    return models.Filter(should=[_exactly(head, stamp) for head, stamp in stamped])


def over(now: float) -> models.Filter:
    """What has expired."""
    return models.Filter(must=[_range("expires", lte=now)])


def selected(selector: Selector, now: float) -> models.Filter:
    """What the selector matches."""
    wanted = {
        "tenant": selector.tenant,
        "namespace": selector.namespace,
        "model": selector.model,
        "tags": selector.tag,
        "writer": selector.writer,
    }
    conditions: list[models.Condition] = [_is(field, value) for field, value in wanted.items() if value is not None]
    if selector.older_than is not None:
        conditions.append(_range("created", lt=now - selector.older_than))
    if selector.keys is not None:
        conditions.append(models.HasIdCondition(has_id=list(map(id_of, selector.keys))))
    return models.Filter(must=conditions)


def _exactly(head: Head, stamp: str) -> models.Filter:
    return models.Filter(must=[models.HasIdCondition(has_id=[id_of(head.key)]), _is("stamp", stamp)])


def _is(field: str, value: str | bool) -> models.FieldCondition:  # noqa: FBT001 - a value like any other
    return models.FieldCondition(key=field, match=models.MatchValue(value=value))


def _range(field: str, **bounds: float) -> models.FieldCondition:
    return models.FieldCondition(key=field, range=models.Range(**bounds))
