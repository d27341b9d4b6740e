"""What every embedder promises, whatever makes its vectors."""

import anyio
import anyio.lowlevel
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sentinel_gateway.errors import EmbedderDown

pytestmark = pytest.mark.anyio

TEXTS = ["How do I reset my password?", "Where is my card?", "a", "", "Grüße, naïve café", " spaces  and\ttabs\n", "[SEP]", "0"]


async def test_a_text_has_a_finite_vector_of_unit_length(embedder):
    vectors = await embedder.embed(TEXTS)
    assert len(vectors) == len(TEXTS)
    assert {(vector.dtype, vector.shape) for vector in vectors} == {(np.dtype(np.float32), (embedder.dimension,))}
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1.0, abs=1e-3)


async def test_vectors_come_in_the_order_of_the_texts(embedder):
    one_by_one = [(await embedder.embed([text]))[0] for text in TEXTS]
    for got, expected in zip(await embedder.embed(TEXTS[::-1]), one_by_one[::-1], strict=True):
        assert got @ expected == pytest.approx(1.0, abs=1e-6)


async def test_a_batch_does_not_mix_texts_up(embedder):
    together = await embedder.embed([f"{text} {number}" for number in range(3) for text in TEXTS[:2]])
    apart = [(await embedder.embed([f"{text} {number} "]))[0] for number in range(3) for text in TEXTS[:2]]
    assert (np.array(together) @ np.array(apart).T).argmax(axis=1).tolist() == list(range(len(together)))


async def test_the_same_text_twice_is_one(embedder):
    first, other, second = await embedder.embed(["same", "other", "same"])
    assert first is second
    assert first is not other
    assert (await embedder.embed(["same"]))[0] is first


async def test_no_text_has_no_vector(embedder):
    assert await embedder.embed([]) == []


async def test_texts_alike_are_nearer_than_others(embedder):
    one, like, other = await embedder.embed(
        ["What is the capital of France?", "What is the capital city of France?", "How do I bake bread at home?"]
    )
    assert one @ like > 0.8
    assert one @ other < 0.5


@pytest.mark.parametrize("words", [130, 1000, 1_000_000])
async def test_a_text_that_is_too_long_has_none_and_nothing_is_cut_off(embedder, words):
    long = "word " * words
    assert [vector is None for vector in await embedder.embed(["short", long, "also short"])] == [False, True, False]
    assert await embedder.embed([long]) == [None]


async def test_vectors_are_nobodys_to_change(embedder):
    (vector,) = await embedder.embed(["text"])
    with pytest.raises(ValueError, match="read-only"):
        vector[0] = 1.0


async def test_a_caller_that_leaves_costs_the_others_nothing(embedder):
    found = []

    async def ask(text):
        found.append(await embedder.embed([text, "shared"]))

    async with anyio.create_task_group() as group:
        group.start_soon(ask, "stays")
        with anyio.CancelScope() as leaving:
            async with anyio.create_task_group() as others:
                others.start_soon(ask, "leaves")
                await anyio.lowlevel.checkpoint()
                leaving.cancel()
    assert leaving.cancelled_caught
    ((own, shared),) = found
    assert own is (await embedder.embed(["stays"]))[0]
    assert shared is (await embedder.embed(["shared"]))[0]


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=200) | st.text(st.characters(codec=None), max_size=20))
async def test_any_text_has_a_vector_or_none(embedder, text):
    (vector,) = await embedder.embed([text])
    assert vector is None or np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-3)


async def test_it_names_what_makes_its_vectors(embedder):
    assert embedder.model
    assert embedder.model in repr(embedder)


async def test_a_closed_one_is_down(embedder):
    (vector,) = await embedder.embed(["known"])
    assert vector is not None
    await embedder.close()
    with pytest.raises(EmbedderDown):
        await embedder.embed(["unknown"])
    await embedder.close()


async def test_it_tells_nothing_when_all_is_well(embedder, told):
    await embedder.embed(TEXTS)
    await embedder.close()
    assert told.events == []
