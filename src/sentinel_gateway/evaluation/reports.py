"""What was measured, as people read it: the documents of `sentinel eval` and `sentinel replay`."""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

from sentinel_gateway.evaluation.account import Account, AtThreshold, Guessed, Saved
from sentinel_gateway.evaluation.chart import Chart, Series
from sentinel_gateway.evaluation.document import Document, Quotes, Section, Table
from sentinel_gateway.evaluation.log_replay import Replayed
from sentinel_gateway.evaluation.measured import AtRate, Category, Evaluation, Rule, Share
from sentinel_gateway.evaluation.rehearsal import Match
from sentinel_gateway.evaluation.rows import Bad

SHOWN: Final = 10
"""Bad lines that are listed for people; programs get more of them."""
CATEGORIES: Final = 50
"""That are listed for people, those with most questions; programs get all."""
CURVE_END: Final = 0.1
"""The wrong-hit rate at which the curve ends: nobody serves more wrong answers than that."""
AGREE: Final = {True: "the answers agree", False: "THE ANSWERS DIFFER", None: "the answers can't be compared"}


def evaluation_report(found: Sequence[Evaluation], made: str) -> Document:
    """Of all files, one after the other."""
    sections = [section for each in found for section in _evaluated(each, name=f"{each.file}: " if len(found) > 1 else "")]
    title = "Hits and wrong hits: " + ", ".join(each.file for each in found)
    return Document(title, made, sections)


def _evaluated(found: Evaluation, name: str) -> Iterator[Section]:
    yield Section(f"{name}What was measured", [_counted(found), *(f"Note: {note}." for note in found.notes), *_bad(found)])
    yield Section(
        f"{name}As it is set", [_SHARES, Table(_HEADS, [_shares(rule.name, rule.setting, rule) for rule in found.rules])]
    )
    rates = [f"{share.wrong_hit_rate:.1%}" for share in found.rules[0].at_rates]
    rows = [[rule.name, *(_at(share) for share in rule.at_rates)] for rule in found.rules]
    chart = Chart(
        "Hits by wrong hits, as the threshold falls",
        "wrong hits by questions",
        "hits by questions",
        list(_curves(found.rules)),
        x_top=CURVE_END,
    )
    yield Section(f"{name}Hits at a wrong-hit rate of", [Table(["rule", *rates], rows), _RATES, chart])
    if any(rule.categories for rule in found.rules):
        yield Section(f"{name}By category", list(_by_category(found.rules)))
    latency = [[step.step, *(f"{ms:.2f}" for ms in (step.p50_ms, step.p95_ms, step.p99_ms))] for step in found.latency]
    yield Section(f"{name}Time, in milliseconds", [Table(["step", "p50", "p95", "p99"], latency)])


def _curves(rules: Sequence[Rule]) -> Iterator[Series]:
    """One for all rules that rank alike: of lines that lie on each other only the last would be seen."""
    names: defaultdict[tuple[tuple[float, float], ...], list[str]] = defaultdict(list)
    for rule in rules:
        names[(0.0, 0.0), *((point.wrong_hit_rate, point.hit_rate) for point in rule.curve)].append(rule.name)
    return (Series(", ".join(alike), points) for points, alike in names.items())


_SHARES: Final = (
    "Rates are by all questions that met a stored one, as the error budget counts; AUC is the chance that a right answer "
    "scores above a wrong one."
)
_RATES: Final = (
    "Fixed thresholds are chosen with hindsight here: a bound, and no promise. The learner finds its own; what it came to "
    "stands in brackets."
)
_ALONE: Final = "bound to a moment or to who asks, long, or foreign"
_HEADS: Final = ("rule", "setting", "AUC", "hits", "wrong hits", "hit rate", "wrong-hit rate", "wrong of hits")


def _counted(found: Evaluation) -> str:
    if found.kind == "pairs":
        return f"{found.rows:,} pairs; in {found.may_serve:,} the answer to the one may serve the other."
    asked = f" {found.exact:,} had been asked before to the letter, and are in no rate." if found.exact else ""
    alone = f" {found.alone:,} are answered by the very same request alone ({_ALONE}), and are in no rate." if found.alone else ""
    most = f"at best {found.may_serve:,} could be answered from those before"
    return f"{found.rows:,} questions in their order; {most}.{asked}{alone}"


def _shares(name: str, setting: str, rule: Rule) -> list[str]:
    return [name, setting, "-" if rule.auc is None else f"{rule.auc:.3f}", *_share(rule.at_setting)]


def _share(share: Share) -> list[str]:
    rates = (f"{share.hit_rate:.1%}", f"{share.wrong_hit_rate:.2%}", f"{share.wrong_per_hit:.1%}")
    return [f"{share.hits:,}", f"{share.wrong_hits:,}", *rates]


def _at(share: AtRate) -> str:
    if not share.hit_rate:
        return "none"
    return f"{share.hit_rate:.1%} ({f'{share.measured:.2%}' if share.threshold is None else f'from {share.threshold:.3f}'})"


def _by_category(rules: Sequence[Rule]) -> Iterator[Table | str]:
    heads = ["category", "questions", "may serve", *(f"{rule.name}: hits / wrong" for rule in rules)]
    columns = [{category.category: category for category in rule.categories} for rule in rules]
    named = rules[0].categories
    most = sorted(named, key=lambda category: -category.at_setting.trials)[:CATEGORIES]
    shown = sorted(most, key=lambda category: category.category)
    yield Table(heads, [_category(first, [column.get(first.category) for column in columns]) for first in shown])
    if len(named) > len(shown):
        yield f"{len(named) - len(shown):,} more categories with fewer questions are not listed here; --json has all."


def _category(first: Category, others: Sequence[Category | None]) -> list[str]:
    told = [f"{each.at_setting.hits:,} / {each.at_setting.wrong_hits:,}" if each else "-" for each in others]
    return [first.category, f"{first.at_setting.trials:,}", f"{first.may_serve:,}", *told]


def replay_report(found: Replayed, made: str) -> Document:
    """Of one log."""
    sections = [
        Section("What the cache would have saved", [_spent(found.account), _saved(found.account), *_guesses(found)]),
        Section("Why the rest went to a provider", [_misses(found.account)]),
        Section("Suggested settings", [_suggestions(found)]),
        Section("Thresholds", [_THRESHOLDS, _threshold_table(found), _threshold_chart(found)]),
        Section("Look at these", [_LOOK, Quotes([_match(match) for match in found.suspicious])] if found.suspicious else [_NONE]),
    ]
    return Document(f"What caching would have saved: {found.file}", made, sections)


_THRESHOLDS: Final = (
    "By the questions that were compared: hits, and the wrong ones among them, at most (95 %), as far as the answers in the "
    "log show it. Marked is the threshold in force."
)
_LOOK: Final = (
    "Matches that a human should judge: hits whose answers differ, those that were hardly near enough, and what was nearly "
    "one. Would the answer to the stored question have served?"
)
_NONE: Final = "There was no match in other words, and nothing near one."


def _spent(account: Account) -> str:
    days = "" if account.first is None or account.last is None else f", {_day(account.first)} to {_day(account.last)}"
    hits = account.exact.hits + account.semantic.hits
    spared, seconds = account.exact.usd + account.semantic.usd, account.exact.seconds + account.semantic.seconds
    failed = f" {account.failed:,} of them failed." if account.failed else ""
    return (
        f"{_count(account.requests, 'request')}{days}: {_usd(account.spent_usd)} and {account.spent_seconds:,.0f} s of waiting. "
        f"The cache would have answered {hits:,} ({hits / max(account.requests, 1):.1%}) and saved {_usd(spared)} and "
        f"{seconds:,.0f} s.{failed}"
    )


def _usd(amount: float) -> str:
    """Cents, or as many digits as it takes to see anything."""
    digits = 2 if amount >= 1 or amount <= 0 else 1 - math.floor(math.log10(amount))
    return f"${amount:,.{digits}f}"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def _day(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d}"


def _saved(account: Account) -> Table:
    tiers = (("the very same (exact)", account.exact), ("in other words (semantic)", account.semantic))
    return Table(["answered by", "hits", "hit rate", "saved", "seconds", "tokens"], [_tier(name, saved) for name, saved in tiers])


def _tier(name: str, saved: Saved) -> list[str]:
    rates = [f"{saved.hits:,}", f"{saved.hit_rate:.1%}", _usd(saved.usd)]
    return [name, *rates, f"{saved.seconds:,.0f}", f"{saved.tokens:,}"]


def _guesses(found: Replayed) -> Iterator[str]:
    for told in _estimated(found.account.estimated, requests=found.account.requests):
        yield f"Estimated: {told}."
    if found.models:
        yield f"No configured provider has these models, so their prices were looked up by name: {', '.join(found.models)}."
    yield from (f"Note: {note}." for note in found.notes)
    yield from _bad(found)


def _estimated(guessed: Guessed, *, requests: int) -> Iterator[str]:
    of_all = f"of {requests:,} requests"
    if guessed.timestamps:
        yield f"{guessed.timestamps:,} {of_all} have no timestamp and were taken to come right after the one before"
    if guessed.answers:
        yield f"{guessed.answers:,} {of_all} have no response: taken to be a usual answer, as long as the others of the log"
    if guessed.usage:
        yield f"{guessed.usage:,} {of_all} have no usage: their tokens were counted here"
    if guessed.seconds:
        yield f"{guessed.seconds:,} {of_all} don't say how long they took: half a second and one for every 50 tokens"
    if guessed.prices:
        yield f"{guessed.prices:,} {of_all} went to models of unknown price: taken to cost as much as Llama 3.3 70B"


def _misses(account: Account) -> Table:
    rows = [[reason, f"{count:,}", f"{count / max(account.requests, 1):.1%}"] for reason, count in account.misses.items()]
    stale = [["of these: the same was stored, and had expired", f"{account.stale:,}", f"{account.stale / account.requests:.1%}"]]
    return Table(["reason", "requests", "of all"], rows + (stale if account.stale else []))


def _suggestions(found: Replayed) -> Table:
    rows = [[one.setting, one.now, "as it is" if one.value == one.now else one.value, one.reason] for one in found.suggestions]
    return Table(["setting", "now", "suggested", "why"], rows, words=True)


def _threshold_table(found: Replayed) -> Table:
    """In steps of five hundredths, and the one in force."""
    chosen = [point for point in found.at_thresholds if _is_told(point.threshold) or point.threshold == found.threshold]
    heads = ["threshold", "hits", "hit rate", "could be judged", "wrong of these", "wrong-hit rate, at most"]
    return Table(heads, [_threshold(point) for point in chosen])


def _is_told(threshold: float) -> bool:
    return round(100 * threshold) % 5 == 0


def _threshold(point: AtThreshold) -> list[str]:
    most = f"{point.wrong_hit_rate_high:.2%}" if point.judged else "-"
    return [f"{point.threshold:.2f}", f"{point.hits:,}", f"{point.hit_rate:.1%}", f"{point.judged:,}", f"{point.wrong:,}", most]


def _threshold_chart(found: Replayed) -> Chart:
    points = found.at_thresholds
    return Chart(
        "Hits and wrong hits by threshold",
        "threshold (similarity)",
        "of the questions compared",
        [
            Series("hits", [(point.threshold, point.hit_rate) for point in points]),
            Series("wrong hits, at most", [(p.threshold, p.wrong_hit_rate_high) for p in points if p.judged and p.hits]),
        ],
        x_start=points[0].threshold if points else 0.0,
        marks=(found.threshold,),
        x_plain=True,
    )


def _match(match: Match) -> tuple[str, list[tuple[str, str]]]:
    verdict = "would have served" if match.served else "nearly"
    shown = math.floor(match.similarity * 1000) / 1000  # cut, as in x-cache-similarity: what is nearly 0.95 is not 0.950
    about = f"similarity {shown:.3f}, {verdict}, {AGREE[match.agree]}"
    return about, [(f"asked (line {match.line})", match.asked), (f"stored (line {match.stored_line})", match.stored)]


def _bad(found: Evaluation | Replayed) -> Iterator[str]:
    if found.bad_lines:
        yield f"{_count(found.bad_lines, 'line')} could not be used. {_listed(found.bad)}"


def _listed(bad: Sequence[Bad]) -> str:
    return " ".join(f"Line {each.line} {each.fault.rstrip('.')}." for each in bad[:SHOWN]) + (" ..." if len(bad) > SHOWN else "")
