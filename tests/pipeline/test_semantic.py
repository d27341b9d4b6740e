"""Reworded questions on the path: who is asked, who may answer, what is made when, and that a fault is only a miss."""

import asyncio
import gc

import pytest
from msgspec.structs import replace

from sentinel_gateway.core.caching import YEAR, Miss, Selector, Step
from sentinel_gateway.core.identity import Question
from sentinel_gateway.core.matching import Neighbour
from sentinel_gateway.errors import NotCached
from sentinel_gateway.pipeline.handle import Cached, Whole
from sentinel_gateway.pipeline.semantic import ON_THE_PATH
from tests.fakes import FakeStream, completion, spoken, turns
from tests.pipeline.conftest import question
from tests.pipeline.test_path import HOUR, content

pytestmark = pytest.mark.anyio

ASKED = "What is the capital of France?"
REWORDED = "What's the capital of France?"
OTHER = "How do vaccines teach our bodies?"


@pytest.fixture
def path(make_path):
    return make_path(semantic=True)


async def learn(path, *texts, answer="Paris.", journey=None, **fields):
    """Have these questions answered by the provider, one after the other."""
    for text in texts:
        path.first.replies.append(completion(answer))
        reply, _ = await path.ask(question(text, **fields), journey)
        assert isinstance(reply, Whole)
    path.embedder.batches.clear()


async def missed(path, text, journey=None, **fields):
    """Ask what is not to be answered from the cache; why the semantic tier passed."""
    path.first.replies.append(completion("Something else."))
    reply, journey = await path.ask(question(text, **fields), journey)
    assert isinstance(reply, Whole)
    assert journey.outcome == "miss"
    assert isinstance(journey.miss, Miss)
    assert journey.miss.steps[0].tier == "vector"
    return journey.miss.steps[0]


async def test_other_words_are_answered(path):
    await learn(path, ASKED)

    reply, journey = await path.ask(question(REWORDED))

    assert isinstance(reply, Cached)
    assert content(reply) == "Paris."
    assert reply.hit.tier == "vector"
    assert reply.hit.entry.text == ASKED
    assert reply.hit.similarity == pytest.approx(float(path.embedder.vector(ASKED) @ path.embedder.vector(REWORDED)))
    assert 0.95 <= reply.hit.similarity < 1
    assert (journey.outcome, journey.tier, journey.target, journey.miss) == ("semantic", "vector", "first/m", None)
    assert journey.similarity == reply.hit.similarity
    assert (journey.prompt_tokens, journey.completion_tokens) == (3, 5)
    assert path.calls == 1


async def test_the_same_words_are_an_exact_hit_and_embed_nothing(path):
    await learn(path, ASKED)
    reply, journey = await path.ask(question(ASKED))
    assert (reply.hit.tier, reply.hit.similarity, journey.outcome, journey.similarity) == ("memory", None, "exact", 0.0)
    assert path.embedder.batches == []


async def test_a_semantic_hit_is_kept_under_no_other_key(path):
    """It must stay what it is: judged anew each time, with its similarity told."""
    await learn(path, ASKED)
    for _ in range(2):
        _, journey = await path.ask(question(REWORDED))
        assert journey.outcome == "semantic"
    assert len(path.near.entries) == len(path.far.entries) == 1


async def test_streams_learn_and_are_answered(path):
    path.first.replies.append(FakeStream(*spoken("Pa", "ris.")))
    await path.ask(question(ASKED, stream=True))
    reply, _ = await path.ask(question(REWORDED))
    assert content(reply) == "Paris."
    reply, _ = await path.ask(question(REWORDED, stream=True))
    assert isinstance(reply, Cached)


# -- vectors are made late


async def test_nothing_is_embedded_while_a_scope_is_empty(path):
    assert await missed(path, ASKED) == Step("vector", "miss", "empty-scope")
    assert path.embedder.batches == []
    assert path.index.size() == (1, 0)


async def test_others_have_their_turn_before_a_vector_is_asked_for(path):
    """Reading a request takes the loop for long enough."""
    await learn(path, ASKED)
    begun: list[int] = []
    asyncio.get_running_loop().call_soon(lambda: begun.append(len(path.embedder.batches)))
    await path.ask(question(REWORDED))
    assert begun == [0]
    assert path.embedder.batches == [[REWORDED, ASKED]]


async def test_the_second_question_embeds_itself_and_those_that_wait(path):
    await learn(path, ASKED)
    assert await missed(path, OTHER) == Step("vector", "miss", "below-threshold")
    assert path.embedder.batches == [[OTHER, ASKED]]
    assert path.index.size() == (2, 1)
    await missed(path, "Tell me about glaciers.")
    assert path.embedder.batches[1] == ["Tell me about glaciers.", OTHER]


async def test_a_crowd_that_waits_is_embedded_beside_the_path(path):
    path.embedder.down = True  # else each would embed the one before it
    texts = [f"{word} of mountains" for word in ("Sagas", "Quizzes", "Jokes", "Birds", "Names", "Views", "Myths", "Taxes")]
    texts += [f"{word} of lakes" for word in ("Songs", "Depths", "Kinds", "Fish", "Maps", "Shores", "Ducks", "Waves", "Uses")]
    await learn(path, *texts)
    path.embedder.down = False

    await missed(path, ASKED)

    assert path.embedder.batches[0] == [ASKED, *texts[:ON_THE_PATH]]
    await turns(40)
    assert path.embedder.batches[1:] == [texts[ON_THE_PATH : 2 * ON_THE_PATH], texts[2 * ON_THE_PATH :]]
    assert path.index.size() == (len(texts) + 1, len(texts))
    assert "0 scopes behind" in repr(path.semantic)


async def crowd(path):
    """More questions than one request can give vectors to."""
    path.embedder.down = True
    await learn(path, *(f"{chr(65 + number) * 3} rivers" for number in range(2 * ON_THE_PATH)))
    path.embedder.down = False


async def test_one_task_a_scope_embeds_what_waits_and_ends_with_the_process(path):
    await crowd(path)
    path.embedder.hold = asyncio.Event()
    asking = [asyncio.create_task(path.ask(question(text, max_tokens=9))) for text in (ASKED, OTHER)]
    path.first.replies += [completion(), completion()]
    await turns()
    path.embedder.hold.set()
    path.embedder.hold = asyncio.Event()
    await asyncio.gather(*asking)
    await turns()
    assert "1 scopes behind" in repr(path.semantic)
    assert len(path.embedder.batches) == 3  # two that ask, one beside the path

    await path.semantic.close()

    assert "0 scopes behind" in repr(path.semantic)


async def test_what_fails_beside_the_path_waits_for_the_next_request(path):
    await crowd(path)
    path.embedder.fail_after = 1
    await missed(path, ASKED)
    await turns(40)
    assert path.index.size()[1] == ON_THE_PATH
    path.embedder.fail_after = None
    await missed(path, OTHER)
    await turns(40)
    assert path.index.size() == (2 * ON_THE_PATH + 2, 2 * ON_THE_PATH + 1)
    gc.collect()  # a task whose error nobody saw would speak up now


async def test_a_question_too_long_for_a_vector_is_asked_for_one_once(path):
    path.embedder.too_long = {ASKED}
    await learn(path, ASKED)
    assert await missed(path, OTHER) == Step("vector", "miss", "no-neighbour")
    assert path.index.size() == (1, 0)
    path.embedder.batches.clear()
    path.embedder.too_long = {"Long."}
    assert await missed(path, "Long.") == Step("vector", "miss", "uncacheable-unread")
    assert path.embedder.batches == [["Long.", OTHER]]


# -- who may answer


async def test_never_across_scopes(path):
    await learn(path, ASKED)
    for fields in ({"temperature": 0.5}, {"tools": [{"type": "function", "function": {"name": "f"}}]}, {"stop": "x"}):
        assert (await missed(path, REWORDED, **fields)).detail == "empty-scope"
    assert (await missed(path, REWORDED, path.journey(tenant="other"))).detail == "empty-scope"
    assert (await missed(path, REWORDED, path.journey(namespace="other"))).detail == "empty-scope"


async def test_an_index_that_mixes_up_scopes_leaks_nothing(path):
    await learn(path, ASKED, journey=path.journey(tenant="other"))
    (stray,) = path.near.entries.values()
    path.index.strays = [Neighbour(stray.head(), 0.99)]
    assert await missed(path, ASKED) == Step("vector", "miss", "no-neighbour")


async def test_the_threshold_is_the_callers_down_to_a_floor(path):
    await learn(path, ASKED)
    similarity = float(path.embedder.vector(ASKED) @ path.embedder.vector(REWORDED))
    assert (await missed(path, REWORDED, path.journey(similarity_threshold=similarity + 0.001))).detail == "below-threshold"
    reply, _ = await path.ask(question(REWORDED), path.journey(similarity_threshold=similarity - 0.001))
    assert isinstance(reply, Cached)


async def test_a_guard_forbids_and_the_next_neighbour_may_serve(path):
    await learn(path, "Capital of France in 1999?", answer="Then.")
    assert (await missed(path, "Capital of France in 1998?")).detail == "guard-numbers"
    reply, _ = await path.ask(question("The capital of France in 1998?"))
    assert reply.hit.entry.text == "Capital of France in 1998?"


async def test_an_answer_longer_than_allowed_does_not_serve(path):
    await learn(path, ASKED)  # of 5 tokens
    assert (await missed(path, REWORDED, max_tokens=4)).detail == "guard-length"
    reply, _ = await path.ask(question("What's the capital of France ?", max_tokens=5))
    assert isinstance(reply, Cached)


async def test_the_same_text_with_another_seed_is_its_own_neighbour(path):
    await learn(path, ASKED)
    reply, journey = await path.ask(question(ASKED, seed=7), path.journey(similarity_threshold=1.0))
    assert (reply.hit.similarity, journey.outcome) == (1.0, "semantic")


@pytest.mark.parametrize(
    ("answer", "fields"),
    [
        (completion("Par", finish="length"), {"max_tokens": 5}),
        (completion(None, finish="tool_calls", tool_calls=[{"id": "c", "function": {"name": "f"}}]), {}),
        (completion("By tool.", tool_calls=[{"id": "c", "function": {"name": "f"}}]), {}),
    ],
)
async def test_what_was_not_said_to_its_end_serves_its_own_request_only(path, answer, fields):
    path.first.replies.append(answer)
    await path.ask(question(ASKED, **fields))
    assert len(path.near.entries) == 1
    assert path.index.size() == (0, 0)


async def test_what_has_no_last_question_is_not_compared(path):
    assert (await missed(path, ASKED, n=1, logprobs=True)).detail == "uncacheable-logprobs"
    assert path.index.size() == (0, 0)


async def test_a_newer_answer_that_serves_nobody_else_ends_its_question(path):
    await learn(path, ASKED, max_tokens=9)
    path.first.replies.append(completion("Par", finish="length"))
    await path.ask(question(ASKED, max_tokens=9), path.journey(read=False))
    assert await missed(path, REWORDED, max_tokens=9) == Step("vector", "miss", "no-neighbour")
    assert [head.text for head in path.index.heads.values()] == [REWORDED]


async def test_an_entry_that_is_gone_is_forgotten(path):
    await learn(path, ASKED)
    path.near.entries.clear()
    path.far.entries.clear()
    path.clock.now += 11
    assert await missed(path, REWORDED) == Step("vector", "miss", "no-neighbour")
    assert [head.text for head in path.index.heads.values()] == [REWORDED]


async def test_an_answer_that_may_be_on_its_way_keeps_its_question(path):
    """As another node's, of which the index has told before the store has it."""
    await learn(path, ASKED)
    kept = dict(path.far.entries)
    path.near.entries.clear()
    path.far.entries.clear()
    assert await missed(path, REWORDED) == Step("vector", "miss", "no-neighbour")
    path.near.entries.clear()
    path.far.entries.clear()
    path.far.entries.update(kept)
    _, journey = await path.ask(question(REWORDED), path.journey())
    assert journey.outcome == "semantic"


async def test_an_expired_entry_is_forgotten(path):
    await learn(path, ASKED)
    path.clock.now += 2 * HOUR
    assert (await missed(path, REWORDED)).detail == "no-neighbour"
    assert len(path.index.heads) == 1


async def test_an_entry_too_old_for_this_caller_stays(path):
    await learn(path, ASKED)
    path.clock.now += 60
    assert await missed(path, REWORDED, path.journey(max_age=30.0)) == Step("vector", "request")
    assert len(path.index.heads) == 2


async def test_an_entry_that_memory_alone_holds_stays_too(path):
    """The disk has it some 50 ms later."""
    await learn(path, ASKED)
    path.far.entries.clear()
    assert await missed(path, REWORDED, path.journey(min_fresh=YEAR)) == Step("vector", "request")
    assert len(path.index.heads) == 2


async def test_its_own_expired_question_is_no_company(path):
    await learn(path, ASKED)
    path.clock.now += 2 * HOUR
    assert (await missed(path, ASKED)).detail == "empty-scope"
    await missed(path, OTHER)  # gives both a vector
    path.clock.now += 2 * HOUR
    assert (await missed(path, ASKED)).detail == "below-threshold"


# -- what the caller asks of the cache


async def test_who_will_have_no_stored_answer_is_not_compared(path):
    await learn(path, ASKED)
    for wish in ({"bypass": True, "read": False, "write": False}, {"read": False}):
        path.first.replies.append(completion())
        _, journey = await path.ask(question(REWORDED), path.journey(**wish))
        assert [step.tier for step in journey.miss.steps] == ["memory"]
    assert path.embedder.batches == []


async def test_a_refreshed_answer_is_found_in_other_words(path):
    path.first.replies.append(completion("Lyon."))
    await path.ask(question(ASKED), path.journey(read=False))
    reply, _ = await path.ask(question(REWORDED))
    assert content(reply) == "Lyon."


async def test_only_if_cached_is_answered_in_other_words_or_refused(path):
    await learn(path, ASKED)
    reply, _ = await path.ask(question(REWORDED), path.journey(only_if_cached=True))
    assert isinstance(reply, Cached)
    with pytest.raises(NotCached):
        await path.ask(question(OTHER), path.journey(only_if_cached=True))


async def test_who_finds_its_answer_on_its_way_compares_nothing(path):
    await learn(path, ASKED)
    arrives = asyncio.Event()
    path.first.replies += [arrives, completion("Slow.")]
    first = asyncio.create_task(path.ask(question(OTHER)))
    await path.first.reached.wait()
    await turns()
    path.embedder.batches.clear()
    second = asyncio.create_task(path.ask(question(OTHER)))
    await turns()
    arrives.set()
    (_, one), (_, two) = await asyncio.gather(first, second)
    assert (one.outcome, two.outcome) == ("miss", "coalesced")
    assert path.embedder.batches == []


# -- faults and clears


@pytest.mark.parametrize("broken", ["embedder", "index"])
async def test_a_fault_is_a_miss_and_mends_itself(path, broken):
    await learn(path, ASKED)
    getattr(path, broken).down = True
    assert await missed(path, OTHER) == Step("vector", "miss", "tier-down")
    getattr(path, broken).down = False
    reply, _ = await path.ask(question(REWORDED))
    assert isinstance(reply, Cached)


class Tripping:
    """An `Aside` whose rules trip over every text while `trips`, as one of them might."""

    trips = True

    async def __call__(self, rule):
        return {}[question] if self.trips else rule()

    def close(self) -> None: ...


@pytest.mark.parametrize("wish", [{}, {"explain": True}])
async def test_a_rule_that_trips_over_a_text_is_a_miss_that_the_operator_hears_of(path, wish):
    await learn(path, ASKED)
    path.semantic.aside = Tripping()
    assert await missed(path, REWORDED, path.journey(**wish)) == Step("vector", "miss", "tier-down")
    ((event, fields),) = path.events.notes
    assert (event, fields["error"], fields["sentinel_id"]) == ("semantic_failed", "KeyError", "s")
    assert fields["at"].startswith("test_semantic.py:")
    assert not any(ASKED in str(value) or REWORDED in str(value) for value in fields.values())
    path.semantic.aside.trips = False
    reply, _ = await path.ask(question("What's the capital of France, please?"))
    assert isinstance(reply, Cached)


async def test_a_far_tier_that_is_down_keeps_the_question(path):
    await learn(path, ASKED)
    path.near.entries.clear()
    path.far.down = True
    assert await missed(path, REWORDED) == Step("vector", "miss", "tier-down")
    path.far.down = False
    path.near.entries.clear()
    reply, _ = await path.ask(question(REWORDED))
    assert reply.hit.entry.text in {ASKED, REWORDED}


async def test_a_clear_takes_the_questions_along(path):
    await learn(path, ASKED, journey=path.journey(tags=("a",)))
    await learn(path, OTHER)
    assert await path.tiers.clear(Selector(tag="a")) == 1
    assert [head.text for head in path.index.heads.values()] == [OTHER]
    assert (await missed(path, REWORDED)).detail == "below-threshold"


async def test_an_answer_that_no_tier_took_leaves_no_question(path):
    path.near.takes = path.far.takes = False
    path.first.replies.append(completion())
    await path.ask(question(ASKED))
    assert path.index.size() == (0, 0)


async def test_without_the_tier_nothing_is_compared(make_path):
    path = make_path()
    path.first.replies.append(completion())
    _, journey = await path.ask(question(ASKED))
    assert journey.question is None
    assert [step.tier for step in journey.miss.steps] == ["disk", "memory"]
    (entry,) = path.near.entries.values()
    assert (entry.scope, entry.text) == ("", "")


async def test_an_entry_carries_its_question(path):
    await learn(path, ASKED)
    (entry,) = path.near.entries.values()
    assert entry.text == ASKED
    _, journey = await path.ask(question(REWORDED))
    assert journey.question == Question(entry.scope, REWORDED)
    assert replace(entry.head(), key="k").key == "k"
    assert not hasattr(entry.head(), "body")


async def test_what_may_have_been_cleared_since_is_not_told_of_any_more(path):
    await learn(path, ASKED)
    _, journey = await path.ask(question(REWORDED))
    one = path.semantic.remembered.find(journey.sentinel_id)
    assert repr(path.semantic.remembered) == "<Recollection 1 requests>"
    await path.tiers.clear(Selector(tenant="another"))
    assert not path.semantic.is_cleared(one)
    await path.tiers.clear(Selector(tenant=""))
    assert path.semantic.is_cleared(one)


async def test_what_only_the_end_knows_is_remembered_too(path):
    await learn(path, ASKED)
    path.first.replies.append(completion())
    _, journey = await path.ask(question(OTHER))
    one = path.semantic.remembered.find(journey.sentinel_id)
    assert one.kept is None
    journey.waited = 1.5
    journey.end(path.clock())
    assert (one.kept, one.waited, one.steps) == (journey.kept, 1.5, journey.miss.steps)
    _, journey = await path.ask(question(REWORDED))
    one = path.semantic.remembered.find(journey.sentinel_id)
    before = one.steps
    journey.end(path.clock())
    assert (journey.miss, one.steps) == (None, before)
