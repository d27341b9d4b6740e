"""`sentinel replay` without its command line: a log of traffic in, an account and advice out."""

import time
from contextlib import AsyncExitStack
from typing import Final

import msgspec

from sentinel_gateway import rules
from sentinel_gateway.adapters import open_counter
from sentinel_gateway.evaluation.account import Account, AtThreshold, Ledger, suspicious, thresholds
from sentinel_gateway.evaluation.advice import Suggestion, advise
from sentinel_gateway.evaluation.offline import PATIENCE, open_model, open_offline
from sentinel_gateway.evaluation.rehearsal import Match, Rehearsal
from sentinel_gateway.evaluation.rows import Bad, BadLines, Lines, Unusable, open_lines, records
from sentinel_gateway.evaluation.stand_ins import Routes, Usages
from sentinel_gateway.evaluation.traffic import read_log
from sentinel_gateway.evaluation.trials import Tick
from sentinel_gateway.providers.prices import PriceBook
from sentinel_gateway.settings.model import Settings
from sentinel_gateway.telemetry.events import Unheard

MOST_REQUESTS: Final = 200_000
"""What was asked is held in memory, to be compared with what comes."""


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """A log of traffic, replayed. `threshold`: the similarity in force; `models`: those for which a provider was guessed."""

    file: str
    account: Account
    threshold: float
    at_thresholds: list[AtThreshold]
    suspicious: list[Match]
    suggestions: list[Suggestion]
    models: list[str]
    bad_lines: int
    bad: list[Bad]
    notes: list[str]


async def replay_log(file: str, settings: Settings, tick: Tick, *, limit: int | None) -> Replayed:
    """The whole log, or its first `limit` requests; raises `Unusable` where it can't be read or has nothing in it."""
    async with AsyncExitStack() as closing:
        counter = open_counter(Unheard(), deadline=PATIENCE)
        closing.push_async_callback(counter.close)
        embedder = await closing.enter_async_context(open_model())
        offline = await closing.enter_async_context(open_offline(settings, embedder))
        prices = PriceBook(time.time, Unheard().note)
        await prices.use(rules.price_rules(settings))
        routes = await Routes.of(settings, prices)
        rehearsal = Rehearsal(offline, routes, Usages(counter, media_tokens=settings.tokens.media))
        lines = closing.enter_context(open_lines(file))
        most = MOST_REQUESTS if limit is None else min(limit, MOST_REQUESTS)
        ledger, bad = Ledger(prices), BadLines()
        whole = await _take_all(rehearsal, ledger, bad, lines, most=most, tick=tick)
        if not ledger.account.requests:
            raise Unusable(f"{file} has no request in it{bad.first()}: each line must be the JSON body of an OpenAI chat request")
        return _told(file, ledger, bad, settings, models=sorted(routes.guessed), most=None if whole else most)


async def _take_all(rehearsal: Rehearsal, ledger: Ledger, bad: BadLines, lines: Lines, *, most: int, tick: Tick) -> bool:
    """False if the log goes on after `most` requests."""
    for found in read_log(records(lines)):
        if ledger.account.requests >= most:
            return False
        step = found if isinstance(found, Bad) else await rehearsal.take(found)
        if isinstance(step, Bad):
            bad.add(step)
        else:
            ledger.add(step)
        tick(f"{ledger.account.requests:,} requests", lines.share)
    return True


def _told(file: str, ledger: Ledger, bad: BadLines, settings: Settings, *, models: list[str], most: int | None) -> Replayed:
    account, semantic = ledger.close(), settings.cache.semantic
    curve = list(thresholds(ledger.matches, compared=account.compared, least=semantic.min_threshold))
    return Replayed(
        file=file,
        account=account,
        threshold=semantic.threshold,
        at_thresholds=curve,
        suspicious=suspicious(ledger.matches, threshold=semantic.threshold),
        suggestions=list(advise(account, curve, ledger.gaps, settings)),
        models=models,
        bad_lines=bad.count,
        bad=bad.shown,
        notes=[] if most is None else [f"only the first {most:,} requests were replayed"],
    )
