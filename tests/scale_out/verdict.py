"""Did the promises hold? Functions over what callers saw, what the provider saw, and what the ledger says."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import psycopg

from sentinel_gateway.ledger.books import make_database
from sentinel_gateway.ledger.copier import copy_left_behind as copy_rows
from tests.scale_out.fleet import INPUT, OUTPUT, Fleet
from tests.scale_out.load import Asked, Load, problems

MAY_LACK = {"orphan", "left", "unreachable", "timeout"}
"""Endings of a row whose call the provider may never have seen."""
LAST_MOMENT = 1.0
"""Seconds before a kill in which a request's own row may still have been in memory, as docs/ledger.md says: 50 ms unless the
machine is overloaded, as it is here."""
SLACK = 3
"""Requests beyond a limit that the clocks of callers can't tell from none."""


class Promise(NamedTuple):
    """One line of the report."""

    said: str
    found: str
    held: bool


def copy_left_behind(fleet: Fleet, number: int) -> None:
    """What a node has written down and not brought to PostgreSQL before it ended; its next start would."""
    folder = fleet.home / f"node-{number}" / "data"
    database = make_database(folder, fleet.environs[number]["SENTINEL_DATABASE_URL"])
    copy_rows(folder / "journal", database, lambda *_, **__: None)
    database.close()


def between_kills(asked: Sequence[Asked], kills: Sequence[float]) -> Promise:
    """Who failed, and was that because its node was killed under it?"""
    failed = [one for one in asked if one.problem]
    under = [one for one in failed if any(one.was_under_way(moment) for moment in kills)]
    streams = sum(one.stream for one in under)
    others = problems(one for one in failed if one not in under)
    found = f"{len(kills)} kills, {len(asked)} requests: {streams} streams and {len(under) - streams} others went with them; "
    return Promise(
        "a killed node takes along what it was answering, and nothing else",
        found + f"{others.total()} failed besides {dict(others) or ''}".rstrip(),
        bool(under) and not others,
    )


def nobody_failed(name: str, asked: Sequence[Asked], *, at_least: int) -> Promise:
    """Of those who were sent in an act."""
    found = problems(asked)
    streams = sum(one.stream for one in asked)
    return Promise(
        f"{name}: nobody fails",
        f"{len(asked)} requests, {streams} of them streams; {found.total()} failed {dict(found) or ''}".rstrip(),
        not found and len(asked) >= at_least,
    )


def limit(asked: Sequence[Asked], rpm: int) -> Promise:
    """A bucket of a minute's worth that refills all the time: no stretch of time has more."""
    served = sorted((one for one in asked if one.status == 200), key=lambda one: one.sent)
    most = max(
        (
            last - first + 1 - rpm * (1 + (served[last].ended - served[first].sent) / 60)
            for first in range(len(served))
            for last in range(first, len(served))
        ),
        default=0.0,
    )
    refused = sum(one.status == 429 for one in asked)
    found = f"{len(served)} served, {refused} refused; at most {most:+.1f} beyond what any stretch of time allows"
    return Promise(f"a limit of {rpm} requests a minute holds", found, most <= SLACK and refused > 0)


def ledger(fleet: Fleet, load: Load, kills: Sequence[float], budget: int) -> list[Promise]:
    """Every call of the provider has a row, once; every answer has one; sums are right, and within the budget."""
    for number in fleet.nodes:
        copy_left_behind(fleet, number)
    with psycopg.connect(fleet.environs[0]["SENTINEL_DATABASE_URL"]) as connection:
        attempts = connection.execute(
            "SELECT id, number, ending, prompt_tokens, completion_tokens, cost, key FROM attempts"
        ).fetchall()
        handled = {key for (key,) in connection.execute("SELECT id FROM requests")}
        names = dict(connection.execute("SELECT id, name FROM keys").fetchall())
    calls = [call for call in fleet.upstream.calls if call.method == "POST"]
    return [
        *_calls(attempts, calls),
        _answers(load, handled, kills),
        _money(attempts, names, budget),
    ]


def _calls(attempts: Sequence[tuple[Any, ...]], calls: Sequence[Any]) -> list[Promise]:
    asked = Counter(call.headers["x-request-id"] for call in calls)
    booked = Counter(row[0] for row in attempts)
    endings = Counter(row[2] for row in attempts)
    lacking = sum(asked[key] > booked[key] for key in asked)
    may = {row[0] for row in attempts if row[2] in MAY_LACK}
    invented = sum(booked[key] > asked[key] and key not in may for key in booked)
    doubled = len(attempts) - len({row[:2] for row in attempts})
    told = {call.headers["x-request-id"]: call.tokens_sent for call in calls if call.status == 200}
    wrong = sum(row[2] == "answered" and row[4] != told.get(row[0]) for row in attempts)
    return [
        Promise(
            "every call of the provider stands in the ledger, once",
            f"{len(calls)} calls, {len(attempts)} rows {dict(endings)}; "
            f"{lacking} without a row, {invented} of no call, {doubled} doubled",
            bool(calls) and not lacking and not invented and not doubled,
        ),
        Promise("with the tokens that the provider told", f"{wrong} differ", not wrong),
    ]


def _answers(load: Load, handled: set[str], kills: Sequence[float]) -> Promise:
    answered = [one for one in load.asked if one.status == 200 and not one.problem]
    lost = [one for one in answered if one.id not in handled]
    before = [min((moment - one.ended for moment in kills if moment > one.ended), default=math.inf) for one in lost]
    return Promise(
        f"so does every answer, but for the last {LAST_MOMENT:g} s before a kill",
        f"{len(answered)} answers, {len(lost)} without a row, given {max(before, default=0):.2f} s before a kill, or later",
        bool(answered) and max(before, default=0) < LAST_MOMENT,
    )


def _money(attempts: Sequence[tuple[Any, ...]], names: dict[str, str], budget: int) -> Promise:
    answered = [row for row in attempts if row[2] == "answered"]
    exact = all(row[5] == INPUT * row[3] + OUTPUT * row[4] for row in answered)
    spent = sum(row[5] for row in attempts if names.get(row[6]) == "poor")
    return Promise(
        f"a budget of {budget / 1e9:.6f} USD is not overrun, and costs are exact",
        f"{spent / 1e9:.6f} USD spent; each row its tokens' price: {exact}",
        exact and 0 < spent <= budget,
    )
