"""JSON texts, in all spellings that the same may have, and how the standard library reads them."""

import json
from typing import Any

from hypothesis import strategies as st

SHORT = {'"': '\\"', "\\": "\\\\", "/": "\\/", "\n": "\\n", "\b": "\\b"}
"""Escapes of one letter; of these only the solidus may stand unescaped."""


def spellings(char: str) -> list[str]:
    number = f"{ord(char):04x}"
    escaped = [f"\\u{number}", f"\\u{number.upper()}"] + ([SHORT[char]] if char in SHORT else [])
    return escaped if char in '"\\' or ord(char) < ord(" ") else [char, char, *escaped]


def written_text(alphabet: str) -> st.SearchStrategy[str]:
    """Strings as JSON, each of their characters in any of its spellings."""
    spelled = [spelling for char in alphabet for spelling in spellings(char)]
    return st.lists(st.sampled_from(spelled), max_size=4).map(lambda parts: f'"{"".join(parts)}"')


SPACE = st.sampled_from(["", "", " ", "\n", "\t\r"])
KEY = written_text('a:"\\')
TEXT = written_text('a:u03"\\/{}[],\n\bé\u003a')
SCALAR = TEXT | st.sampled_from(["0", "-1.5e3", "true", "null", "{}", "[ ]"])


def written_list(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.builds(lambda items, space: "[" + f",{space}".join(items) + "]", st.lists(inner, min_size=1, max_size=4), SPACE)


def written_object(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pair = st.builds(lambda key, space, value: f"{key}{space}:{space}{value}", KEY, SPACE, inner)
    return st.builds(lambda pairs, space: "{" + f"{space},".join(pairs) + "}", st.lists(pair, min_size=1, max_size=4), SPACE)


BODY = written_object(st.recursive(SCALAR, lambda inner: written_list(inner) | written_object(inner), max_leaves=12))


class Pairs(list[tuple[str, Any]]):
    """An object as the pairs that stand in it."""


def pairs_of(raw: str) -> Any:
    return json.loads(raw, object_pairs_hook=Pairs)
