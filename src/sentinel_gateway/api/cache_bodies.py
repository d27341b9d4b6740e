"""What is asked and told of stored answers, for whoever administrates them."""

import base64
import math
from typing import Annotated, Any, Final, Literal

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from sentinel_gateway.api.bodies import StrictBody
from sentinel_gateway.core.access import Caller
from sentinel_gateway.core.browsing import Place, State, View, is_pinned
from sentinel_gateway.core.caching import DAY, YEAR, Entry, Head, Selector, Tier
from sentinel_gateway.core.identity import MAX_CHARACTERS
from sentinel_gateway.core.pricing import NANO_PER_USD
from sentinel_gateway.errors import InsufficientScope, InvalidField

LONGEST_NAME: Final = 1024
LONGEST_CURSOR: Final = 8192
NO_PLACE: Final = "'cursor' is none of ours: send the 'next' of an answer, or leave it out."
HIDDEN: Final = "'{param}' looks into stored questions, which are hidden here: set admin.show_text to true, or leave it out."
OPENING: Final = b"{"
"""A stored body is without it."""

Name = Annotated[str, Field(max_length=LONGEST_NAME)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Sort = Literal["created", "-created", "expires", "-expires"]


class EntriesQuery(BaseModel):
    """Which entries, in which order; all that is given must fit. `newer_than` and `older_than` in seconds."""

    model_config = ConfigDict(extra="forbid")

    tenant: Name | None = None
    namespace: Name | None = None
    model: Name | None = None
    tag: Name | None = None
    writer: Name | None = None
    older_than: Seconds | None = None
    newer_than: Seconds | None = None
    state: Annotated[State, Field(description="`pinned` and `expired` ones alone, or `all` that is kept.")] = "live"
    tier: Annotated[
        Literal["memory", "disk", "redis"] | None, Field(description="Unset: the one that keeps what is not asked for.")
    ] = None
    words: Annotated[str | None, Field(min_length=1, max_length=200, description="Which the question must all contain.")] = None
    like: Annotated[
        str | None,
        Field(min_length=1, max_length=MAX_CHARACTERS, description="A text: questions of the same meaning, the nearest first."),
    ] = None
    min_similarity: Annotated[float | None, Field(ge=0, le=1, description="Of `like`, a cosine.")] = None
    sort: Annotated[Sort | None, Field(description="`-`: the last first. Redis has an order by expiry alone.")] = None
    cursor: Annotated[str | None, Field(max_length=LONGEST_CURSOR, description="The `next` of the page before.")] = None
    limit: Annotated[int, Field(ge=1, le=200)] = 50

    def view(self, caller: Caller, sort: Sort) -> View:
        """What this caller may see of it; raises `InsufficientScope` for a tenant that is not its own."""
        if caller.tenant is not None and self.tenant not in {None, caller.tenant}:
            raise InsufficientScope("Your key sees its own tenant's entries only: leave 'tenant' out.", param="tenant")
        return View(
            selector=Selector(
                tenant=self.tenant if caller.tenant is None else caller.tenant,
                namespace=self.namespace,
                model=self.model,
                tag=self.tag,
                writer=self.writer,
                older_than=self.older_than,
            ),
            newer_than=self.newer_than,
            words=tuple((self.words or "").split()),
            state=self.state,
            order="expires" if sort.endswith("expires") else "created",
            rising=not sort.startswith("-"),
        )

    def after(self) -> Place | None:
        """Where the page begins; raises `InvalidField` for what is no place."""
        if self.cursor is None:
            return None
        try:
            place = msgspec.msgpack.decode(base64.urlsafe_b64decode(self.cursor), type=Place)
        except (ValueError, msgspec.DecodeError) as exc:  # of which binascii.Error is one
            raise InvalidField(NO_PLACE, param="cursor") from exc
        if not math.isfinite(place.at):
            raise InvalidField(NO_PLACE, param="cursor")
        return place


class UnpinBody(StrictBody):
    """`ttl`: seconds from now on that the answer is still kept."""

    ttl: Annotated[float, Field(gt=0, le=YEAR)] = DAY


def cursor(place: Place | None) -> str | None:
    """A place as text."""
    return None if place is None else base64.urlsafe_b64encode(msgspec.msgpack.encode(place)).decode()


def shown(head: Head, *, texts: bool) -> dict[str, Any]:
    """One entry. Times in Unix seconds; `expires` is null for what is pinned, `question` where there is none or it is hidden."""
    pinned = is_pinned(head)
    return {
        "id": head.key,
        "model": head.model,
        "tenant": head.tenant,
        "namespace": head.namespace,
        "writer": head.writer,
        "tags": head.tags,
        "created": head.created,
        "expires": None if pinned else head.expires,
        "pinned": pinned,
        "prompt_tokens": head.prompt_tokens,
        "completion_tokens": head.completion_tokens,
        "cost_usd": head.cost / NANO_PER_USD,
        "answers_rewordings": bool(head.scope),
        "question": head.text if texts and head.text else None,
    }


def shown_whole(entry: Entry, tier: Tier, *, texts: bool) -> dict[str, Any]:
    """One entry with its answer: the members as they are stored, and the text of the first choice by itself."""
    members = msgspec.json.decode(OPENING + entry.body) if texts else None
    return shown(entry, texts=texts) | {
        "tier": tier,
        "bytes": len(entry.body),
        "texts": told(texts=texts),
        "text": None if members is None else _text_of(members),
        "answer": members,
    }


def told(*, texts: bool) -> str:
    """Whether questions and answers are among what is told."""
    return "shown" if texts else "hidden"


def _text_of(members: dict[str, Any]) -> str | None:
    match members:
        case {"choices": [{"message": {"content": str(text)}}, *_]}:
            return text
        case _:
            return None
