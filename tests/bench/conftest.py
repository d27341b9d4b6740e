"""The mock upstream, running, and a client for it."""

from collections.abc import AsyncIterator

import aiohttp
import pytest

from bench.chaos import ChaosUpstream


@pytest.fixture
async def upstream(anyio_backend) -> AsyncIterator[ChaosUpstream]:
    async with ChaosUpstream() as upstream:
        yield upstream


@pytest.fixture
async def client(anyio_backend) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(auto_decompress=False) as client:
        yield client
