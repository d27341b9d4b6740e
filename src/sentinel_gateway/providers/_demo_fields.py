"""The demo's answer where a DSPy program asks: the fields that its `ChatAdapter` wants, each with what its type allows.

Without this no program could be tried before there is a key: a text that restates the question fits no program's outputs.
"""

import re
from typing import Final

import msgspec

from sentinel_gateway.providers._instances import NoInstance, make_instance

WANTED: Final = "Respond with the corresponding output fields, starting with the field `[[ ## "
_NAME: Final = re.compile(r"`\[\[ ## (\w+) ## \]\]`")
_SECTION: Final = re.compile(r"^\[\[ ## \w+ ## \]\]\n(.*?)(?=^\[\[ ## \w+ ## \]\]$|\Z)", re.DOTALL | re.MULTILINE)
_NOTE: Final = re.compile(r"^\{(\w+)\} {8}# note: the value you produce (.+)$", re.MULTILINE)
_ONE_OF: Final = re.compile(r"must (?:be|exactly match \(no extra characters\)) one of: (.+)")
_SCHEMA: Final = "must adhere to the JSON schema: "
_PLAIN: Final = {
    "must be True or False": "True",
    "must be a single int value": "1",
    "must be a single float value": "1.0",
}
COMPLETED: Final = "completed"
"""The mark at the end, which is no field."""


def first_input(asked: str) -> str | None:
    """What the program was asked, if a program's message is what `asked` is."""
    body, wanted, _ = asked.rpartition(WANTED)
    found = _SECTION.search(body) if wanted else None
    return found[1].strip() if found else None


def fill(system: str, asked: str, *, text: str) -> str:
    """The fields that are wanted, in their order; those of type str say `text`. Raises `NoInstance`."""
    notes = dict(_NOTE.findall(system))
    names = [name for name in _NAME.findall(asked[asked.rindex(WANTED) :]) if name != COMPLETED]
    fields = [f"[[ ## {name} ## ]]\n{_value(notes.get(name, ''), text)}" for name in names]
    return "\n\n".join([*fields, f"[[ ## {COMPLETED} ## ]]"])


def _value(note: str, text: str) -> str:
    if not note:
        return text
    if choices := _ONE_OF.fullmatch(note):
        return choices[1].split("; ")[-1]  # of an agent's tools the last is the one that ends its work
    if note.startswith(_SCHEMA):
        try:
            schema = msgspec.json.decode(note.removeprefix(_SCHEMA))
        except msgspec.MsgspecError as exc:
            raise NoInstance("the schema isn't valid JSON") from exc
        return msgspec.json.encode(make_instance(schema)).decode()
    return _PLAIN.get(note, text)
