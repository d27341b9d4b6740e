"""The dialect that all others are translated to and from: OpenAI's chat shape, parsed once.

What a field means stands in typed members; everything else stays in `fields`, the whole parse, so that a field which
a provider adds next month is part of the cache key and reaches the provider unread.
"""

from collections.abc import Callable
from typing import Any, Final, Literal, Protocol, TypeVar

import msgspec

Fields = dict[str, Any]
Piece = TypeVar("Piece")
Dialect = Literal["openai", "anthropic"]

ENDINGS_WITH_TOOLS: Final = frozenset({"tool_calls", "function_call"})
MAX_TOKENS: Final = 2**53
"""A provider that reports more tells nonsense, and other places could not hold it."""
SPEECH: Final = ("content", "tool_calls", "refusal", "function_call", "audio")
"""Members of a message that say something to the caller."""


class Usage(msgspec.Struct, frozen=True):
    """Tokens as the provider reports them. `prompt_tokens` includes cached ones, as in OpenAI's count.

    The details are parts of the two, and together never more: `cached_tokens`, `cache_write_tokens` and `audio_input_tokens` of
    the prompt, `cache_write_1h_tokens` of those written, `reasoning_tokens` and `audio_output_tokens` of the completion.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    audio_input_tokens: int = 0
    reasoning_tokens: int = 0
    audio_output_tokens: int = 0
    has_details: bool = False
    """Is any detail more than 0?"""
    estimated: bool = False
    """The provider has not told it, or told what can't be."""
    service_tier: str = ""
    """At which the provider says that it has served the call; empty for the standard one."""


STANDARD_TIERS: Final = frozenset({"", "default", "standard", "standard_only", "on_demand"})
"""What OpenAI, Anthropic and Groq call the service tier whose rates are the model's price, asked for or told."""


USUAL: Final = "2023-06-01"
VERSIONS: Final = (USUAL, "2026-10-21")
"""Of Anthropic's API, as its callers name them. They differ in what is refused, not in how an answer looks: the usual one takes
all.

Source: https://platform.claude.com/docs/en/api/versioning
"""


class Native(msgspec.Struct, frozen=True):
    """A request in the words that it came in, for providers that speak the same dialect."""

    body: Fields
    digest: str = ""
    """Of all that is asked, in hex digits, where a chat leaves some of it unsaid; empty where the chat says all."""
    needs: str = ""
    """The field that no chat has a place for, though the answer hangs on it."""
    dated: bool = False
    """Does it hang on the version of the API whether it is refused?"""
    betas: str = ""
    """What it switches on by a header."""
    version: str = ""
    """In which it asks, where it is `dated` and that is not the usual one."""

    @property
    def says_more(self) -> bool:
        """Than the chat."""
        return bool(self.digest or self.betas or self.version)


class ChatRequest(msgspec.Struct, frozen=True):
    """One request. `fields` is the caller's whole body, never changed; the members are what our rules read.

    To be routed, limited and sent, a request for embeddings is one as well: with `input` in place of messages.
    """

    fields: Fields
    model: str
    stream: bool = False
    include_usage: bool = False
    """The caller asked for the usage chunk (`stream_options.include_usage`)."""
    temperature: float | None = None
    token_limit: int | None = None
    """`max_completion_tokens`, else `max_tokens`."""
    choices: int = 1
    """`n`: how many answers are asked for."""
    similarity_threshold: float | None = None
    """Of `/v1/query`: the least similarity, 0 to 1, with which a stored answer may serve. No part of `fields`, nor of any key."""
    original: Fields | None = None
    """The caller's own body, where `fields` are made of it and the answer repeats some of it."""
    dialect: Dialect = "openai"
    """That of the caller's body. From Anthropic's, `fields` may hold hints that OpenAI's has no place for (`extensions.py`)."""
    native: Native | None = None
    """The caller's own words, where the dialect is Anthropic's."""


class Answer(msgspec.Struct, frozen=True):
    """One complete answer, a `chat.completion`. `fields` is the provider's whole object."""

    fields: Fields
    finish_reasons: tuple[str | None, ...]
    usage: Usage | None


class Chunk(msgspec.Struct, frozen=True, gc=False):
    """One `chat.completion.chunk`: the provider's bytes, and the same parsed, unless nobody has needed that so far."""

    raw: bytes
    parsed: Fields | None
    more: str | None = None
    """The text that it says, if it is known to differ from the chunk before it in nothing else."""

    @property
    def fields(self) -> Fields:
        """The chunk's members."""
        return msgspec.json.decode(self.raw, type=Fields) if self.parsed is None else self.parsed


class Batches(Protocol[Piece]):
    """Pieces in the batches in which they arrive; `StopAsyncIteration` at the end. A wait that is cancelled loses nothing."""

    async def __anext__(self) -> list[Piece]: ...

    async def pipe(self, into: Callable[[list[Piece]], bool]) -> None:
        """Give batches to `into` as they arrive, without a turn of the event loop in between, until it returns False.

        It has taken that batch as well, and wants no more now.
        """
        ...


def speaks(chunk: Chunk) -> bool:
    """Does it say anything, or end a choice? Many providers begin with a chunk that names the role, long before a word."""
    if chunk.more is not None:
        return bool(chunk.more)
    choices = chunk.fields.get("choices")
    return isinstance(choices, list) and any(isinstance(choice, dict) and _speaks(choice) for choice in choices)


def _speaks(choice: Fields) -> bool:
    delta = choice.get("delta")
    said = any(value for name, value in delta.items() if name != "role") if isinstance(delta, dict) else False
    return said or bool(choice.get("finish_reason"))


def tier_of(told: Any) -> str:
    """The service tier that is told, as `Usage` has it."""
    return told if isinstance(told, str) and told not in STANDARD_TIERS else ""


def read_usage(value: Any, service_tier: Any = None) -> Usage | None:
    """OpenAI's `usage` object as counts, beside the tier that the answer tells; None if absent or not counts.

    Explicit zeros are kept.
    Details that contradict what they are part of are left out, and the usage is marked as estimated: so nothing is taken for
    cheaper than it was.
    """
    if not isinstance(value, dict):
        return None
    prompt, completion = _count(value.get("prompt_tokens")), _count(value.get("completion_tokens"))
    if prompt is None or completion is None:
        return None
    total: Any = value.get("total_tokens")
    whole = prompt + completion
    if total == whole or _count(total) is None:
        total = whole
    asked, answered = value.get("prompt_tokens_details"), value.get("completion_tokens_details")
    if not asked and not answered and total == whole:
        counts = Usage(prompt, completion, whole)
    else:
        counts = _detailed(prompt, completion, total, asked, answered)
    if service_tier is not None and (tier := tier_of(service_tier)):
        return msgspec.structs.replace(counts, service_tier=tier)
    return counts


def _detailed(prompt: int, completion: int, total: int, asked: Any, answered: Any) -> Usage:
    cached, written, longer, heard = _parts(asked, "cached_tokens", "cache_write_tokens", "cache_write_1h_tokens", "audio_tokens")
    thought, spoken = _parts(answered, "reasoning_tokens", "audio_tokens")
    if thought > 0 and total == prompt + completion + thought:  # xAI and Gemini leave thoughts out of the completion
        completion += thought
    fits = (
        min(cached, written, longer, heard, thought, spoken) >= 0
        and total == prompt + completion
        and longer <= written
        and cached + written + heard <= prompt
        and thought + spoken <= completion
    )
    if not fits:
        return Usage(prompt, completion, total, estimated=True)
    if not (cached or written or heard or thought or spoken):
        return Usage(prompt, completion, total)
    return Usage(
        prompt,
        completion,
        total,
        cached_tokens=cached,
        cache_write_tokens=written,
        cache_write_1h_tokens=longer,
        audio_input_tokens=heard,
        reasoning_tokens=thought,
        audio_output_tokens=spoken,
        has_details=True,
    )


def _parts(details: Any, *names: str) -> tuple[int, ...]:
    """What is no count is -1."""
    if details is None:
        return (0,) * len(names)
    if not isinstance(details, dict):
        return (-1,) * len(names)
    return tuple([0 if value is None else -1 if _count(value) is None else value for value in map(details.get, names)])


def _count(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value <= MAX_TOKENS else None


def read_answer(fields: Any) -> Answer | None:
    """A provider's decoded body as an answer; None if it is not one (no choices, or one without a message)."""
    if not isinstance(fields, dict) or fields.get("error"):
        return None
    choices = fields.get("choices")
    if not isinstance(choices, list) or not choices:
        return None
    reasons = []
    for choice in choices:
        if not isinstance(choice, dict) or not isinstance(choice.get("message"), dict):
            return None
        reason = choice.get("finish_reason")
        reasons.append(reason if reason and isinstance(reason, str) else None)
    return Answer(fields, tuple(reasons), read_usage(fields.get("usage"), fields.get("service_tier")))


def says_something(answer: Answer) -> bool:
    """True if every choice holds something for the caller; reasoning alone does not count."""
    return all(any(map(choice["message"].get, SPEECH)) for choice in answer.fields["choices"])
