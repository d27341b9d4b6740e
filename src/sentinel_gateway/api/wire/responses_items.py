"""The items of a response's input as the messages of a chat: what was said, what was called, and what came of it."""

from typing import Any, Final

from sentinel_gateway.core.chat import Fields
from sentinel_gateway.errors import InvalidField

ROLES: Final = frozenset({"user", "assistant", "system", "developer"})
CALLS: Final = {"function_call": ("function", "arguments"), "custom_tool_call": ("custom", "input")}
"""The kinds of calls: by what name a chat has them, and where their text stands."""
OUTPUTS: Final = frozenset({"function_call_output", "custom_tool_call_output"})
WORDS: Final = frozenset({"input_text", "output_text", "text", "reasoning_text"})


def messages_of(instructions: str | None, items: str | list[Fields]) -> list[Fields]:
    """The messages of a chat; raises `InvalidField` for what a chat has no place for."""
    messages: list[Fields] = [{"role": "system", "content": instructions}] if instructions else []
    if isinstance(items, str):
        return [*messages, {"role": "user", "content": items}]
    for place, item in enumerate(items):
        _add(messages, item, f"input[{place}]")
    return messages


def _add(messages: list[Fields], item: Fields, where: str) -> None:
    kind = str(item.get("type") or "message")
    if kind == "message":
        messages.append(_message(item, where))
    elif kind in CALLS:
        _calls_of(messages).append(_call(item, where))
    elif kind in OUTPUTS:
        messages.append(_result(item, where))
    elif kind != "reasoning":  # what a model thought before is nothing that a chat takes back
        raise _refusal(f"An item of type '{kind[:100]}' can't be carried to a chat model", f"{where}.type")


def _message(item: Fields, where: str) -> Fields:
    role = str(item.get("role"))
    if role not in ROLES:
        raise _refusal(f"A message's role is one of {', '.join(sorted(ROLES))}", f"{where}.role")
    return {"role": role, "content": _content(item.get("content"), f"{where}.content")}


def _calls_of(messages: list[Fields]) -> list[Fields]:
    """The calls of the turn that the assistant is in; it begins one if it is in none."""
    if not messages or messages[-1]["role"] != "assistant":
        messages.append({"role": "assistant", "content": None})
    calls: list[Fields] = messages[-1].setdefault("tool_calls", [])
    return calls


def _call(item: Fields, where: str) -> Fields:
    kind, place = CALLS[item["type"]]
    call_id, name, said = (_text(item, member, where) for member in ("call_id", "name", place))
    return {"id": call_id, "type": kind, kind: {"name": name, place: said}}


def _result(item: Fields, where: str) -> Fields:
    content = _content(item.get("output"), f"{where}.output")
    if not isinstance(content, str) and any(part["type"] != "text" for part in content):
        raise _refusal("What a tool comes back with can only be text for a chat model", f"{where}.output")
    return {"role": "tool", "tool_call_id": _text(item, "call_id", where), "content": content}


def _text(item: Fields, member: str, where: str) -> str:
    value = item.get(member)
    if not isinstance(value, str):
        raise _refusal(f"An item of type '{item['type']}' needs '{member}', a text", f"{where}.{member}")
    return value


def _content(content: Any, where: str) -> str | list[Fields]:
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not content:
        raise _refusal("Content is a text, or a list of parts", where)
    parts = [_part(part, f"{where}[{place}]") for place, part in enumerate(content)]
    text: str | None = parts[0].get("text") if len(parts) == 1 else None
    return parts if text is None else text


def _part(part: Any, where: str) -> Fields:
    match part:
        case {"type": str(kind), "text": str(text)} if kind in WORDS:
            return {"type": "text", "text": text}
        case {"type": "refusal", "refusal": str(refusal)}:
            return {"type": "refusal", "refusal": refusal}
        case {"type": "input_image", "image_url": str(url)}:
            detail = part.get("detail")
            return {"type": "image_url", "image_url": {"url": url} | ({"detail": detail} if detail else {})}
        case {"type": "input_file"} if not part.get("file_url"):
            file = {name: part[name] for name in ("file_data", "file_id", "filename") if part.get(name) is not None}
            return {"type": "file", "file": file}
        case {"type": "input_audio", "input_audio": dict(audio)}:
            return {"type": "input_audio", "input_audio": audio}
    raise _refusal("This part of the content can't be carried to a chat model", where)


def _refusal(sentence: str, where: str) -> InvalidField:
    return InvalidField(f"Invalid value for '{where}': {sentence[0].lower()}{sentence[1:]}.", param=where)
