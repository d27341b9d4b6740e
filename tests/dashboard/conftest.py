"""One upstream for each module, and Chromium for all of them."""

import shutil
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, async_playwright

from bench.chaos import ChaosUpstream
from tests.dashboard.visitor import Visitor, visiting
from tests.gateway import Gateway, one_provider, running_gateway

CHROMIUM = shutil.which("chromium")


@pytest.fixture(scope="module")
async def chaos(anyio_backend) -> AsyncIterator[ChaosUpstream]:
    async with ChaosUpstream() as upstream:
        yield upstream


@pytest.fixture(scope="module")
async def closed(chaos, tmp_path_factory) -> AsyncIterator[Gateway]:
    """A gateway that asks everybody for a key."""
    config = one_provider(chaos.base_url) + "keys: {required: true}\n"
    async with running_gateway(tmp_path_factory.mktemp("closed"), config=config) as gateway:
        yield gateway


@pytest.fixture
async def visitor(closed) -> AsyncIterator[Visitor]:
    """A browser that has not been there before."""
    async with visiting(closed) as visitor:
        yield visitor


@pytest.fixture(scope="session")
async def chromium(anyio_backend, absent) -> AsyncIterator[Browser]:
    """Debian's, without a window."""
    binary = CHROMIUM or absent("chromium: make test-deps installs it")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=binary, args=["--disable-gpu"])
        yield browser
        await browser.close()
