"""The soak would notice: what grows, what is not given back, what the ledger lacks, what was complained of."""

import asyncio
import gc
import random
import runpy
import sqlite3
from collections import Counter
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from bench.chaos import Call, ChaosUpstream
from bench.run import ROOT
from bench.soak.__main__ import Plan, soak
from bench.soak.learned import fill
from bench.soak.mixture import CANARY, KINDS, Ask, ask
from bench.soak.oracle import Oracle
from bench.soak.report import Found, draw, markdown
from bench.soak.verdict import Line, at_rest, flat, flowed, growth, logs, nothing_held, slope, value
from bench.soak.watch import Sample
from sentinel_gateway.core.calibration import PACE
from sentinel_gateway.core.confidence.features import NAMES
from sentinel_gateway.core.confidence.learner import Learner, Observation, refit
from sentinel_gateway.pipeline.learned import read
from sentinel_gateway.stores._state_file import StateFile
from sentinel_gateway.stores.learners import SqlLearners
from sentinel_gateway.stores.secret import gateway_secret
from tests.gateway import until

pytestmark = pytest.mark.anyio

AT_FIRST = Sample(at=0, resident=300_000_000, descriptors=60, threads=19, objects=100_000, waited=0, tasks=20)


def samples(minutes: int = 20, **grown: float) -> list[Sample]:
    """One each five seconds, with chance in all; what is named grows by so much a second."""
    chance, found = random.Random(1), []
    for number in range(12 * minutes):
        at = 5.0 * number
        noise = 1 + chance.gauss(0, 0.01)
        fields = {name: round(getattr(AT_FIRST, name) * noise + grown.get(name, 0) * at) for name in ("resident", "objects")}
        descriptors = round(chance.gauss(60, 5) + grown.get("descriptors", 0) * at)
        found.append(Sample(at=at, descriptors=descriptors, threads=19, waited=number, tasks=chance.randrange(10, 90), **fields))
    return found


def missed(lines: list[Line]) -> list[str]:
    return [line.what for line in lines if not line.held]


@given(st.floats(-100, 100), st.floats(-1e4, 1e4), st.lists(st.integers(0, 99), max_size=20))
def test_a_slope_is_that_of_most_samples(rise, start, odd):
    points = [(x, start + rise * x + (1e6 if x in odd else 0)) for x in range(100)]
    assert slope(points) == pytest.approx(rise, abs=1e-3)


def test_what_is_flat_is_flat():
    assert missed(flat(samples())) == []
    assert abs(growth(samples(), lambda sample: sample.resident)) < 0.005


@pytest.mark.parametrize(
    ("name", "by"),
    [("resident", 300_000_000 * 0.015 / 600), ("objects", 100_000 * 0.015 / 600), ("descriptors", 2 / 600)],
    ids=["memory, 1.5 % in ten minutes", "objects, 1.5 %", "two descriptors"],
)
def test_what_grows_is_noticed(name, by):
    assert len(missed(flat(samples(**{name: by})))) == 1


def test_one_object_in_six_requests_that_stays_is_noticed():
    """At a request a second, by a census a minute."""
    counted = [replace(one, objects=100_000 + int(one.at // 60) * 10) for one in samples()]
    assert missed(flat(counted)) == []
    counted = [replace(one, objects=100_000 + int(one.at // 60) * 60 * 60 // 6) for one in samples()]
    assert missed(flat(counted)) == ["objects that are kept, of those that the collector knows"]


class Thing:
    """An object that the collector knows."""


CENSUS = runpy.run_path(str(ROOT / "bench" / "soak" / "census" / "sitecustomize.py"))


def test_a_census_counts_what_is_kept_and_not_what_waits():
    gc.collect()
    gc.disable()
    try:
        for _ in range(1000):
            one = Thing()
            one.itself = one
        del one
        told = CENSUS["kept"]()
        assert told["waited"] >= 1000
        assert told["kinds"].get("Thing", 0) == 0
        things = [Thing() for _ in range(50_000)]
        more = CENSUS["kept"]()
    finally:
        gc.enable()
    assert more["kinds"]["Thing"] == len(things)
    assert more["objects"] - told["objects"] == pytest.approx(len(things), abs=500)


def lesson(number: int) -> Observation:
    chance = random.Random(number)
    features = tuple(chance.random() for _ in NAMES)
    near = f"entry {chance.randrange(200)}"
    right = chance.random() < features[0]
    asked = f"asked {number}"
    return Observation(near, features, 0.5, right, 5.0, float(number), str(number), asked, 0.9, {near: right})


async def test_a_learner_that_is_full_decides_as_a_new_one_and_grows_no_more(tmp_path, anyio_backend):
    await fill(tmp_path / "data", "default\n")
    file = await StateFile.open(tmp_path / "data", secret=gateway_secret(tmp_path / "data", None))
    try:
        state = read(await SqlLearners(file).find("default\n"))
    finally:
        await file.close()
    full, new = Learner.restore(state, pace=PACE), Learner(pace=PACE)
    weight = full.weight
    for learner in (full, new):
        for number in range(600):
            learner.learn(lesson(number))
        learner.adopt(refit(learner.work()))
    assert new.fit.labels == 600
    assert full.fit == new.fit
    assert full.threshold(0.05) == new.threshold(0.05)
    assert full.confidence(lesson(7).features, "entry 7") == new.confidence(lesson(7).features, "entry 7")
    assert full.weight == pytest.approx(weight, rel=0.01)
    assert new.weight < weight / 4


def test_what_is_not_given_back_is_noticed():
    assert missed(at_rest(AT_FIRST, AT_FIRST)) == []
    more = Sample(
        at=9, resident=1, descriptors=AT_FIRST.descriptors + 5, threads=19, objects=1, waited=0, tasks=AT_FIRST.tasks + 1
    )
    assert len(missed(at_rest(AT_FIRST, more))) == 2
    assert nothing_held(0, 0).held
    assert not nothing_held(1, 0).held
    assert not nothing_held(0, 0.01).held
    assert not nothing_held(value("nothing\n", "sentinel_in_flight"), 0).held, "nobody told"


def test_what_it_complains_of_is_noticed():
    assert missed(logs(["all is well", "still"], "requests_total 1")) == []
    for complaint in ("Task exception was never retrieved", "Traceback (most recent call last):", "Exception ignored in: <x>"):
        assert len(missed(logs(["all is well", complaint], ""))) == 1
    assert len(missed(logs([f'{{"prompt": "What is the {CANARY} rule?"}}'], ""))) == 1
    assert len(missed(logs([], f'x{{model="{CANARY}"}} 1'))) == 1


def test_a_mixture_that_was_none_is_noticed():
    came = Counter({("a", "200"): 90, ("b", "429"): 4, ("c", "502"): 3, ("d", "left"): 3})
    sources = {"exact": 1, "semantic": 1, "miss": 1, "bypass": 1}
    assert missed(flowed(came, sources, 100, [])) == []
    assert missed(flowed(came, sources, 101, [])) == ["requests"]
    assert missed(flowed(came, sources | {"semantic": 0}, 100, []))
    assert missed(flowed(came, sources, 100, ["a: 500"])) == ["wrong answers"]


def test_each_hundred_requests_are_the_same_mixture():
    assert sum(share for share, _ in KINDS) == 100
    first, second = (Counter(ask(number).kind for number in range(start, start + 100)) for start in (0, 700))
    assert first == second
    assert len(first) == len(KINDS)


def test_every_text_can_be_told_from_all_others():
    def texts(one: Ask) -> str:
        return one.body.decode() if isinstance(one.body, bytes) else str(one.body)

    assert [one.kind for one in map(ask, range(100)) if CANARY not in texts(one)] == ["malformed"]


def made(id_: str, *, path: str = "/v1/chat/completions", status: int = 200, tokens: int = 9) -> Call:
    return Call(0, 0.0, "POST", path, [(b"x-request-id", id_.encode())], b"{}", status=status, tokens_sent=tokens, ended=1.0)


@pytest.fixture
def ledger(tmp_path):
    """ledger(row, ...) has these rows of id, number, ending and tokens."""

    def write(*rows: tuple[str, int, str, int]):
        path = tmp_path / "ledger.db"
        path.unlink(missing_ok=True)
        with closing(sqlite3.connect(path)) as database, database:
            database.execute("CREATE TABLE attempts (id TEXT, number INTEGER, ending TEXT, completion_tokens INTEGER)")
            database.executemany("INSERT INTO attempts VALUES (?, ?, ?, ?)", rows)
        return path

    return write


async def test_what_the_ledger_lacks_is_noticed(ledger, anyio_backend):
    async with ChaosUpstream() as upstream:
        oracle = Oracle(upstream)
        for call in (made("a"), made("b", status=503), made("b"), made("c", path="/v1/embeddings", tokens=4)):
            oracle.count(call)
    right = [("a", 1, "answered", 9), ("b", 1, "broken", 0), ("b", 2, "answered", 9), ("c", 1, "answered", 0)]
    assert oracle.faults(ledger(*right)) == {}
    assert oracle.faults(ledger(*right[1:])) == {"no row": 1}
    assert oracle.faults(ledger(*right, ("d", 1, "answered", 1))) == {"a row of no call": 1}
    assert oracle.faults(ledger(*right, ("d", 1, "left", 0))) == {}
    assert oracle.faults(ledger(("a", 1, "answered", 8), *right[1:])) == {"other tokens": 1}
    assert "doubled" in oracle.faults(ledger(*right, right[0]))
    assert "no rows at all" in oracle.faults(ledger())


async def test_calls_are_counted_once_and_only_when_they_have_ended(client, upstream):
    oracle, body = Oracle(upstream), {"model": "m", "messages": [{"role": "user", "content": "?"}]}
    url = f"{upstream.url_with('latency_ms=60000')}/chat/completions"
    slow = asyncio.create_task(client.post(url, json=body, headers={"x-request-id": "slow"}).__aenter__())
    async with client.post(f"{upstream.base_url}/chat/completions", json=body, headers={"x-request-id": "a"}) as answer:
        await answer.read()
    await until(lambda: upstream.count == 2)
    for _ in range(2):
        oracle.gather()
        assert oracle.asked == {"a": 1}
    slow.cancel()
    await until(lambda: upstream.calls[0].ended)
    oracle.gather()
    assert oracle.asked == {"a": 1, "slow": 1}
    assert upstream.calls == []


def test_a_report_says_what_was_missed():
    lines = [Line("memory", "+0.10%", "< 1%", held=True), Line("descriptors", "+9", "< 1", held=False)]
    found = Found(date="2026-11-22", rate=1, minutes=20, warm_up=300, lines=lines, samples=samples(), grown={"dict": 7})
    assert not found.held
    text = markdown(found, "python -m bench.soak", "soak.svg")
    assert "| descriptors | +9 | < 1 | MISSED |" in text
    assert "| memory | +0.10% | < 1% | ok |" in text
    assert draw(found).startswith("<svg")


@pytest.mark.long
async def test_a_minute_of_it(tmp_path, anyio_backend):
    """All but growth, of which a minute tells nothing, and that each kind of answer was given, for which it is short."""
    found = await soak(Plan(rate=30.0, seconds=60.0), tmp_path)
    assert missed([line for line in found.lines if "10 min" not in line.seen and line.bar != "each"]) == []
    assert len(found.samples) >= 10
