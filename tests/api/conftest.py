"""One upstream and one gateway for each module; every test asks what no other test asks."""

from collections.abc import AsyncIterator

import pytest

from bench.chaos import ChaosUpstream
from tests.gateway import Gateway, one_provider, running_gateway


@pytest.fixture(scope="module")
async def chaos(anyio_backend) -> AsyncIterator[ChaosUpstream]:
    """The upstream as it runs for the whole module."""
    async with ChaosUpstream() as upstream:
        yield upstream


@pytest.fixture
def upstream(chaos) -> ChaosUpstream:
    """The same with an empty log and no fault queued."""
    chaos.reset()
    return chaos


@pytest.fixture(scope="module")
async def gateway(chaos, tmp_path_factory) -> AsyncIterator[Gateway]:
    """With the provider `mock` alone."""
    async with running_gateway(tmp_path_factory.mktemp("gateway"), config=one_provider(chaos.base_url)) as gateway:
        yield gateway


@pytest.fixture
def text(request) -> str:
    """A question of this test alone."""
    return f"{request.module.__name__} {request.node.name}?"
