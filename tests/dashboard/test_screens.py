"""The pages as they are made, without a browser: what is on them, what their forms do, and that the API tells the same."""

import asyncio
import csv
import io
import re

import pytest

from sentinel_gateway.api.dashboard.pages import environment
from tests.dashboard.visitor import visiting
from tests.gateway import chat, one_provider, provider, running_gateway

pytestmark = pytest.mark.anyio

PAGES = (
    "/dashboard",
    *(f"/dashboard/{name}" for name in ("providers", "semantic", "cache", "money", "keys", "explain", "audit")),
)


@pytest.fixture
async def gateway(chaos, tmp_path):
    config = f"providers:\n{provider('mock', chaos.base_url)}{provider('spare', chaos.base_url)}"
    async with running_gateway(tmp_path, config=config) as gateway:
        yield gateway


@pytest.fixture
async def admin(gateway):
    async with visiting(gateway) as visitor:
        await visitor.sign_in()
        yield visitor


async def seen(visitor, path, words):
    """The page, once these words are on it: the ledger has requests a second or two later."""
    for _ in range(100):
        page = await visitor.look(path)
        if words in page.words:
            return page
        await asyncio.sleep(0.1)
    raise AssertionError(f"{words!r} is not among: {page.words}")


async def test_nothing_is_on_a_page_that_the_api_does_not_tell(gateway):
    listed = (await gateway.get("/openapi.json")).json["paths"]
    told = re.findall(
        r"also told by ([^\n]+)\.", "\n".join(item["get"]["description"] for item in listed.values() if "get" in item)
    )
    assert len(told) == len(PAGES)
    for paths in told:
        assert set(paths.split(", ")) <= listed.keys()


async def test_every_page_leads_to_every_other(admin):
    for path in PAGES:
        page = await admin.look(path)
        assert page.status == 200, page.words
        links = set(re.findall(r'<a href="(/dashboard[^"?]*)"', page.text))
        assert set(PAGES) <= links
        assert page.text.count('aria-current="page"') == 1


async def test_readers_are_shown_what_readers_may_see(gateway):
    async with visiting(gateway) as visitor:
        await visitor.sign_in(await gateway.key(scopes=["read"]))
        page = await visitor.look()
        assert "/dashboard/keys" not in page.text
        assert (await visitor.look("/dashboard/keys")).status == 403


async def test_a_key_is_made_rotated_and_revoked(gateway, admin):
    made = await admin.send(
        "/dashboard/keys/create",
        name="mobile",
        tenant="acme",
        scope_inference="yes",
        models="mock/*",
        requests_per_minute="60",
        budget_day="1.50",
        days="30",
        concurrency="",
    )
    assert (made.status, made.headers["location"]) == (303, "/dashboard/keys")
    page = await admin.look("/dashboard/keys")
    [key] = re.findall(r"sk-sn-\w{49}", page.text)
    assert "60 requests/min" in page.words
    assert "$1.50 a day" in page.words
    assert key not in (await admin.look("/dashboard/keys")).text, "it is shown once"
    asked = {"authorization": f"Bearer {key}"}
    assert (await gateway.ask(chat("with it", model="mock/mock-model"), **asked)).status == 200
    assert (await gateway.ask(chat("with it", model="spare/mock-model"), **asked)).status == 403
    [id_] = set(re.findall(r"key_[0-9a-f]{16}", page.text))
    assert (await admin.send("/dashboard/keys/rotate", id=id_)).status == 303
    [successor] = re.findall(r"sk-sn-\w{49}", (await admin.look("/dashboard/keys")).text)
    assert successor != key
    assert (await admin.send("/dashboard/keys/revoke", id=id_)).status == 303
    assert "is revoked" in (await admin.look("/dashboard/keys")).words
    assert (await gateway.ask(chat("again", model="mock/mock-model"), **asked)).status == 401


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"name": ""}, "name"),
        ({"name": "a", "scope_read": "yes", "budget_day": "much"}, "budget"),
        ({"name": "a", "scope_read": "yes", "concurrency": "many"}, "whole number"),
        ({"name": "a"}, "scopes"),
    ],
)
async def test_a_wrong_form_is_told_and_nothing_is_made(gateway, admin, form, said):
    page = await admin.send("/dashboard/keys/create", **form)
    assert page.status == 400
    assert said in page.words
    assert (await gateway.get("/admin/keys", headers=gateway.admin)).json["data"] == []


async def test_a_tenant_s_admin_stays_within_it(gateway):
    await gateway.key(name="foreign", tenant="two")
    async with visiting(gateway) as visitor:
        await visitor.sign_in(await gateway.key(name="own", tenant="one", scopes=["read", "admin"]))
        page = await visitor.look("/dashboard/keys")
        assert "own" in page.words
        assert "foreign" not in page.words
        [foreign] = [
            key for key in (await gateway.get("/admin/keys", headers=gateway.admin)).json["data"] if key["name"] == "foreign"
        ]
        assert (await visitor.send("/dashboard/keys/revoke", id=foreign["id"])).status == 404


async def test_who_changed_what(gateway, admin):
    await gateway.key(name="=made")
    page = await admin.look("/dashboard/audit")
    assert "key.create" in page.words
    assert "dashboard.sign-in" in page.words
    told = (await gateway.get("/admin/audit", headers=gateway.admin)).json["data"]
    rows = list(csv.DictReader(io.StringIO((await admin.look("/dashboard/audit/audit.csv")).text)))
    assert [(row["id"], row["action"]) for row in rows] == [(str(one["id"]), one["action"]) for one in told]
    older = await admin.look(f"/dashboard/audit?cursor={told[0]['id']}")
    assert older.words.count("dashboard.sign-in") == 1
    assert "key.create" not in older.words
    for cursor in ("%E2%91%A0", "0", "9" * 19, "9" * 5000):
        assert (await admin.look(f"/dashboard/audit?cursor={cursor}")).status == 200
    assert (await admin.look(f"/dashboard/providers?hours={'1' * 5000}")).status == 200


async def test_what_became_of_a_request(gateway, admin):
    answer = await gateway.ask(chat("Explain me", model="mock/mock-model"))
    id_ = answer.headers["x-sentinel-id"]
    page = await seen(admin, f"/dashboard/explain?id={id_}", "a provider was asked")
    assert "mock/mock-model" in page.words
    assert "answered" in page.words
    assert "Explain me" not in page.words
    assert "No request of the last week" in (await admin.look("/dashboard/explain?id=unknown")).words
    assert id_[:12] in (await admin.look("/dashboard/explain")).words


async def test_who_spent_what(gateway, admin):
    keys = {tenant: await gateway.key(name=tenant, tenant=tenant) for tenant in ("=cmd()", "two")}
    for tenant, key in keys.items():
        for _ in range(2):
            await gateway.ask(chat(f"for {tenant}", model="mock/mock-model"), authorization=f"Bearer {key}")
    page = await seen(admin, "/dashboard/money/shares?by=tenant&days=1", "two")
    assert "50.0%" in page.words, "one of two was a hit"
    told = (await gateway.get("/api/monitoring/spending?by=tenant&days=1", headers=gateway.admin)).json
    assert {one["name"] for one in told["shares"]} == set(keys)
    assert told["total_spent"] == pytest.approx(sum(one["spent"] for one in told["shares"]))
    assert told["forecast"] >= told["month_spent"] == pytest.approx(told["total_spent"])
    taken = await admin.look("/dashboard/money/export.csv?by=tenant&days=1")
    assert "attachment" in taken.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(taken.text)))
    assert {row["name"] for row in rows} == {"'=cmd()", "two"}, "no spreadsheet takes a name for a formula"
    assert sum(float(row["spent"]) for row in rows) == pytest.approx(told["total_spent"])


async def test_an_error_is_a_page_with_a_way_back(admin):
    page = await admin.look("/dashboard/events?page=nothing")
    assert page.status == 404
    assert "To the overview" in page.words
    part = await admin.look("/dashboard/events?page=nothing", **{"hx-request": "true"})
    assert (part.status, part.text.strip().startswith("<p")) == (404, True)


async def test_who_was_signed_out_is_led_to_the_form_by_parts_as_well(closed):
    async with visiting(closed) as visitor:
        part = await visitor.look("/dashboard/savings", **{"hx-request": "true"})
        assert (part.status, part.headers["hx-redirect"]) == (401, "/dashboard/sign-in")


async def test_without_javascript_the_figures_are_there(gateway, admin):
    for _ in range(2):
        await gateway.ask(chat("Plain", model="mock/mock-model"))
    page = await seen(admin, "/dashboard", "50.0%")
    assert "Without JavaScript" in page.words


async def test_an_unknown_price_is_told(gateway, admin):
    await gateway.ask(chat("What does it cost?", model="mock/mock-model"))
    await seen(admin, "/dashboard", "counted as")


def test_templates_escape_everything():
    assert environment().autoescape is True
    for name in environment().list_templates():
        source = environment().loader.get_source(environment(), name)[0]
        assert "|safe" not in source.replace(" ", ""), name
        assert "autoescape" not in source, name
        assert not re.search(r"<script(?![^>]*src=)", source), name
        assert not re.search(r"\sstyle=|<style|\son[a-z]+=|javascript:", source), name


async def test_a_redis_that_is_away_is_told_with_what_still_works(chaos, tmp_path):
    environ = {"REDIS_URL": "redis://127.0.0.1:1"}
    away = running_gateway(tmp_path, config=one_provider(chaos.base_url), environ=environ, alone=False)
    async with away as gateway, visiting(gateway) as visitor:
        await visitor.sign_in()
        page = await seen(visitor, "/dashboard", "Redis is away")
        assert "Answers still come from memory and from providers" in page.words
        assert (await gateway.ask(chat("still"))).status == 200
