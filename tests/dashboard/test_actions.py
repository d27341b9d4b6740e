"""What is done on pages without a test file of their own, in Chromium at three sizes: keys, files to take away, signing out."""

import asyncio
import csv
import re
from pathlib import Path

import pytest

from tests.dashboard.looking import SIZES, looking
from tests.gateway import chat, one_provider, running_gateway

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("size", SIZES)]

KEY = re.compile(r"sk-sn-\w{49}")


@pytest.fixture(scope="module")
async def gateway(chaos, tmp_path_factory):
    config = one_provider(chaos.base_url) + "keys: {required: true}\n"
    async with running_gateway(tmp_path_factory.mktemp("acted"), config=config) as gateway:
        assert (await gateway.ask(chat("What does it cost?"), **gateway.admin)).status == 200
        for _ in range(600):  # the ledger has it a second or two later
            told = await gateway.get("/api/monitoring/spending?by=key", headers=gateway.admin)
            if told.json["total_shares"]:
                break
            await asyncio.sleep(0.1)
        assert told.json["total_shares"] == 1
        yield gateway


async def opens(gateway, key):
    return (await gateway.ask(chat("Does it open?"), authorization=f"Bearer {key}")).status


async def test_a_key_is_made_found_given_a_budget_rotated_and_revoked(chromium, gateway, size):
    name = f"app on a {size} screen"
    async with looking(chromium, gateway, size=size) as look:
        page, rows = look.page, look.page.locator("#keys tbody tr", has_text=name)

        async def told(words):
            return await page.inner_text(f"[role=status]:has-text('{words}')")

        await look.open("/dashboard/keys")
        await page.click("summary:has-text('Make a key')")
        await page.fill("#name", name)
        await page.fill("#new-tenant", "acme")
        await page.check("[name=scope_read]")
        await page.fill("#budget_day", "1.50")
        await page.click("button:text('Make the key')")
        first = KEY.search(await told("is made"))[0]
        assert await opens(gateway, first) == 200

        await gateway.key(name=f"another, not on a {size} screen")
        await look.open("/dashboard/keys")
        await page.fill("#search", "app on")  # all at once: each pause in typing would load the list once more
        await page.wait_for_selector("#keys:not(:has-text('another'))")
        assert await rows.count() == 1

        await rows.locator("summary").click()
        await rows.locator("[name=budget_day]").fill("8")
        await rows.locator("button:text('Set the budget')").click()
        await told("may spend $8.00 a day")
        await rows.locator("summary").click()
        await rows.locator("button:text('Rotate')").click()
        second = KEY.search(await told("The new key"))[0]
        assert [await opens(gateway, key) for key in (first, second)] == [200, 200]
        for _ in range(2):
            row = rows.filter(has=page.locator("summary")).first
            await row.locator("summary").click()
            await row.locator("button:text('Revoke')").click()
            await told("is revoked")
        assert [await opens(gateway, key) for key in (first, second)] == [401, 401]
        assert look.complaints == look.foreign == []
    told_of = [one["action"] for one in (await gateway.get("/admin/audit?limit=6", headers=gateway.admin)).json["data"]]
    assert told_of == ["key.revoke", "key.revoke", "key.rotate", "key.budget", "key.create", "key.create"]


async def test_tables_are_taken_away_as_files(chromium, gateway, size):
    async with looking(chromium, gateway, size=size) as look:
        for path, name, heads in (
            ("/dashboard/money?by=key", "export.csv", {"name", "label", "spent", "saved"}),
            ("/dashboard/audit", "audit.csv", {"at", "actor", "action", "before", "after"}),
        ):
            await look.open(path)
            async with look.page.expect_download() as taken:
                await look.page.click("a:text('Export as CSV')")
            download = await taken.value
            assert download.suggested_filename == name
            table = await asyncio.to_thread(Path(await download.path()).read_text)
            assert heads <= set(next(csv.reader(table.splitlines())))


async def test_whoever_signs_out_is_out(chromium, gateway, size):
    async with looking(chromium, gateway, size=size) as look:
        await look.open("/dashboard")
        await look.page.click("button:has-text('Sign out')")
        await look.page.wait_for_selector("#key")
        await look.open("/dashboard/keys")
        assert await look.page.is_visible("#key"), "the form, and nothing of the page"
        assert not await look.page.is_visible("#keys")
