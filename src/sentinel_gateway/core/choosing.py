"""In which order the targets of a route are asked. Time and chance are arguments; what is known of the targets is a `Standings`.

The order is a preference: whether the first of them can be asked now is for `retrying.py` to say.
"""

import hashlib
import math
from collections.abc import Callable
from typing import Any, Final

from sentinel_gateway.core.chat import ChatRequest, Fields
from sentinel_gateway.core.routing import Route, Target
from sentinel_gateway.core.standing import Standings
from sentinel_gateway.core.tokens import about

PICTURES: Final = ("image_url", "input_image")
"""Types of content that only a model with eyes understands. No set: what a caller names as a type need be nothing that hashes."""
UNSEEN: Final = 1
"""Tokens of a picture as far as the length of the context is concerned: nobody but the provider can count them."""
TINY: Final = 1e-300
"""Stands in for a draw of 0, which has no logarithm."""


def choose(
    route: Route, request: ChatRequest, standings: Standings, *, now: float, chance: Callable[[], float]
) -> tuple[Target, ...]:
    """Those that can serve the request, in the order in which to ask them; none if there is none."""
    able, targets = _able(route, request.fields), route.targets
    if len(able) > 1 and route.strategy != "priority":
        ranks = _ranks(route, request, standings, able, now=now, chance=chance)
        able = [index for _, index in sorted(zip(ranks, able, strict=True))]
    return tuple(targets[index] for index in able)


def _ranks(
    route: Route, request: ChatRequest, standings: Standings, able: list[int], *, now: float, chance: Callable[[], float]
) -> list[float]:
    """For each target a number: the smallest is asked first."""
    if route.strategy == "weighted":
        draws = _sticky(route, request.fields, able) if route.sticky else [chance() for _ in able]
        weights = route.weights or (1.0,) * len(route.targets)
        return [_rank(draw, weights[index]) for draw, index in zip(draws, able, strict=True)]
    known = [standings.of(str(route.targets[index])) for index in able]
    if route.strategy == "least_busy":
        return [float(standing.busy) for standing in known]
    return [standing.pace(now, stream=request.stream) for standing in known]


def _rank(draw: float, weight: float) -> float:
    """Sorted by it, a target comes first as often as its weight is of all (Efraimidis and Spirakis)."""
    return -math.log(max(draw, TINY)) / weight


def _sticky(route: Route, fields: Fields, able: list[int]) -> list[float]:
    """For each target a number that stays the same through a conversation: if one goes, only its conversations move."""
    about = conversation(fields)
    digests = (hashlib.blake2b(f"{route.targets[index]}\n{about}".encode(errors="replace"), digest_size=8) for index in able)
    return [int.from_bytes(digest.digest()) / 2**64 for digest in digests]


def conversation(fields: Fields) -> str:
    """What all turns of a conversation have in common: the caller's `prompt_cache_key`, or all up to the first word of a user."""
    named = fields.get("prompt_cache_key")
    if isinstance(named, str) and named:
        return named
    opening = []
    for message in fields["messages"]:
        opening.append(f"{message.get('role')}: {message.get('content')}")
        if message.get("role") == "user":
            break
    return "\n".join(opening)


def unable(fields: Fields) -> tuple[str, str]:
    """What no target takes, and the field that holds it."""
    tools, pictures = _calls(fields), _shows(fields)
    what = " and ".join([*(["tools"] if tools else []), *(["pictures"] if pictures else [])])
    return what, "tools" if tools else "messages"


def _able(route: Route, fields: Fields) -> list[int]:
    """The targets, by their places, that can serve it. Too short a context leaves a target out only where another is longer."""
    every = list(range(len(route.targets)))
    if not route.abilities:
        return every
    tools, pictures = _calls(fields), _shows(fields)
    able = [
        index
        for index in every
        if (route.abilities[index].tools or not tools) and (route.abilities[index].vision or not pictures)
    ]
    if all(route.abilities[index].context is None for index in able):
        return able
    length = about(fields, media_tokens=UNSEEN)
    roomy = [index for index in able if (context := route.abilities[index].context) is None or length <= context]
    return roomy or able


def _calls(fields: Fields) -> bool:
    return bool(fields.get("tools") or fields.get("functions"))


def _shows(fields: Fields) -> bool:
    return any(part.get("type") in PICTURES for message in fields["messages"] for part in _parts(message))


def _parts(message: Fields) -> list[Any]:
    content = message.get("content")
    return [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
