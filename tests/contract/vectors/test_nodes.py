"""Several nodes over one index: what one has been told, another finds."""

import pytest

from sentinel_gateway.core.caching import Selector
from sentinel_gateway.pipeline.handle import Cached, Whole
from sentinel_gateway.ports import ScopeView
from sentinel_gateway.vectors._records import Records
from tests.contract.vectors.conftest import ADAPTERS, DIMENSION, MODEL, RECORDS, make_head, unit
from tests.fakes import FakeClock, FakeEmbedder, FakeFar, completion
from tests.pipeline.conftest import Path, question
from tests.pipeline.test_path import content

pytestmark = pytest.mark.anyio

ASKED = "What is the capital of France?"
REWORDED = "What's the capital of France?"


@pytest.fixture(params=[name for name in ADAPTERS if name != "memory"])
async def open_node(request, servers, clock, anyio_backend):
    """To be called: one more index over the same server, empty at first."""
    await servers.empty(request.param)
    opened = []

    async def open_one(records=RECORDS):
        opened.append(await servers.node(request.param, clock, records))
        return opened[-1]

    yield open_one
    for index in opened:
        await index.close()


async def test_an_answer_made_on_one_node_is_found_in_other_words_on_another(open_node):
    """The question waits for its vector until somebody asks in its scope, on whichever node."""
    far = FakeFar()
    records = Records(b"secret", model="letters", dimension=FakeEmbedder.vector("a").size)
    indexes = [await open_node(records), await open_node(records)]
    first, second = [Path(far=far, semantic=index) for index in indexes]
    first.first.replies.append(completion("Paris."))
    reply, _ = await first.ask(question(ASKED))
    assert isinstance(reply, Whole)
    assert first.embedder.batches == []
    await indexes[0].flush()

    reply, _ = await second.ask(question(REWORDED))

    assert isinstance(reply, Cached)
    assert content(reply) == "Paris."
    assert reply.hit.tier == "vector"
    assert second.calls == 0
    assert second.embedder.batches == [[REWORDED, ASKED]]


async def test_one_node_embeds_for_all(open_node):
    one, other = await open_node(), await open_node()
    head = make_head("a")
    one.add(head)
    await one.flush()
    assert await other.view("scope", waiting=8) == ScopeView(0, (head,))
    await other.attach([(head, unit(1))])
    assert await one.view("scope", waiting=8) == ScopeView(1, ())
    assert [near.head for near in await one.nearest("scope", unit(1), limit=3)] == [head]


async def test_what_one_node_drops_or_replaces_no_other_finds(open_node):
    one, other = await open_node(), await open_node()
    heads = [make_head("a"), make_head("b")]
    for head in heads:
        one.add(head)
    await one.flush()
    await one.attach([(head, unit(number)) for number, head in enumerate(heads)])
    newer = make_head("b", created=heads[1].created + 1)
    other.drop([heads[0]])
    other.add(newer)
    await other.flush()
    assert await one.nearest("scope", unit(0), limit=3) == []
    await one.attach([(heads[1], unit(1))])
    assert await one.view("scope", waiting=8) == ScopeView(0, (newer,))


async def test_a_clear_on_one_node_is_one_on_all(open_node, clock):
    one, other = await open_node(), await open_node()
    heads = [make_head(str(number), f"scope-{number}", tags=("even", "odd")[number % 2 : number % 2 + 1]) for number in range(20)]
    for head in heads:
        one.add(head)
    await one.flush()
    await one.attach([(head, unit(1)) for head in heads[:10]])
    assert await other.clear(Selector(tag="even"), clock.now) == 10
    views = [await one.view(f"scope-{number}", waiting=8) for number in range(20)]
    assert [view.vectors + len(view.waiting) for view in views] == [0, 1] * 10


async def test_vectors_of_another_model_are_never_compared_but_cleared_with_the_others(open_node, clock):
    ours, theirs = await open_node(), await open_node(Records(b"secret", model="another", dimension=2 * DIMENSION))
    head = make_head("a")
    theirs.add(head)
    await theirs.flush()
    await theirs.attach([(head, unit(1, dimension=2 * DIMENSION))])
    assert await ours.view("scope", waiting=8) == ScopeView(0, ())
    assert await ours.nearest("scope", unit(1), limit=3) == []
    assert await ours.clear(Selector(), clock.now) == 1
    assert await theirs.view("scope", waiting=8) == ScopeView(0, ())


async def test_what_is_over_is_not_found(open_node, clock):
    """Whether it waits or has a vector; a longer one of the same scope stays."""
    index = await open_node()
    heads = [make_head(str(number), expires=clock.now + (10 if number % 2 else 1000)) for number in range(8)]
    for head in heads:
        index.add(head)
    await index.flush()
    await index.attach([(head, unit(number)) for number, head in enumerate(heads[:4])])
    clock.now += 11
    assert (await index.view("scope", waiting=8)).waiting == (heads[4], heads[6])
    assert [near.head for near in await index.nearest("scope", unit(1), limit=8)] in ([heads[0], heads[2]], [heads[2], heads[0]])


async def test_what_nobody_could_read_back_is_not_sent(open_node):
    index = await open_node()
    index.add(make_head("a", text="a lone surrogate: \ud800"))
    index.add(make_head("b", completion_tokens=2**64))
    index.add(make_head("c", expires=FakeClock().now))
    index.add(make_head("d"))
    await index.flush()
    assert await index.view("scope", waiting=8) == ScopeView(0, (make_head("d"),))


async def test_gateways_without_a_common_secret_stay_out_of_each_others_way(open_node, clock):
    ours, theirs = await open_node(), await open_node(Records(b"another", model=MODEL, dimension=DIMENSION))
    head = make_head("a")
    for index in (ours, theirs):
        index.add(head)
        await index.flush()
        await index.attach([(head, unit(1))])
    assert await theirs.clear(Selector(), clock.now) == 1
    assert [near.head for near in await ours.nearest("scope", unit(1), limit=3)] == [head]
