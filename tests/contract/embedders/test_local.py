"""A model that is slow, fails, or makes nonsense: nobody waits for it long, nothing of it is remembered, and it is left alone."""

import asyncio
import threading
import time

import anyio
import anyio.lowlevel
import numpy as np
import pytest

from sentinel_gateway.embedders.local import LocalEmbedder, LocalLimits
from sentinel_gateway.errors import EmbedderDown
from tests.contract.embedders.conftest import FAKE, PATIENT, FakeModel, open_fake, until

pytestmark = pytest.mark.anyio

BAD = ["nan", "inf", "zero", "dimension", "count", "raises"]


async def down(embedder, *texts) -> str:
    """The reason why it is."""
    with pytest.raises(EmbedderDown) as caught:
        await embedder.embed(texts)
    return str(caught.value)


async def test_a_thousand_callers_with_one_text_are_one_inference(opened, model):
    embedder = await opened()
    vectors = []

    async def ask():
        vectors.extend(await embedder.embed(["everybody's"]))

    async with anyio.create_task_group() as group:
        for _ in range(1000):
            group.start_soon(ask)
    assert len(vectors) == 1000
    assert len({id(vector) for vector in vectors}) == 1
    assert model.asked == [["everybody's"]]


async def test_a_batch_holds_only_what_nobody_has_asked_for(opened, model):
    embedder = await opened()
    await embedder.embed(["a"])
    model.fault = "slow"
    async with anyio.create_task_group() as group:
        group.start_soon(embedder.embed, ["a", "b"])
        await until(lambda: len(model.asked) == 2)
        group.start_soon(embedder.embed, ["c", "a", "b", "c"])
        await anyio.lowlevel.checkpoint()
        model.released.set()
    assert model.asked == [["a"], ["b"], ["c"]]


async def test_what_was_embedded_lately_costs_nothing_even_while_the_model_is_stuck(opened, model):
    embedder = await opened()
    known = await embedder.embed(["known", "word " * 21])
    model.fault = "slow"
    async with anyio.create_task_group() as group:
        group.start_soon(embedder.embed, ["other"])
        await until(lambda: len(model.asked) == 2)
        assert [one is other for one, other in zip(await embedder.embed(["known", "word " * 21]), known, strict=True)] == [
            True,
            True,
        ]
        model.released.set()


async def test_what_it_remembers_is_bounded(opened, model):
    embedder = await opened(remembered_bytes=10_000)
    for number in range(100):
        await embedder.embed([f"text {number}"])
    await embedder.embed(["text 99"])
    await embedder.embed(["text 0"])
    assert model.asked[-2:] == [["text 99"], ["text 0"]]


@pytest.mark.parametrize("fault", BAD)
async def test_nonsense_is_never_handed_out_nor_remembered(opened, model, fault):
    embedder = await opened()
    model.fault = fault
    assert await down(embedder, "text", "other")
    assert len(model.asked) == 1
    model.fault = None
    vectors = await embedder.embed(["text", "other"])
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("fault", BAD)
async def test_after_several_failures_in_a_row_it_is_left_alone_until_it_works(opened, model, told, fault):
    embedder = await opened(failures=3, pause=0.5)
    model.fault = fault
    reasons = [await down(embedder, f"text {number}") for number in range(50)]
    assert 3 <= len(model.asked) < 50
    assert told.names == ["embedder_down"]
    assert told.events[0][1]["reason"] == reasons[2]
    assert "left alone" in reasons[3]
    model.fault = None
    await anyio.sleep(0.51)
    await embedder.embed(["probe"])
    assert told.names == ["embedder_down", "embedder_up"]
    await embedder.embed(["text 0"])
    assert told.names == ["embedder_down", "embedder_up"]


async def test_a_success_in_between_starts_the_count_again(opened, model, told):
    embedder = await opened(failures=3)
    for number in range(10):
        model.fault = "raises"
        await down(embedder, f"{number}")
        await down(embedder, f"{number}")
        model.fault = None
        await embedder.embed([f"{number}"])
    assert told.events == []


async def test_while_it_is_left_alone_what_it_remembers_is_served(opened, model):
    embedder = await opened(failures=1, pause=60.0)
    known = await embedder.embed(["known"])
    model.fault = "raises"
    await down(embedder, "text")
    assert "left alone" in await down(embedder, "text")
    assert (await embedder.embed(["known"]))[0] is known[0]


async def test_nobody_waits_longer_than_the_deadline_and_a_stuck_model_is_left_alone(opened, model, told):
    embedder = await opened(deadline=0.2, failures=3, pause=60.0)
    model.fault = "slow"
    reasons = [await down(embedder, f"text {number}") for number in range(5)]
    assert reasons[:3] == ["no vector within 0.2 s"] * 3
    assert "left alone" in reasons[3]
    assert len(model.asked) == 1, "what had not begun was given up"
    assert told.events == [("embedder_down", {"reason": "no vector within 0.2 s"})]


async def test_who_waits_too_long_behind_others_is_not_the_models_failure(told):
    class Stalling(FakeModel):
        """Stuck after its first batch."""

        def vectors(self, texts):
            made = super().vectors(texts)
            self.fault = "slow"
            return made

    model = Stalling()
    embedder = await open_fake(model, told, limits=LocalLimits(deadline=1.0, failures=1, pause=60.0))
    first, *others = await asyncio.gather(embedder.embed(["first"]), *(down(embedder, text) for text in ("b", "c", "d")))
    assert len(first) == 1
    assert others == ["no vector within 1 s"] * 3
    assert (embedder.works, told.events) == (True, [])
    assert await down(embedder, "e") == "no vector within 1 s"
    assert told.names == ["embedder_down"], "nothing has ended since it was asked"
    model.released.set()
    await embedder.close()


async def test_who_asks_for_a_text_that_is_late_already_is_not_kept_waiting(opened, model):
    embedder = await opened(deadline=1.0)
    model.fault = "slow"
    async with anyio.create_task_group() as group:
        group.start_soon(down, embedder, "text")
        await until(lambda: len(model.asked) == 1)
    start = time.monotonic()
    assert await down(embedder, "text") == "no vector within 1 s"
    assert time.monotonic() - start < 0.9
    assert len(model.asked) == 1


async def test_a_late_vector_is_remembered_but_does_not_mean_that_all_is_well(opened, model, told):
    embedder = await opened(deadline=0.5, failures=1, pause=60.0)
    model.fault = "slow"
    await down(embedder, "text")
    model.released.set()
    await until(lambda: "0 texts in work" in repr(embedder))
    assert (await embedder.embed(["text"]))[0] is not None
    assert len(model.asked) == 1
    assert "left alone" in await down(embedder, "other")
    assert told.names == ["embedder_down"]


async def test_too_much_at_once_is_refused_at_once_and_is_not_the_models_fault(opened, model, told):
    embedder = await opened(queue_texts=4, failures=1)
    model.fault = "slow"
    async with anyio.create_task_group() as group:
        group.start_soon(embedder.embed, ["a", "b", "c"])
        await until(lambda: len(model.asked) == 1)
        assert "3 texts are waiting" in await down(embedder, "d", "e")
        group.start_soon(embedder.embed, ["a", "b", "c", "d"])
        await anyio.lowlevel.checkpoint()
        assert "4 texts are waiting" in await down(embedder, "e")
        model.released.set()
    assert told.events == []
    assert (await embedder.embed(["e"]))[0] is not None


async def test_what_nobody_waits_for_is_given_up_if_it_has_not_begun(opened, model):
    embedder = await opened()
    model.fault = "slow"
    async with anyio.create_task_group() as group:
        group.start_soon(embedder.embed, ["begun"])
        await until(lambda: len(model.asked) == 1)
        with anyio.move_on_after(0.02) as impatience:
            await embedder.embed(["left"])
        assert impatience.cancelled_caught
        group.start_soon(embedder.embed, ["stays"])
        await anyio.lowlevel.checkpoint()
        model.released.set()
    assert model.asked == [["begun"], ["stays"]]


async def test_a_text_that_was_given_up_may_be_asked_for_again_at_once(opened, model):
    embedder = await opened()
    model.fault = "slow"
    async with anyio.create_task_group() as group:
        group.start_soon(embedder.embed, ["begun"])
        await until(lambda: len(model.asked) == 1)
        leaver = asyncio.create_task(embedder.embed(["text"]))
        await anyio.lowlevel.checkpoint()
        leaver.cancel()
        await asyncio.wait([leaver])
        group.start_soon(embedder.embed, ["text"])
        await anyio.lowlevel.checkpoint()
        model.released.set()
    assert model.asked == [["begun"], ["text"]]


async def test_what_had_begun_when_its_last_caller_left_is_remembered(opened, model):
    embedder = await opened()
    model.fault = "slow"
    with anyio.move_on_after(0.02) as impatience:
        await embedder.embed(["left"])
    assert impatience.cancelled_caught
    model.released.set()
    await until(lambda: "0 texts in work" in repr(embedder))
    assert (await embedder.embed(["left"]))[0] is not None
    assert model.asked == [["left"]]


async def test_the_event_loop_goes_on_while_the_model_works(opened, model):
    embedder = await opened()
    model.fault = "slow"
    turns = 0
    async with anyio.create_task_group() as group:
        group.start_soon(embedder.embed, ["text"])
        await until(lambda: len(model.asked) == 1)
        for _ in range(1000):
            await anyio.lowlevel.checkpoint()
            turns += 1
        model.released.set()
    assert turns == 1000


@pytest.mark.parametrize("threads", [1, 2])
async def test_it_takes_as_many_threads_as_it_was_given(opened, model, threads):
    embedder = await opened(threads=threads)
    model.fault = "slow"
    async with anyio.create_task_group() as group:
        for number in range(4):
            group.start_soon(embedder.embed, [f"text {number}"])
        await until(lambda: len(model.asked) == threads)
        await anyio.sleep(0.05)
        assert len(model.asked) == threads
        model.released.set()


async def test_a_model_that_can_not_be_loaded_is_down_for_good_and_says_so_once(told):
    attempts = []

    def load():
        attempts.append(threading.current_thread())
        raise OSError("the file is not there")

    embedder = await LocalEmbedder.open(FAKE, load, limits=PATIENT, on_event=told)
    for _ in range(20):
        assert await down(embedder, "text") == "the model could not be loaded: the file is not there"
    assert await embedder.embed(["x" * 201]) == [None]
    assert told.events == [("embedder_down", {"reason": "the model could not be loaded: the file is not there"})]
    assert len(attempts) == 1
    assert attempts[0] is not threading.main_thread()
    await embedder.close()


async def test_closing_gives_up_what_waits_and_lets_what_has_begun_end(opened, model):
    embedder = await opened()
    model.fault = "slow"
    begun = asyncio.create_task(embedder.embed(["begun"]))
    await until(lambda: len(model.asked) == 1)
    waiting = asyncio.create_task(embedder.embed(["waiting"]))
    await anyio.lowlevel.checkpoint()
    closing = asyncio.create_task(embedder.close())
    await asyncio.wait([begun, waiting])
    assert [str(task.exception()) for task in (begun, waiting)] == ["the embedder is closed"] * 2
    assert not closing.done()
    model.released.set()
    await closing
    assert model.asked == [["begun"]]


async def test_a_stuck_model_does_not_hold_up_the_end(opened, model):
    embedder = await opened(deadline=0.5)
    model.fault = "slow"
    begun = asyncio.create_task(embedder.embed(["begun"]))
    await until(lambda: len(model.asked) == 1)
    with anyio.fail_after(10):
        await embedder.close()
    assert isinstance(begun.exception(), EmbedderDown)


async def test_it_tells_its_state(opened, model):
    embedder = await opened()
    assert repr(embedder) == "<LocalEmbedder words: working, 0 texts in work, <Breaker closed, 0 failures in a row>>"
