"""The bench of the semantic tier measures what it says, on a small scale."""

import itertools

import pytest

from bench.semantic import measure_all, questions

pytestmark = pytest.mark.anyio


def test_no_question_comes_twice():
    made = list(itertools.islice(questions(), 5000))
    assert len(set(made)) == len(made)


async def test_every_stage_is_measured():
    found = await measure_all(sizes=(20, 600), rounds=3)
    for cost in (found.embed_short, found.embed_long, found.embed_nine, found.embed_known, *(s.cost for s in found.searches)):
        assert 0 < cost.loop_cpu <= cost.cpu
        assert 0 < cost.wall.p50 <= cost.wall.max
    assert found.embed_known.cpu < found.embed_short.cpu
    assert [search.questions for search in found.searches] == [20, 600]
    assert [search.recall for search in found.searches] == [1.0, 1.0]
    assert 1000 < found.bytes_per_question < 2500
    assert found.load > 0
