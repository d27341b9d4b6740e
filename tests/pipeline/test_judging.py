"""The three judges in order, and what each may cost."""

import asyncio
from fractions import Fraction

import numpy as np
import pytest

from sentinel_gateway.core.chat import Usage
from sentinel_gateway.core.judging import Case
from sentinel_gateway.core.pricing import Price, Rates, Unpriced, yocto
from sentinel_gateway.core.retrying import RetryRules
from sentinel_gateway.core.routing import Directory, Route, Target
from sentinel_gateway.core.standing import Standings
from sentinel_gateway.errors import UpstreamUnreachable
from sentinel_gateway.pipeline.circuits import Circuits
from sentinel_gateway.pipeline.dispatch import Dispatch
from sentinel_gateway.pipeline.judging import Judge, ModelJudge
from sentinel_gateway.pipeline.spending import Spending
from sentinel_gateway.ports import World
from tests.fakes import FakeBulletin, FakeClock, FakeEmbedder, FakeEvents, FakeProvider, completion
from tests.pipeline.conftest import CALM

pytestmark = pytest.mark.anyio

SAME = Case("Capital?", "The capital of France is Paris.", "Paris is the capital of France.")
OPEN = Case("How?", "Open the app and tap Cards.", "On the web page, choose your card.")


class Model:
    """The third judge, and what it was asked."""

    def __init__(self, verdict) -> None:
        self.verdict = verdict
        self.cases: list[Case] = []

    async def __call__(self, case: Case):
        self.cases.append(case)
        return self.verdict


@pytest.fixture
def embedder():
    return FakeEmbedder()


async def test_equal_texts_need_no_model_at_all(embedder):
    model = Model(verdict=False)
    assert await Judge(embedder, model).compare(Case("?", "Paris.", "paris")) is True
    assert embedder.batches == model.cases == []


async def test_answers_that_begin_alike_to_the_letter_need_no_vectors(embedder):
    begun = "The capital of France is Paris, a city on the river Seine with two million people. " * 5
    assert await Judge(embedder, None).agree(Case("?", begun + "Ask for more.", begun + "Is that all?")) is True
    assert embedder.batches == []


async def test_words_and_meaning_come_next(embedder):
    model = Model(verdict=False)
    assert await Judge(embedder, model).compare(SAME) is True
    assert model.cases == []


async def test_a_model_is_asked_last_and_only_if_there_is_one(embedder):
    for verdict in (True, False, None):
        model = Model(verdict)
        assert await Judge(embedder, model).compare(OPEN) is verdict
        assert model.cases == [OPEN]
    assert await Judge(embedder, None).compare(OPEN) is None


async def test_what_cannot_be_embedded_is_left_to_the_model(embedder):
    embedder.too_long = {SAME.fresh}
    assert await Judge(embedder, Model(verdict=True)).compare(SAME) is True
    assert await Judge(embedder, None).compare(SAME) is None
    embedder.too_long = {SAME.stored}
    assert await Judge(embedder, None).compare(SAME) is None
    embedder.down = True
    assert await Judge(embedder, None).compare(SAME) is None
    assert "FakeEmbedder" in repr(Judge(embedder, None))


def dollars(price):
    """So many for each million tokens."""
    rate = yocto(Fraction(price or 0))
    return Price(Rates.of({"input": rate, "output": rate}))


class Bench:
    """A model judge at the expense of one provider."""

    def __init__(self, *, share=1.0, model="arbiter", price=None) -> None:
        self.clock, self.provider = FakeClock(), FakeProvider("first")
        self.spending = Spending(lambda _: dollars(price), self.clock)
        self.spending.limit(share)
        directory = Directory({"arbiter": Route((Target("first", "m"),))}, ("first",), {}, {}, frozenset({"first"}))
        world = World(self.clock, asyncio.sleep, lambda: 0.0, FakeEvents())
        dispatch = Dispatch({"first": self.provider}, Circuits(Standings(CALM), FakeBulletin(), world), RetryRules())
        self.judge = ModelJudge(model, lambda: directory, dispatch, self.spending, self.clock)

    async def ask(self, *replies):
        self.provider.replies += replies
        return await self.judge(OPEN)


async def test_the_model_says_yes_or_no():
    bench = Bench()
    assert await bench.ask(completion("Yes.")) is True
    assert await bench.ask(completion("no")) is False
    assert await bench.ask(completion("Hm.")) is None
    (call, *_) = bench.provider.calls
    assert (call.model, call.fields["model"]) == ("m", "arbiter")
    assert "arbiter" in repr(bench.judge)


async def test_a_model_that_fails_or_is_nowhere_is_an_open_case():
    bench = Bench()
    assert await bench.ask(UpstreamUnreachable("gone")) is None
    assert await Bench(model="nobody").ask() is None


async def test_no_more_is_spent_than_the_budget_allows():
    bench = Bench(share=0.5, price=1)
    assert await bench.ask() is None, "nothing was spent today that this could be a share of"
    bench.spending.note("first/m", Usage(2000, 0), extra=False)
    assert await bench.ask(completion("yes")) is True
    whole, spent = bench.spending.today()
    assert (whole, spent) == (pytest.approx(2008e-6), pytest.approx(8e-6))
    assert bench.provider.calls


async def test_an_answer_without_usage_counts_nothing():
    bench = Bench()
    bare = completion("yes")
    fields = bare.answer.fields | {"usage": None}
    reply = type(bare)(bare.raw, type(bare.answer)(fields, bare.answer.finish_reasons, None))
    assert await bench.ask(reply) is True
    assert bench.spending.today() == (0.0, 0.0)


async def test_what_has_no_price_has_that_of_a_well_known_model():
    spending = Spending(Unpriced, FakeClock())
    spending.limit(1.0)
    assert not spending.allows("own/model", 1, 1)
    spending.note("own/model", Usage(1_000_000, 0), extra=False)
    assert spending.today() == (0.59, 0.0)
    assert spending.allows("own/model", 1_000_000, 0)
    assert not spending.allows("own/model", 1_000_000, 1)
    assert "590000000 nano-USD" in repr(spending)


def test_vectors_of_the_fake_are_unit_length(embedder):
    assert np.linalg.norm(embedder.vector("a")) == pytest.approx(1)
