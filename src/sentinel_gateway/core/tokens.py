"""What of a chat request costs input tokens, and with which encoding its texts are counted.

The sums are the ones that OpenAI publishes for its chat models: so much for each message, name and tool, and the tokens of
their texts. What has no published sum is estimated: a nested schema or a tool call by its JSON, an image or a file by a bound.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final, Literal

import msgspec

from sentinel_gateway.core.chat import Answer, ChatRequest, Fields, Usage

Encoding = Literal["cl100k", "o200k"]

CL100K: Final = ("gpt-4", "gpt-3.5", "gpt-35", "text-embedding-3-", "text-embedding-ada-002", "davinci-002", "babbage-002")
O200K: Final = ("gpt-4o", "gpt-4.1", "gpt-4.5", "chatgpt-4o", "gpt-5", "gpt-oss", "o1", "o3", "o4-mini")
"""Names of models and of families; a name goes on after a sign that is no letter and no digit."""
ENDS_NAME: Final = frozenset("-.:@")

EVERY_MESSAGE: Final = 3
EVERY_NAME: Final = 1
EVERY_REPLY: Final = 3
"""The reply is begun for the model."""
EVERY_TOOL: Final[dict[Encoding, int]] = {"cl100k": 10, "o200k": 7}
ALL_TOOLS: Final = 12
ALL_PROPERTIES: Final = 3
EVERY_PROPERTY: Final = 3
EVERY_ENUM: Final = -3
EVERY_ENUM_ITEM: Final = 3
PUBLISHED: Final = frozenset({"type", "description", "enum"})
"""Members of a tool's parameter whose tokens are known."""
BYTES_PER_TOKEN: Final = 4
MEDIA_TOKENS: Final = 1445
"""Of a picture: OpenAI's count of the largest in high detail."""

_encode = msgspec.json.Encoder().encode


class TokenCount(msgspec.Struct, frozen=True):
    """Tokens; `exact` is False where they are estimated."""

    tokens: int
    exact: bool


class Expected(msgspec.Struct, frozen=True):
    """What a request may come to in tokens, as far as that is known before it is answered.

    `tokens`: its input as it is counted, and as much output as it allows. `ceiling`: tokens of its input that none goes beyond.
    """

    tokens: int
    ceiling: int


@lru_cache(maxsize=1024)
def encoding_of(model: str) -> Encoding | None:
    """The encoding of one of OpenAI's models, whoever serves it ("openai/gpt-4o" as well); None for another family."""
    name = model.lower().rpartition("/")[2].removeprefix("ft:")
    if any(_is_of(name, family) for family in O200K):
        return "o200k"
    return "cl100k" if any(_is_of(name, family) for family in CL100K) else None


def _is_of(name: str, family: str) -> bool:
    return name.startswith(family) and (family.endswith("-") or name[len(family) : len(family) + 1] in {"", *ENDS_NAME})


def estimate(texts: Sequence[str]) -> TokenCount:
    """Without an encoding: a token for every four bytes."""
    return TokenCount(-(-sum(map(bytes_of, texts)) // BYTES_PER_TOKEN), exact=False)


def bytes_of(text: str) -> int:
    """The length of a text in UTF-8; half a surrogate pair counts as one byte."""
    return len(text) if text.isascii() else len(text.encode(errors="replace"))


def countable(fields: Fields, *, model: str, media_tokens: int) -> "Countable":
    """The input of a chat request to `model`. `media_tokens` is the bound for an image, a recording or a file."""
    encoding = encoding_of(model)
    asked = Countable([], 0, encoding or "o200k", encoding is not None, media_tokens)
    for message in fields["messages"]:
        asked.add_message(message)
    asked.fixed += EVERY_REPLY
    tools, functions = fields.get("tools"), fields.get("functions")
    if tools or functions:
        called = [tool.get("function", tool) if isinstance(tool, dict) else tool for tool in tools or ()]
        asked.add_tools([*called, *(functions or ())])
    if (response_format := fields.get("response_format")) is not None:
        asked.add_json(response_format)
    return asked


def about(fields: Fields, *, media_tokens: int = MEDIA_TOKENS) -> int:
    """Tokens of a chat request's input, where nobody has counted them."""
    asked = countable(fields, model="", media_tokens=media_tokens)
    return asked.total(estimate(asked.texts)).tokens


def usage_about(fields: Fields, *, completion: int = 0) -> Usage:
    """The usage of a call whose provider told none, and said about so many tokens; marked as estimated."""
    prompt = about(fields) if "messages" in fields else estimate([_encode(fields.get("input")).decode()]).tokens
    return Usage(prompt, completion, prompt + completion, estimated=True)


def said_about(answer: Answer) -> int:
    """Tokens of what a whole answer says, where nobody has counted them."""
    said = Countable([], 0, "o200k", exact=False)
    for choice in answer.fields["choices"]:
        said.add_message({name: value for name, value in choice["message"].items() if name != "role"})
    return estimate(said.texts).tokens


def within(request: ChatRequest, completion: int) -> int:
    """So many tokens of output, or as many as the request allows if these are fewer: nobody estimates beyond what is held."""
    return completion if request.token_limit is None else min(completion, request.choices * request.token_limit)


class Countable(msgspec.Struct):
    """What makes up a request's input: `texts` to be counted with `encoding`, and `fixed` tokens beside them.

    `exact` is False if the sum will be an estimate however well the texts are counted. `media_tokens` is the bound for an image,
    a recording or a file.
    """

    texts: list[str]
    fixed: int
    encoding: Encoding
    exact: bool
    media_tokens: int = 0

    def total(self, counted: TokenCount) -> TokenCount:
        """The whole input, once its texts are counted."""
        return TokenCount(self.fixed + counted.tokens, self.exact and counted.exact)

    def size(self) -> int:
        """The bytes of its texts: there are no more tokens in them, whoever counts, as each takes one at least."""
        return bytes_of("".join(self.texts))

    def add_json(self, value: Any) -> None:
        self.texts.append(_encode(value).decode())
        self.exact = False

    def add_message(self, message: Fields) -> None:
        self.fixed += EVERY_MESSAGE
        for name, value in message.items():
            if isinstance(value, str):
                self.texts.append(value)
                if name == "name":
                    self.fixed += EVERY_NAME
            elif name == "content" and isinstance(value, list):
                self._add_parts(value)
            elif value is not None:
                self.add_json(value)

    def _add_parts(self, parts: list[Any]) -> None:
        for part in parts:
            text = part.get("text", part.get("refusal")) if isinstance(part, dict) else None
            if isinstance(text, str):
                self.texts.append(text)
            else:
                self.fixed += self.media_tokens
                self.exact = False

    def add_tools(self, tools: list[Any]) -> None:
        self.exact = False
        self.fixed += ALL_TOOLS
        for tool in tools:
            self.fixed += EVERY_TOOL[self.encoding]
            self._add_tool(tool)

    def _add_tool(self, tool: Any) -> None:
        parameters = tool.get("parameters") if isinstance(tool, dict) else None
        properties = parameters.get("properties") if isinstance(parameters, dict) else None
        if not isinstance(properties, dict) or "name" not in tool:
            self.add_json(tool)
            return
        self.texts.append(f"{tool['name']}:{_told(tool)}")
        self.fixed += ALL_PROPERTIES if properties else 0
        for name, schema in properties.items():
            self.fixed += EVERY_PROPERTY
            self._add_property(name, schema)

    def _add_property(self, name: str, schema: Any) -> None:
        if not isinstance(schema, dict) or not schema.keys() <= PUBLISHED or not isinstance(schema.get("enum", []), list):
            self.add_json({name: schema})
            return
        self.texts.append(f"{name}:{schema.get('type', '')}:{_told(schema)}")
        if items := schema.get("enum"):
            self.fixed += EVERY_ENUM + EVERY_ENUM_ITEM * len(items)
            self.texts += map(str, items)


def _told(schema: Fields) -> str:
    return str(schema.get("description", "")).removesuffix(".")
