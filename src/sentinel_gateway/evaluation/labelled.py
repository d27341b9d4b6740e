"""Questions with known truths, from rows: pairs (may the answer to one serve the other?) or a stream (which answer is right?)."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from sentinel_gateway.evaluation.rows import Bad, BadLines, Row, Unusable
from sentinel_gateway.evaluation.streams import OUT_OF_SCOPE

STORED: Final = ("text_a", "question1", "cached_query")
ASKED: Final = ("text_b", "question2", "probe_query")
LABEL: Final = ("label", "is_duplicate")
QUESTION: Final = ("query", "text", "question")
CLASS: Final = ("class", "intent")
CATEGORY: Final = "category"
"""Names of columns, the first that is there is taken."""
TRUE: Final = frozenset({"1", "true", "yes"})
FALSE: Final = frozenset({"0", "false", "no"})
TEXT_CHARACTERS: Final = 100_000
"""Of one question. Those that the gateway compares have a hundredth of it."""


class Bounds(msgspec.Struct, frozen=True):
    """How much of a file is read. A stream is ranked against itself, which takes the square of its length."""

    pairs: int = 200_000
    queries: int = 30_000
    characters: int = 256 << 20


WIDE: Final = Bounds()


class Pair(NamedTuple):
    """May the answer to `stored` serve `asked`?"""

    stored: str
    asked: str
    same: bool
    category: str


class Query(NamedTuple):
    """Whose answer is right? That of every other question with the same `answer`; None: of no other."""

    text: str
    answer: str | None
    category: str


class Labelled(msgspec.Struct, frozen=True):
    """What a file holds, of one kind, with all that could not be used. `cut`: why it was not read to its end."""

    pairs: Sequence[Pair]
    queries: Sequence[Query]
    bad: BadLines
    cut: str | None = None


def read_labelled(name: str, rows: Iterable[Row | Bad], *, category: str, limit: int | None, bounds: Bounds = WIDE) -> Labelled:
    """All of a file, or its first `limit` rows; raises `Unusable` if there is nothing in it that could be used."""
    pairs: list[Pair] = []
    queries: list[Query] = []
    bad = BadLines()
    held = 0
    cut = None
    for row in rows:
        found = row if isinstance(row, Bad) else _read(row, category)
        if isinstance(found, Bad):
            bad.add(found)
            continue
        cut = _limited(limit, len(pairs) + len(queries)) or _enough(bounds, len(pairs), len(queries), held)
        if cut is not None:
            break
        held += sum(len(text) for text in found[:2] if text is not None)
        if isinstance(found, Pair) and not queries:
            pairs.append(found)
        elif isinstance(found, Query) and not pairs:
            queries.append(found)
        else:
            bad.add(Bad(row.line, "is of another kind than those before: pairs and queries belong into files of their own"))
    if not pairs and not queries:
        raise Unusable(_nothing(name, bad))
    return Labelled(pairs, queries, bad, cut)


def _limited(limit: int | None, rows: int) -> str | None:
    return f"only the first {limit:,} rows were read, as asked for with --limit" if limit is not None and rows >= limit else None


def _enough(bounds: Bounds, pairs: int, queries: int, held: int) -> str | None:
    if pairs >= bounds.pairs:
        return f"only the first {pairs:,} pairs were read: split the file to measure the rest"
    if queries >= bounds.queries:
        return f"only the first {queries:,} queries were read: a longer stream takes the square of its length"
    if held > bounds.characters:
        return f"only the first {held:,} characters of text were read: split the file to measure the rest"
    return None


def _nothing(name: str, bad: BadLines) -> str:
    wanted = (
        "its first line must name the columns, or each line be a JSON object: text_a, text_b, label for pairs; "
        "query, class for a stream (see sentinel eval --help)"
    )
    return f"{name} has no line that can be used{bad.first()}: {wanted}"


def _read(row: Row, category: str) -> Pair | Query | Bad:
    fields = row.fields
    kind = str(fields.get(category) or "")
    a, b, label = (_first(fields, names) for names in (STORED, ASKED, LABEL))
    if a is not None and b is not None:
        return _pair(row.line, a, b, label, kind)
    text = _first(fields, QUESTION)
    if text is None:
        return Bad(row.line, "has neither text_a and text_b nor query")
    answer = _first(fields, CLASS)
    if answer is None and not fields.keys() & set(CLASS):
        return Bad(row.line, "has a query but no class")
    if not _is_text(text):
        return Bad(row.line, f"has a query that is no text of 1 to {TEXT_CHARACTERS:,} characters")
    return Query(text, _class(answer), kind)


def _pair(line: int, a: Any, b: Any, label: Any, kind: str) -> Pair | Bad:
    if not _is_text(a) or not _is_text(b):
        return Bad(line, f"has a text that is none of 1 to {TEXT_CHARACTERS:,} characters")
    same = _truth(label)
    if same is None:
        return Bad(line, "has no label: 1 where the answer to text_a may serve text_b, else 0")
    return Pair(a, b, same, kind)


def _class(value: Any) -> str | None:
    text = "" if value is None else str(value)
    return None if text in {"", OUT_OF_SCOPE} else text


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= TEXT_CHARACTERS and not value.isspace()


def _truth(value: Any) -> bool | None:
    text = str(value).strip().lower()
    return True if text in TRUE else False if text in FALSE else None


def _first(fields: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((fields[name] for name in names if name in fields), None)
