"""Which queries of a batch wait for which: by the path's own rules, and never where an answer is nobody else's."""

import msgspec
import pytest
from msgspec.structs import replace

from sentinel_gateway.api.wire.openai import read_request
from sentinel_gateway.core.bound import BoundRules
from sentinel_gateway.core.budget import ErrorBudgets
from sentinel_gateway.core.matching import Thresholds
from sentinel_gateway.pipeline.siblings import Leader, Siblings
from tests.fakes import completion
from tests.pipeline.conftest import question
from tests.pipeline.loop import HERE, credulous
from tests.pipeline.test_evidence import REWORDED_ROUTING, ROUTING

pytestmark = pytest.mark.anyio

ASKED = "What is the capital of France?"
REWORDED = "What's the capital of France?"
NEGATED = "What is not the capital of France?"
OTHER = "How do vaccines teach our bodies?"


@pytest.fixture
def path(make_path):
    return make_path(semantic=True)


def siblings(path, *, semantic=True) -> Siblings:
    planner = path.pipeline._planner  # noqa: SLF001 - the one by which the path finds its keys
    return Siblings(planner, path.tiers, path.semantic if semantic else None, BoundRules())


async def leaders(path, *texts, journey=None, semantic=True, **fields) -> list[Leader | None]:
    """Of chats, which are understood as queries are."""
    gathering = siblings(path, semantic=semantic).meet(journey or path.journey())
    bodies = [msgspec.json.encode(one if isinstance(one, dict) else question(one, **fields)) for one in texts]
    return await gathering.join(bodies)


async def answer(path, text: str) -> None:
    """Have a provider answer it."""
    path.first.replies.append(completion())
    await path.ask(question(text))


def same(number: int) -> Leader:
    return Leader(number, same=True)


def near(number: int) -> Leader:
    return Leader(number, same=False)


async def test_the_same_and_the_same_in_other_words_wait_for_the_first(path):
    found = await leaders(path, ASKED, OTHER, REWORDED, ASKED, REWORDED, OTHER)
    assert found == [None, None, near(0), same(0), same(2), same(1)]


async def test_they_are_found_across_calls_of_a_few(path):
    gathering = siblings(path).meet(path.journey())
    bodies = [msgspec.json.encode(question(text)) for text in (OTHER, ASKED, REWORDED, OTHER)]
    assert [await gathering.join([body]) for body in bodies] == [[None], [None], [near(1)], [same(0)]]


async def test_a_guard_lets_nobody_wait(path):
    similarity = float(path.embedder.vector(ASKED) @ path.embedder.vector(NEGATED))
    assert similarity > 0.95, "as near as it takes"
    assert await leaders(path, ASKED, NEGATED) == [None, None]


async def test_what_is_not_of_one_scope_is_not_compared(path):
    other = question(REWORDED, temperature=1.0)
    assert await leaders(path, question(ASKED, temperature=0.1), other) == [None, None]


async def test_a_limit_of_tokens_makes_another_request_but_no_other_question(path):
    assert await leaders(path, question(ASKED, max_tokens=10), question(ASKED, max_tokens=500)) == [None, near(0)]


async def test_questions_that_are_bound_wait_for_the_very_same_alone(path):
    bound = "What is the weather in Paris today?", "What's the weather in Paris today?"
    assert await leaders(path, *bound, bound[0]) == [None, None, same(0)]
    assert path.embedder.batches == []


async def test_what_memory_has_waits_for_nobody_in_other_words(path):
    await answer(path, REWORDED)
    path.embedder.batches.clear()
    assert await leaders(path, ASKED, REWORDED) == [None, None]
    assert path.embedder.batches == [[ASKED]]


@pytest.mark.parametrize(
    "wish", [{"bypass": True, "read": False, "write": False}, {"read": False}, {"write": False}, {"ttl": 0.0}]
)
async def test_who_shares_no_answer_waits_for_none(path, wish):
    assert await leaders(path, ASKED, ASKED, REWORDED, journey=path.journey(**wish)) == [None] * 3


async def test_without_a_semantic_tier_only_the_same_wait(path):
    assert await leaders(path, ASKED, REWORDED, ASKED, semantic=False) == [None, None, same(0)]


async def test_what_can_t_be_understood_waits_for_nobody(path):
    assert await leaders(path, {"model": 1}, {"model": 1}, question(ASKED, model="nobody/x"), ASKED) == [None] * 4


async def test_without_an_embedder_and_with_a_rule_that_trips_only_the_same_wait(path):
    path.embedder.down = True
    assert await leaders(path, ASKED, REWORDED, ASKED) == [None, None, same(0)]
    assert path.events.notes == []
    path.embedder.down = False
    path.embedder.vector = None
    assert await leaders(path, ASKED, REWORDED, ASKED) == [None, None, same(0)]
    assert [note[0] for note in path.events.notes] == ["semantic_failed"]


async def test_what_was_answered_is_found_once_it_is_settled(path):
    """However many of the scope still wait for a vector."""
    gathering = siblings(path).meet(path.journey())
    bodies = [msgspec.json.encode(question(text)) for text in (ASKED, REWORDED)]
    assert await gathering.join(bodies) == [None, near(0)]
    await answer(path, ASKED)
    (head,) = path.index.heads.values()
    path.index.heads = {}  # as if others had been answered before
    for number in range(40):
        path.index.add(replace(head, key=f"key {number}", text=f"{OTHER} {number}"))
    path.index.add(head)
    assert head not in (await path.index.view(head.scope, waiting=20)).waiting
    await gathering.settle(near(0))
    _, journey = await path.ask(question(REWORDED))
    assert journey.outcome == "semantic"
    await gathering.settle(same(0))


async def test_what_was_learned_is_waited_for_and_holds(make_path):
    """Where labels decide, a guard that only doubts keeps nobody from waiting."""
    path = make_path(semantic=True, judged=True)
    assert await leaders(path, ROUTING, REWORDED_ROUTING) == [None, None]
    await path.evidence.close()
    path = make_path(semantic=True, judged=True)
    path.learned.kept[HERE] = credulous()
    assert await leaders(path, ROUTING, REWORDED_ROUTING) == [None, near(0)]
    await path.evidence.close()


async def test_a_threshold_of_a_query_stands_above_the_batch_s(make_path):
    def strict(raw):
        return replace(read_request(raw, max_depth=64), similarity_threshold=0.999)

    path = make_path(semantic=True, decode=strict)
    assert await leaders(path, ASKED, REWORDED, journey=path.journey(similarity_threshold=0.9)) == [None, None]


async def test_what_has_no_vector_waits_for_nobody(path):
    path.embedder.too_long |= {ASKED, REWORDED}
    assert await leaders(path, ASKED, REWORDED, OTHER, OTHER) == [None, None, None, same(2)]
    assert path.events.notes == []


async def test_a_text_stands_once_also_where_a_budget_lets_nothing_serve(make_path):
    path = make_path(semantic=True, judged=True)
    path.semantic.thresholds = Thresholds(0.95, 0.7, ErrorBudgets(0.0))
    bodies = [question(ASKED, max_tokens=limit) for limit in (1, 2, 3)]
    assert await leaders(path, *bodies, journey=path.journey(similarity_threshold=0.9)) == [None] * 3
    assert path.events.notes == []
    await path.evidence.close()


async def test_without_a_semantic_tier_nothing_has_to_be_found_in_it(path):
    await siblings(path, semantic=False).settle("scope")
    assert path.embedder.batches == []


async def test_reprs_tell_the_state(path):
    gathering = siblings(path).meet(path.journey())
    await gathering.join([msgspec.json.encode(question(ASKED))])
    assert repr(gathering) == "<Gathering of 1 queries, 1 scopes>"
    assert repr(siblings(path)).startswith("<Siblings ")
