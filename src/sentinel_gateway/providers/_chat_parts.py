"""What the messages of a chat say, read once from OpenAI's shape for the providers that speak otherwise.

Pure. Nothing that says something is passed over: what has no place here is `Unfit`, with the field that holds it.
"""

import re
from collections.abc import Collection, Iterator
from typing import Any, Final, Literal

import msgspec

from sentinel_gateway.core.chat import Fields

HTTP: Final = ("https://", "http://")
_UNTOLD: Final = frozenset({"role", "annotations", "reasoning", "reasoning_content"})
"""Members that are read elsewhere, or repeat what an answer carried beside its words: no provider wants them back."""
_MEMBERS: Final = {
    "system": frozenset({"content", "cache_control"}),
    "developer": frozenset({"content", "cache_control"}),
    "user": frozenset({"content", "cache_control"}),
    "assistant": frozenset({"content", "cache_control", "refusal", "tool_calls", "thinking_blocks", "block_order"}),
    "tool": frozenset({"content", "cache_control", "tool_call_id", "name", "is_error"}),
}
_WORDS: Final = ("text", "refusal")
_TYPES: Final = (*_WORDS, "image_url", "input_audio", "file")
"""Of parts. No sets: what a caller names as a type need be nothing that hashes."""
_UNSAFE_IN_ID: Final = re.compile(r"[^\w-]", re.ASCII)


class Unfit(Exception):
    """The request can't be asked of this provider. `why` completes a sentence about it, and names the fix."""

    def __init__(self, why: str, param: str) -> None:
        super().__init__(why)
        self.why = why
        self.param = param


class Text(msgspec.Struct, frozen=True):
    """Words, never none. `cache` is the `cache_control` that stood beside them."""

    text: str
    cache: Fields | None = None


class Media(msgspec.Struct, frozen=True):
    """An image, a recording or a file: `data` in base64 with its type, or the `url` where it is. `place` is the field."""

    place: str
    media_type: str = ""
    data: str = ""
    url: str = ""
    name: str = ""
    cache: Fields | None = None


class ToolUse(msgspec.Struct, frozen=True):
    """The model calls a tool. `signature` is Gemini's proof of the thought behind it."""

    id: str
    name: str
    arguments: Fields
    signature: str = ""
    cache: Fields | None = None


class ToolResult(msgspec.Struct, frozen=True):
    """What a tool said, or how it `failed`. `name` is the tool's, as the call named it; empty if no call did."""

    id: str
    name: str
    content: tuple[Text | Media, ...]
    cache: Fields | None = None
    failed: bool = False


class Thought(msgspec.Struct, frozen=True):
    """A `thinking_blocks` item, as the answer that it comes from had it."""

    block: Fields


Part = Text | Media | ToolUse | ToolResult | Thought


_KINDS: Final[dict[str, type[Part]]] = {"thinking": Thought, "text": Text, "tool_use": ToolUse}
"""Of what an assistant says, in the order in which a chat has them."""


class Turn(msgspec.Struct, frozen=True):
    """What one side says until the other does. Never empty."""

    role: Literal["user", "assistant"]
    parts: tuple[Part, ...]


def read_messages(messages: list[Any]) -> tuple[tuple[Text, ...], tuple[Turn, ...]]:
    """The instructions of all system and developer messages, and the turns; raises `Unfit`.

    Messages of one side that follow each other are one turn. What says nothing at all is left out.
    """
    system: list[Text] = []
    turns: list[tuple[Literal["user", "assistant"], list[Part]]] = []
    names: dict[str, str] = {}
    for number, message in enumerate(messages):
        place = f"messages.{number}"
        role = message.get("role") if isinstance(message, dict) else None
        _check_members(message, role, place)
        if role in {"system", "developer"}:
            system += _texts(message, place)
            continue
        side: Literal["user", "assistant"] = "assistant" if role == "assistant" else "user"
        parts = list(_parts(message, place, names))
        if parts and turns and turns[-1][0] == side:
            turns[-1][1].extend(parts)
        elif parts:
            turns.append((side, parts))
    return tuple(system), tuple(Turn(side, tuple(parts)) for side, parts in turns)


def check_known(fields: Fields, known: Collection[str], place: str) -> None:
    """Is everything that is set in here known? Raises `Unfit`."""
    for name, value in fields.items():
        if name not in known and value not in (None, False, "", [], {}):
            param = f"{place}.{name}".lstrip(".")
            raise Unfit(f"can't be given '{param}': leave it out, or ask another provider", param)


def _check_members(message: Any, role: Any, place: str) -> None:
    if role not in _MEMBERS:
        raise Unfit("takes messages of system, developer, user, assistant and tool only", f"{place}.role")
    if role != "tool" and message.get("name"):
        raise Unfit("has no names for who speaks: write the name into the content", f"{place}.name")
    check_known(message, _MEMBERS[role] | _UNTOLD, place)


def _parts(message: Fields, place: str, names: dict[str, str]) -> Iterator[Part]:
    match message["role"]:
        case "user":
            yield from _content(message, place)
        case "tool":
            yield _tool_result(message, place, names)
        case _:
            yield from _arranged(list(_spoken(message, place, names)), message.get("block_order"))


def _spoken(message: Fields, place: str, names: dict[str, str]) -> Iterator[Part]:
    """What an assistant said: thoughts, text, calls of tools."""
    yield from _thoughts(message, place)
    yield from _texts(message, place)
    if refusal := message.get("refusal"):
        yield Text(text_of(refusal, f"{place}.refusal"))
    for call in _tool_uses(message.get("tool_calls"), f"{place}.tool_calls"):
        names[call.id] = call.name
        yield call


def _arranged(parts: list[Part], order: Any) -> Iterator[Part]:
    """As they stood, if that is known: for each its kind, in `block_order`."""
    kinds = {name: [part for part in parts if isinstance(part, kind)] for name, kind in _KINDS.items()}
    for kind in order if isinstance(order, list) else ():
        if isinstance(kind, str) and kinds.get(kind):
            yield kinds[kind].pop(0)
    for rest in kinds.values():
        yield from rest


def _content(message: Fields, place: str) -> list[Text | Media]:
    """What a message says, in its order; a `cache_control` of the message itself belongs to the last of it."""
    content = message.get("content")
    if isinstance(content, list):
        parts = [read for number, part in enumerate(content) if (read := _part(part, f"{place}.content.{number}")) is not None]
    else:
        text = "" if content is None else text_of(content, f"{place}.content")
        parts = [Text(text)] if text else []
    cache = message.get("cache_control")
    if cache and parts:
        parts[-1] = msgspec.structs.replace(parts[-1], cache=object_of(cache, f"{place}.cache_control"))
    return parts


def _texts(message: Fields, place: str) -> Iterator[Text]:
    for part in _content(message, place):
        if isinstance(part, Media):
            raise Unfit(f"takes text only from '{message['role']}': send it in a user's message", part.place)
        yield part


def _part(part: Any, place: str) -> Text | Media | None:
    part = object_of(part, place)
    kind, cache = part.get("type"), part.get("cache_control")
    if kind not in _TYPES:
        raise Unfit("takes parts of the types text, image_url, input_audio and file only", f"{place}.type")
    check_known(part, {"type", "cache_control", kind}, place)
    cache = object_of(cache, f"{place}.cache_control") if cache else None
    if kind in _WORDS:
        text = text_of(part.get(kind), f"{place}.{kind}")
        return Text(text, cache) if text else None
    return msgspec.structs.replace(_media(kind, part.get(kind), f"{place}.{kind}"), cache=cache)


def _media(kind: str, value: Any, place: str) -> Media:
    if kind == "image_url" and isinstance(value, str):
        value = {"url": value}
    value = object_of(value, place)
    match kind:
        case "image_url":
            check_known(value, {"url", "detail"}, place)
            return _located(text_of(value.get("url"), f"{place}.url"), f"{place}.url")
        case "input_audio":
            check_known(value, {"data", "format"}, place)
            data, form = (text_of(value.get(name), f"{place}.{name}") for name in ("data", "format"))
            return Media(place, f"audio/{form}", data)
        case _:
            if value.get("file_id"):
                raise Unfit("has no files of OpenAI's: send the file itself as file_data", f"{place}.file_id")
            check_known(value, {"file_data", "filename"}, place)
            file = _located(text_of(value.get("file_data"), f"{place}.file_data"), f"{place}.file_data")
            return msgspec.structs.replace(file, name=text_of(value.get("filename") or "", f"{place}.filename"))


def _located(url: str, place: str) -> Media:
    """From a URL that holds the thing itself, or says where it is."""
    head, comma, data = url.partition(",")
    if comma and head.startswith("data:") and head.endswith(";base64"):
        return Media(place, head.removeprefix("data:").partition(";")[0], data)
    if not url.startswith(HTTP):
        raise Unfit("needs a URL that is https://..., or data:TYPE;base64,...", place)
    return Media(place, url=url)


def _tool_result(message: Fields, place: str, names: dict[str, str]) -> ToolResult:
    call = tool_id(message.get("tool_call_id"), f"{place}.tool_call_id")
    cache = message.get("cache_control")
    content = tuple(_content({**message, "cache_control": None}, place))
    name = names.get(call) or text_of(message.get("name") or "", f"{place}.name")
    cache = object_of(cache, f"{place}.cache_control") if cache else None
    return ToolResult(call, name, content, cache, failed=message.get("is_error") is True)


def _tool_uses(calls: Any, place: str) -> Iterator[ToolUse]:
    for number, call in enumerate(_list(calls, place)):
        here = f"{place}.{number}"
        call = object_of(call, here)  # noqa: PLW2901 - the same, known to be an object
        if call.get("type", "function") != "function":
            raise Unfit("knows tools of the type function only", f"{here}.type")
        check_known(call, {"id", "type", "function", "index", "extra_content", "cache_control"}, here)
        function = object_of(call.get("function"), f"{here}.function")
        check_known(function, {"name", "arguments"}, f"{here}.function")
        name = text_of(function.get("name"), f"{here}.function.name")
        arguments = _arguments(function.get("arguments") or "{}", f"{here}.function.arguments")
        call_id, signature = tool_id(call.get("id"), f"{here}.id"), _signature(call.get("extra_content"))
        cache = object_of(hint, f"{here}.cache_control") if (hint := call.get("cache_control")) else None
        yield ToolUse(call_id, name, arguments, signature, cache)


def _arguments(text: Any, place: str) -> Fields:
    try:
        return object_of(msgspec.json.decode(text), place)
    except (ValueError, TypeError, RecursionError):
        raise Unfit("needs the arguments of a call as a JSON object, in a string", place) from None


def _signature(extra: Any) -> str:
    """Google's own place for it in OpenAI's shape; what others keep there is theirs."""
    google = extra.get("google") if isinstance(extra, dict) else None
    signature = google.get("thought_signature") if isinstance(google, dict) else None
    return signature if isinstance(signature, str) else ""


def _thoughts(message: Fields, place: str) -> Iterator[Thought]:
    """Without the number that a stream gave it."""
    for number, block in enumerate(_list(message.get("thinking_blocks"), f"{place}.thinking_blocks")):
        members = object_of(block, f"{place}.thinking_blocks.{number}")
        yield Thought({name: value for name, value in members.items() if name != "index"})


def tool_id(value: Any, place: str) -> str:
    """An id that every provider takes: some write signs into theirs that others refuse."""
    text = text_of(value, place)
    if not text:
        raise Unfit("needs an id for every call of a tool and for its result", place)
    return safe_id(text)


def safe_id(text: str) -> str:
    """The id of a call without the signs that others refuse."""
    return _UNSAFE_IN_ID.sub("_", text)


def text_of(value: Any, place: str) -> str:
    """The value, if it is a string."""
    if not isinstance(value, str):
        raise Unfit(f"needs a string as '{place}'", place)
    return value


def object_of(value: Any, place: str) -> Fields:
    """The value, if it is an object."""
    if not isinstance(value, dict):
        raise Unfit(f"needs an object as '{place}'", place)
    return value


def _list(value: Any, place: str) -> list[Any]:
    if value is not None and not isinstance(value, list):
        raise Unfit(f"needs a list as '{place}'", place)
    return value or []
