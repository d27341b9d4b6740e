"""What an arm means for a request on the path: whose targets, which part of the cache, and what of the cache it wants."""

import pytest

from sentinel_gateway.core.caching import TtlRules
from sentinel_gateway.core.experiments import Arm, Experiment
from sentinel_gateway.pipeline.experiments import Experiments
from sentinel_gateway.pipeline.handle import Cached
from tests.fakes import completion
from tests.pipeline.conftest import question

pytestmark = pytest.mark.anyio

SECRET = b"a secret of the tests, 32 bytes "


def try_out(path, arm: Arm, **experiment) -> Experiments:
    """All requests are in this arm from now on."""
    experiments = Experiments([Experiment("cheaper", (arm,), **experiment)], SECRET)
    path.pipeline._experiments = experiments  # noqa: SLF001 - the path's own has none
    return experiments


async def ask(path, **wish):
    path.first.replies.append(completion())
    path.second.replies.append(completion())
    return await path.ask(question(), path.journey(**wish))


async def test_another_model_answers_from_a_part_of_the_cache_of_its_own(path):
    await ask(path)
    told = repr(try_out(path, Arm("small", model="second/n")))
    assert told == "<Experiments cheaper>"
    _, journey = await ask(path)
    assert (journey.target, journey.outcome, journey.experiment) == ("second/n", "miss", "cheaper=small")
    reply, again = await ask(path)
    assert isinstance(reply, Cached)
    assert (again.target, again.unit) == ("second/n", journey.unit)


async def test_who_is_in_none_is_asked_as_ever(path):
    try_out(path, Arm("small", model="second/n"), share=0.0)
    _, journey = await ask(path)
    assert (journey.target, journey.experiment, journey.place) == ("first/m", "", None)


async def test_an_arm_without_a_cache(path):
    try_out(path, Arm("fresh", cache=False))
    for _ in range(2):
        _, journey = await ask(path)
        assert (journey.outcome, journey.kept.why) == ("bypass", "bypass")
    assert path.calls == 2


@pytest.mark.parametrize(
    ("arm", "wished", "held"), [(60.0, None, 60.0), (60.0, 5.0, 5.0), (None, 5.0, 5.0), (None, None, 3600.0)]
)
async def test_a_caller_s_word_on_how_long_to_keep_it_stands_above_the_arm_s(make_path, arm, wished, held):
    path = make_path(rules=TtlRules(fixed=3600.0))
    try_out(path, Arm("short", ttl=arm))
    _, journey = await ask(path, ttl=wished)
    assert journey.kept.ttl == pytest.approx(held, rel=0.2)


async def test_an_arm_that_compares_nothing(make_path):
    path = make_path(semantic=True)
    try_out(path, Arm("exact", semantic=False))
    for text in ("What is the capital of France?", "What's the capital of France?"):
        path.first.replies.append(completion())
        _, journey = await path.ask(question(text))
        assert (journey.outcome, journey.question) == ("miss", None)
    assert path.embedder.batches == []
