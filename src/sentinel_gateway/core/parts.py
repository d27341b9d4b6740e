"""How many keys and values JSON has, counted in its bytes: before a parse makes objects of them, which takes far longer.

It leans on what holds for all JSON: a backslash stands only within strings, and outside of strings there is one sign for each.
"""

from typing import Final

_SIGNS: Final = b"{[:,"
"""Outside of strings, as many as there are keys and values but for the whole itself; an empty object or list counts twice."""
FEW_QUOTES: Final = 1000
"""It is looked whether one of so few is escaped: to take all escapes out of a long text takes twice as long."""


def has_more_parts(raw: bytes, most: int) -> bool:
    """Has it more than `most` keys and values? Any answer will do for what is no JSON."""
    if len(raw) <= most or len(raw) - len(raw.translate(None, _SIGNS)) <= most:
        return False
    if raw.count(b'"') > FEW_QUOTES or any(part.endswith(b"\\") for part in raw.split(b'"')):
        raw = raw.replace(rb"\\", b"").replace(rb"\"", b"")  # now each quote begins or ends a string
    if raw.count(b'"') > 2 * most + 2:
        return True  # every string is a key or a value
    outside = b"".join(raw.split(b'"')[::2])
    return len(outside) - len(outside.translate(None, _SIGNS)) > most
