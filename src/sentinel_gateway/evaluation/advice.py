"""Settings that the log speaks for, each with its reason; the one in force where it speaks for none."""

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from sentinel_gateway.evaluation.account import Account, AtThreshold
from sentinel_gateway.evaluation.curve import quantile
from sentinel_gateway.settings.model import Settings

ENOUGH: Final = 30
"""Matches whose answers could be compared: from fewer nothing is concluded about a threshold."""
STRICT: Final = 0.97
"""A similarity at which hardly anything is wrong anywhere."""
REPEATS: Final = 20
"""Requests that came again: from fewer nothing is concluded about a lifetime."""
COVERED: Final = 0.95
"""Of the requests that come again, so many should find their answer."""
LIFETIMES: Final = (3_600, 21_600, 86_400, 259_200, 604_800, 2_592_000)
"""That are suggested, in seconds: an hour, six, a day, three, a week, a month."""
MANY: Final = 0.05
"""A share of questions from which it matters what becomes of them."""


class Suggestion(msgspec.Struct, frozen=True):
    """`value` for a `setting`, which is `now` something, or the same; and why."""

    setting: str
    now: str
    value: str
    reason: str


def advise(
    account: Account, curve: Sequence[AtThreshold], gaps: Sequence[tuple[float, bool]], settings: Settings
) -> Iterator[Suggestion]:
    """One for each setting that a log can say anything about."""
    yield _threshold(account, curve, settings)
    yield from _bound(account, settings)
    yield _lifetime(account, gaps, settings)


def _threshold(account: Account, curve: Sequence[AtThreshold], settings: Settings) -> Suggestion:
    name, now = "cache.semantic.threshold", settings.cache.semantic.threshold
    budget = settings.cache.max_wrong_hit_rate
    judged = max((point.judged for point in curve), default=0)
    if judged < ENOUGH:
        why = (
            f"by the answers in the log {judged} of the matches could be judged; {ENOUGH} are the least to conclude from: "
            "look at the list, or have the gateway measure it (cache.semantic.shadow)"
        )
        return Suggestion(name, f"{now:g}", f"{now:g}", why)
    safe = [point for point in curve if point.judged >= ENOUGH and point.wrong_hit_rate_high <= budget]
    if not safe:
        why = (
            f"at no threshold do the answers in the log show that at most {budget:.1%} would be wrong; "
            f"of {judged} that could be judged, {max(point.wrong for point in curve)} were: stay strict, and look at the list"
        )
        return Suggestion(name, f"{now:g}", f"{max(now, STRICT):g}", why)
    best = min(safe, key=lambda point: point.threshold)
    why = (
        f"{best.hit_rate:.1%} of {account.compared:,} questions that were compared would be answered in other words; of "
        f"{best.judged} whose answers could be judged {best.wrong} {'was' if best.wrong == 1 else 'were'} wrong, so at most "
        f"{best.wrong_hit_rate_high:.2%} of all are (95 %), and {budget:.1%} may be. What could not be judged is taken for alike"
    )
    return Suggestion(name, f"{now:g}", f"{best.threshold:g}", why)


def _bound(account: Account, settings: Settings) -> Iterator[Suggestion]:
    bound = settings.cache.bound
    for kind, setting, now in (("time-bound", "time", bound.time), ("personal", "personal", bound.personal)):
        count = account.bound.get(kind, 0)
        share = count / max(account.requests, 1)
        if not count:
            why = "no question in the log was caught by it"
        elif share < MANY:
            why = f"{share:.1%} of the questions are of this kind: it costs few hits, and spares wrong answers"
        else:
            why = (
                f"{share:.1%} of the questions are of this kind: if your model knows neither the moment nor the user, 'usual' "
                "lets them be answered like all others; else leave it"
            )
        yield Suggestion(f"cache.bound.{setting}", now, now, why)


def _lifetime(account: Account, gaps: Sequence[tuple[float, bool]], settings: Settings) -> Suggestion:
    name, ttl = "cache.ttl", settings.cache.ttl
    now = "a day, an hour above temperature 0.7" if ttl is None else f"{ttl:g}"
    if len(gaps) < REPEATS:
        dated = "" if account.first is not None else ", and the log has no timestamps"
        why = f"requests that came again: {len(gaps)}; {REPEATS} are the least to conclude anything from{dated}"
        return Suggestion(name, now, now, why)
    missed = sum(not found for _, found in gaps)
    needed = quantile([gap for gap, _ in gaps], COVERED)
    if missed <= (1.0 - COVERED) * len(gaps):
        why = f"{len(gaps) - missed:,} of {len(gaps):,} requests that came again found their answer still there"
        return Suggestion(name, now, now, why)
    value = next((lifetime for lifetime in LIFETIMES if lifetime >= needed), LIFETIMES[-1])
    why = (
        f"{missed:,} of {len(gaps):,} requests that came again did not find their answer any more; {COVERED:.0%} came within "
        f"{needed / 3600:.1f} hours. Take it only where answers stay true for so long"
    )
    return Suggestion(name, now, str(value), why)
