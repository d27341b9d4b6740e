"""OpenAI's embeddings, inward: bytes to the request, vectors to bytes.

What is sent goes on as it came, but for `input`, which may lose the items that are known. Vectors are passed on as the provider
wrote them.
"""

from collections.abc import Sequence
from typing import Any, Final

from sentinel_gateway.api.wire.json_body import read_object
from sentinel_gateway.api.wire.openai import Named, encode, typed
from sentinel_gateway.core.chat import ChatRequest
from sentinel_gateway.core.embeddings import MAX_IDS, MAX_ITEMS, Item, items_of
from sentinel_gateway.errors import InvalidField

EXAMPLE: Final = '{"model": "demo", "input": "The Danube rises in the Black Forest."}'
MAX_PARTS: Final = MAX_IDS + 2 * MAX_ITEMS
"""Keys and values in a body. A token id takes a tenth of the time that most others take."""
FORMATS: Final = (None, "float", "base64")
MAX_DIMENSIONS: Final = 65_536
EXACT: Final = 0.0
"""The temperature at which a vector is made, as lifetimes see it: the same is asked for, and the same comes back."""


class _Body(Named):
    input: Any
    encoding_format: str | None = None
    dimensions: int | None = None
    user: str | None = None


_KNOWN: Final = frozenset(_Body.__struct_fields__)


def read_embeddings(raw: bytes, *, max_depth: int) -> ChatRequest:
    """A request for embeddings from a body; raises `InvalidBody` or `InvalidField`."""
    fields = read_object(raw, max_depth=max_depth, example=EXAMPLE, max_parts=MAX_PARTS)
    body = typed(fields, _Body, _KNOWN)
    _check(items_of(body.input))
    if body.encoding_format not in FORMATS:
        raise InvalidField("'encoding_format' must be 'float' or 'base64'.", param="encoding_format")
    if body.dimensions is not None and not 1 <= body.dimensions <= MAX_DIMENSIONS:
        raise InvalidField(f"'dimensions' must be between 1 and {MAX_DIMENSIONS}.", param="dimensions")
    return ChatRequest(fields=fields, model=body.model, temperature=EXACT)


def _check(items: list[Item] | None) -> None:
    if items is None:
        kinds = "a text, a list of texts, a list of token ids, or a list of such lists"
        raise InvalidField(f"Invalid value for 'input': expected {kinds}, and nothing else in one.", param="input")
    if len(items) > MAX_ITEMS:
        raise InvalidField(f"'input' has {len(items)} items: send at most {MAX_ITEMS} at a time.", param="input")
    if not all(items):
        raise InvalidField("'input' has an empty item: there is no vector of nothing.", param="input")
    ids = [item for item in items if not isinstance(item, str)]
    if sum(map(len, ids)) > MAX_IDS:
        raise InvalidField(f"'input' has more than {MAX_IDS:,} token ids: send fewer at a time.", param="input")
    if any(number < 0 for item in ids for number in item):
        raise InvalidField("'input' has a token id below 0.", param="input")


def embeddings_body(vectors: Sequence[bytes], *, model: str, tokens: int) -> bytes:
    """OpenAI's list of embeddings. `vectors` as `core.embeddings` keeps them; `tokens` of all of them together."""
    data = b",".join(b'{"object":"embedding","index":%d,%b' % found for found in enumerate(vectors))
    usage = b'"usage":{"prompt_tokens":%d,"total_tokens":%d}' % (tokens, tokens)
    return b'{"object":"list","data":[%b],"model":%b,%b}' % (data, encode(model), usage)
