"""Evidence: decisions of the semantic tier, and what was said of them, in `sentinel.db` or where nodes keep it together."""

from array import array
from collections import Counter
from collections.abc import Sequence
from functools import partial
from hashlib import blake2b
from typing import Final

import msgspec

from sentinel_gateway.core.evidence import HOUR, Count, Decision, Finding, Findings, Label, Weighed
from sentinel_gateway.core.spending import DayCost
from sentinel_gateway.core.tightening import Stance
from sentinel_gateway.ports import Clock
from sentinel_gateway.stores._state import State, Statements

DAY: Final = 86_400.0
MOST_LABELS: Final = 5_000
"""Labels that are looked at together."""
BUDGETS: Final = 100
"""Error budgets below the deployment's that are looked at, the busiest."""
BETWEEN: Final = "\n"
"""Between the names of budgets: it is in none."""
SWEPT: Final = 1_000
"""Old decisions that go with each lot of new ones: more than come, so that what is kept stays bounded."""

_KEEP: Final = """
INSERT INTO decisions (id, request_id, tenant, at, scope, entry, owner, similarity, kind, drawn, realm, budgets, weighed)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING
"""
_FIND: Final = """
SELECT id, request_id, tenant, at, scope, entry, owner, similarity, kind, drawn, realm, budgets, weighed
FROM decisions WHERE tenant = ? AND id = ?
UNION ALL
SELECT * FROM (SELECT id, request_id, tenant, at, scope, entry, owner, similarity, kind, drawn, realm, budgets, weighed
               FROM decisions WHERE tenant = ? AND request_id = ? ORDER BY row DESC LIMIT 1) AS latest
LIMIT 1
"""
_GET: Final = """
SELECT id, request_id, tenant, at, scope, entry, owner, similarity, kind, drawn, realm, budgets, weighed
FROM decisions WHERE id = ?
"""
_LABEL: Final = """
INSERT INTO labels (decision, source, correct, at) VALUES (?, ?, ?, ?)
ON CONFLICT (decision, source) DO UPDATE SET correct = excluded.correct, at = excluded.at
WHERE labels.correct <> excluded.correct
RETURNING decision
"""
_LABELS: Final = "SELECT decision, source, correct, at FROM labels WHERE decision = ? ORDER BY source"
_COUNT: Final = """
INSERT INTO hours (hour, scope, reached, hits) VALUES (?, ?, ?, ?)
ON CONFLICT (hour, scope) DO UPDATE SET reached = hours.reached + excluded.reached, hits = hours.hits + excluded.hits
"""
_FINDINGS: Final = """
SELECT decisions.id, decisions.at, scope, drawn, source, correct, budgets
FROM labels JOIN decisions ON decisions.id = labels.decision
WHERE labels.at >= ? AND decisions.at >= ? ORDER BY labels.at DESC LIMIT ?
"""
_TOTAL: Final = "SELECT coalesce(sum(reached), 0), coalesce(sum(hits), 0) FROM hours WHERE hour >= ? AND scope NOT LIKE '%:%'"
_BUSIEST: Final = """
SELECT scope, sum(reached), sum(hits) FROM (
    SELECT scope, reached, hits FROM hours WHERE hour >= ?
    UNION ALL SELECT scope, 0, 0 FROM stances WHERE level > 0 AND scope <> 'all'
) AS counted WHERE (scope LIKE '%:%') = ? AND scope <> 'rest'
GROUP BY scope ORDER BY scope IN (SELECT scope FROM stances WHERE level > 0) DESC, sum(hits) DESC, scope
LIMIT ? + (SELECT count(*) FROM stances WHERE level > 0)
"""
"""Of scopes, or of budgets, in whose names there is a colon (`core.budget.OF`); before them all that got stricter, for those have
no hits in the end, and are to take their steps back.
"""
_ANEW: Final = "DELETE FROM hours WHERE ? IN (scope, 'all')"
"""What was counted before a step is no measure of what is served since."""
_IDLE: Final = """
DELETE FROM hours WHERE hour < ? AND scope <> 'rest' AND scope NOT LIKE '%:%'
AND scope NOT IN (SELECT scope FROM hours WHERE hits > 0) AND scope NOT IN (SELECT scope FROM stances)
RETURNING hour, reached
"""
"""Each system prompt makes a scope, whoever sends it: those in which nothing was ever to serve are told together, so that their
number costs those nothing who look. They stay in the total; one that has hits later counts from about then.
"""
_TAKE: Final = """
INSERT INTO stances (scope, level, since) VALUES (?, ?, ?)
ON CONFLICT (scope) DO UPDATE SET level = excluded.level, since = excluded.since
"""
_ADOPT: Final = """
INSERT INTO stances (scope, level, since) VALUES (?, ?, ?)
ON CONFLICT (scope) DO UPDATE SET level = excluded.level, since = excluded.since WHERE stances.level < excluded.level
RETURNING scope
"""
_CAME: Final = "INSERT INTO facts (name, value) VALUES (?, ?) ON CONFLICT (name) DO NOTHING RETURNING name"
_SPENT: Final = "SELECT value FROM facts WHERE name = 'spent'"
_SPEND: Final = "INSERT INTO facts (name, value) VALUES ('spent', ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"
_OLD: Final = """
SELECT row, id FROM decisions WHERE row <= (SELECT max(bound) FROM (
    SELECT max(row) - ? AS bound FROM decisions
    UNION ALL SELECT row FROM (SELECT row FROM decisions WHERE at < ? ORDER BY at DESC LIMIT 1) AS old
) AS bounds) ORDER BY row LIMIT ?
"""


class EvidenceLimits(msgspec.Struct, frozen=True):
    """How long decisions are kept, and how many at most: 600 bytes each."""

    seconds: float = 30 * DAY
    decisions: int = 200_000


USUAL: Final = EvidenceLimits()


class SqlEvidence:
    """Behind `EvidenceStore`."""

    def __init__(self, place: State, clock: Clock, limits: EvidenceLimits = USUAL) -> None:
        self._place = place
        self._clock = clock
        self._limits = limits
        self._hour = 0
        """In which idle scopes were put together last."""

    def __repr__(self) -> str:
        return f"<SqlEvidence {self._place!r}>"

    async def keep(self, decisions: Sequence[Decision], counts: Sequence[Count]) -> None:
        """They are on the disk when this returns."""
        await self._place.write(partial(self._keep, decisions=decisions, counts=counts))

    async def find(self, id: str, *, tenant: str) -> Decision | None:  # noqa: A002 - its name
        """Our own id goes before one that a caller has chosen."""
        return await self._place.read(partial(_find, query=_FIND, values=(tenant, id, tenant, id)))

    async def get(self, id: str) -> Decision | None:  # noqa: A002 - its name
        """Whosever it is."""
        return await self._place.read(partial(_find, query=_GET, values=(id,)))

    async def label(self, label: Label) -> bool:
        """It is on the disk when this returns."""
        return await self._place.write(partial(_label, label=label))

    async def spend(self, cost: DayCost) -> None:
        """It is on the disk when this returns. Gateways that share the place add up."""
        await self._place.write(partial(_spend, cost=cost))

    async def spent(self) -> DayCost:
        """Of the last day of which anything was kept."""
        return await self._place.read(_spent)

    async def labels(self, decision: str) -> tuple[Label, ...]:
        """One of each source at most."""
        return await self._place.read(partial(_labels, decision=decision))

    async def findings(self, since: float, *, scopes: int) -> Findings:
        """Counts begin with the hour in which `since` is."""
        return await self._place.read(partial(_findings, since=since, scopes=scopes))

    async def stances(self) -> list[Stance]:
        """In no order."""
        return await self._place.read(stances)

    async def take(self, stance: Stance) -> None:
        """It is on the disk when this returns."""
        await self._place.write(partial(_take, stance=stance))

    def _keep(self, database: Statements, *, decisions: Sequence[Decision], counts: Sequence[Count]) -> None:
        database.executemany(_KEEP, [_row(decision) for decision in decisions])
        database.executemany(_COUNT, [msgspec.structs.astuple(count) for count in counts])
        oldest = self._clock() - self._limits.seconds
        old = database.execute(_OLD, (self._limits.decisions, oldest, SWEPT)).fetchall()
        database.executemany("DELETE FROM labels WHERE decision = ?", [(id_,) for _, id_ in old])
        database.executemany("DELETE FROM decisions WHERE row = ?", [(row,) for row, _ in old])
        database.execute("DELETE FROM hours WHERE hour < ?", (int(oldest // HOUR),))
        hour = int(self._clock() // HOUR)
        if hour != self._hour:
            rest: Counter[int] = Counter()
            for past, reached in database.execute(_IDLE, (hour,)).fetchall():
                rest[past] += reached
            database.executemany(_COUNT, [(past, "rest", reached, 0) for past, reached in rest.items()])
            self._hour = hour


def _find(database: Statements, *, query: str, values: tuple[str, ...]) -> Decision | None:
    row = database.execute(query, values).fetchone()
    if row is None:
        return None
    *known, budgets, weighed = row
    decision = Decision(**dict(zip(Decision.__struct_fields__, (*known, _names(budgets), None), strict=True)))
    return decision if weighed is None else msgspec.structs.replace(decision, weighed=_weighed(weighed))


def _row(decision: Decision) -> tuple[object, ...]:
    *known, budgets, weighed = msgspec.structs.astuple(decision)
    return (
        *known,
        BETWEEN.join(budgets),
        None if weighed is None else array("d", (weighed.confidence, *weighed.features)).tobytes(),
    )


def _names(budgets: str) -> tuple[str, ...]:
    return tuple(budgets.split(BETWEEN)) if budgets else ()


def _weighed(raw: bytes) -> Weighed:
    numbers = array("d")
    numbers.frombytes(raw)
    return Weighed(numbers[0], tuple(numbers[1:]))


def _findings(database: Statements, *, since: float, scopes: int) -> Findings:
    hour = int(since // HOUR)
    labels = [
        Finding(decision, at, scope, drawn, source, bool(correct), _names(budgets))
        for decision, at, scope, drawn, source, correct, budgets in database.execute(
            _FINDINGS, (since, since, MOST_LABELS)
        ).fetchall()
    ]
    reached, hits = database.execute(_TOTAL, (hour,)).fetchone()
    busiest, budgets = (
        [Count(hour, *row) for row in database.execute(_BUSIEST, (hour, named, most)).fetchall()]
        for named, most in ((False, scopes), (True, BUDGETS))
    )
    return Findings(labels, reached, hits, busiest, budgets)


def stances(database: Statements) -> list[Stance]:
    """Of all scopes that have one."""
    return [Stance(*row) for row in database.execute("SELECT scope, level, since FROM stances").fetchall()]


def adopt(database: Statements, *, found: Sequence[Stance]) -> None:
    """Be as strict as that, once: what is taken back here later must not come again with the next start of who has brought it."""
    strict = sorted((stance for stance in found if stance.level), key=lambda stance: stance.scope)
    name = f"stances:{blake2b(msgspec.msgpack.encode(strict), digest_size=16).hexdigest()}"
    if strict and database.execute(_CAME, (name, b"")).fetchone() is not None:
        for stance in strict:
            if database.execute(_ADOPT, msgspec.structs.astuple(stance)).fetchone() is not None:
                database.execute(_ANEW, (stance.scope,))


def _take(database: Statements, *, stance: Stance) -> None:
    database.execute(_TAKE, msgspec.structs.astuple(stance))
    database.execute(_ANEW, (stance.scope,))


def _spent(database: Statements) -> DayCost:
    row = database.execute(_SPENT).fetchone()
    return DayCost(0) if row is None else msgspec.msgpack.decode(row[0], type=DayCost)


def _spend(database: Statements, *, cost: DayCost) -> None:
    before = _spent(database)
    if before.day <= cost.day:
        same = before if before.day == cost.day else DayCost(cost.day)
        whole = DayCost(cost.day, same.whole + cost.whole, same.extra + cost.extra)
        database.execute(_SPEND, (msgspec.msgpack.encode(whole),))


def _label(database: Statements, *, label: Label) -> bool:
    values = (label.decision, label.source, int(label.correct), label.at)
    return database.execute(_LABEL, values).fetchone() is not None


def _labels(database: Statements, *, decision: str) -> tuple[Label, ...]:
    rows = database.execute(_LABELS, (decision,)).fetchall()
    return tuple(Label(of, source, correct=bool(correct), at=at) for of, source, correct, at in rows)
