"""Reports of a gateway: what the configuration asks for, made of what the ledger has."""

import asyncio
from zoneinfo import ZoneInfo

import pytest

from sentinel_gateway.alerts.reports import Report, Schedule
from sentinel_gateway.core.alerting.reports import Wanted
from tests.gateway import chat, one_provider, running_gateway

pytestmark = pytest.mark.anyio

HOUR = 3600


async def test_what_it_says_is_what_the_ledger_has(tmp_path, chaos):
    config = one_provider(chaos.base_url) + (
        "alerts: {channels: {ops: {webhook: 'http://127.0.0.1:9/', secret: whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz}}}\n"
        "reports: {weekly: {every: week, on: friday, at: 9, zone: Europe/Berlin, by: provider}}\n"
    )
    async with running_gateway(tmp_path, config=config) as gateway:
        [weekly] = gateway.process.watch.plan.reports
        assert weekly == Report(Wanted(name="weekly", period="week", by="provider"), Schedule(ZoneInfo("Europe/Berlin"), 9, 4))
        answers = [await gateway.ask(chat("How many?")) for _ in range(3)]
        now = gateway.process.clock()
        compile_ = gateway.process.watch.plan.compile
        told = await compile_(weekly.wanted, now - HOUR, now + HOUR)
        while told.data["now"]["requests"] < 3:  # the ledger has them a second or two later
            await asyncio.sleep(0.1)
            told = await compile_(weekly.wanted, now - HOUR, now + HOUR)
    assert told.data["now"]["hits"] == 2
    assert told.data["now"]["spent"] == pytest.approx(float(answers[0].headers["x-sentinel-cost-usd"]))
    assert told.data["now"]["saved"] == pytest.approx(2 * told.data["now"]["spent"])
    assert told.data["before"]["requests"] == 0
    assert [row["name"] for row in told.data["rows"]] == ["mock"]
