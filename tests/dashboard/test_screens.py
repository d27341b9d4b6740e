"""The pages as they are made, without a browser: what is on them, what their forms do, and that the API tells the same."""

import asyncio
import csv
import io
import re
import time

import pytest

from sentinel_gateway.api.alerts import AlertAdmin
from sentinel_gateway.api.dashboard.alerts import AlertsPage
from sentinel_gateway.api.dashboard.audit import MOST
from sentinel_gateway.api.dashboard.pages import environment
from sentinel_gateway.errors import StoreDown
from sentinel_gateway.ledger.books import make_database
from tests.api.test_analytics import call
from tests.dashboard.visitor import visiting
from tests.gateway import ADMIN_KEY, chat, one_provider, provider, running_gateway

pytestmark = pytest.mark.anyio

PAGE_NAMES = ("providers", "semantic", "cache", "money", "keys", "alerts", "playground", "explain", "config", "audit")
PAGES = (
    "/dashboard",
    *(f"/dashboard/{name}" for name in PAGE_NAMES),
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
    for _ in range(600):
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


async def test_a_key_is_found_by_its_id_and_given_another_budget(gateway, admin):
    await gateway.key(name="mobile", budget={"day": "1.50"})
    [key] = (await gateway.get("/admin/keys", headers=gateway.admin)).json["data"]
    page = await admin.look("/dashboard/keys")
    assert key["id"] in page.words, "filters of other pages and the command line ask for it"
    for form, said, budget in (
        ({"budget_day": "8", "budget_month": " 100 "}, "may spend $8.00 a day, $100.00 a month", {"day": "8", "month": "100"}),
        ({"budget_day": "", "budget_month": ""}, "has no budget of its own any more", {"day": None, "month": None}),
    ):
        assert (await admin.send("/dashboard/keys/budget", id=key["id"], **form)).status == 303
        assert f"“mobile” {said}" in (await admin.look("/dashboard/keys")).words
        assert (await gateway.get(f"/admin/keys/{key['id']}", headers=gateway.admin)).json["budget"] == budget
    page = await admin.send("/dashboard/keys/budget", id=key["id"], budget_day="much")
    assert (page.status, "day" in page.words) == (400, True)


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
    assert f"the newest {MOST:,} entries at most" in page.words
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


async def test_a_draft_is_as_long_as_the_page_says(admin):
    """However its characters are sent: line ends are two, and each byte of them, of braces and of umlauts is three in a form."""
    draft = ("cache: {ttl: 61}\n" + "# {ü}\n" * 10_000)[:50_000]
    for text, status, said in ((draft, 200, "draft:1"), (f"{draft}#", 400, "50,000 characters at most")):
        page = await admin.send("/dashboard/config/check", yaml=text.replace("\n", "\r\n"))
        assert (page.status, said in page.words) == (status, True), page.words[:500]


async def test_numbers_of_the_configuration_are_told_as_they_are(admin):
    draft = "cache: {ttl: 12345678, stale_if_error: 86400.5, max_wrong_hit_rate: 0.0001234567}"
    page = await admin.send("/dashboard/config/check", yaml=draft)
    rows = page.words.rpartition("cache.ttl")
    assert "12345678" in rows[2], page.words
    for number in ("86400.5", "0.0001234567"):
        assert page.words.count(number) == 2, "once in the draft, once in what it changes"


async def test_who_spent_what(gateway, admin, same_day):
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
    ((today, spent),) = [
        (one["name"], one["spent"])
        for one in (await gateway.get("/api/monitoring/spending?by=day&days=7", headers=gateway.admin)).json["shares"]
    ]
    assert spent == pytest.approx(told["total_spent"])
    assert today in (await admin.look("/dashboard/money/shares?by=day&days=7")).words
    taken = await admin.look("/dashboard/money/export.csv?by=tenant&days=1")
    assert "attachment" in taken.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(taken.text)))
    assert {row["name"] for row in rows} == {"'=cmd()", "two"}, "no spreadsheet takes a name for a formula"
    assert sum(float(row["spent"]) for row in rows) == pytest.approx(told["total_spent"])


async def test_who_spent_what_is_told_by_the_names_of_keys(gateway, admin, same_day):
    for name in ("mobile app", "batch"):
        key = await gateway.key(name=name, tenant="acme")
        assert (await gateway.ask(chat(name, model="mock/mock-model"), authorization=f"Bearer {key}")).status == 200
    ids = {key["name"]: key["id"] for key in (await gateway.get("/admin/keys", headers=gateway.admin)).json["data"]}
    by_key = "by=key&days=1"
    page = await seen(admin, f"/dashboard/money/shares?{by_key}", ids["batch"])
    for name, id_ in ids.items():
        assert f"{name} {id_}" in page.words
    told = (await gateway.get(f"/api/monitoring/spending?{by_key}", headers=gateway.admin)).json["shares"]
    assert {one["label"]: one["name"] for one in told} == ids
    assert (await admin.send("/dashboard/keys/revoke", id=ids["batch"])).status == 303
    told = (await gateway.get(f"/api/monitoring/spending?{by_key}", headers=gateway.admin)).json["shares"]
    assert {one["name"]: one["label"] for one in told} == {ids["mobile app"]: "mobile app", ids["batch"]: ""}


async def test_advice_on_what_all_tenants_spend_is_for_none_of_them(chaos, tmp_path):
    (tmp_path / "data").mkdir()
    database = make_database(tmp_path / "data", None)
    database.copy([call(number, time.time() - 60, model=("small", "org/large")[number % 2]) for number in range(400)])
    database.close()
    async with running_gateway(tmp_path, config=one_provider(chaos.base_url)) as gateway, visiting(gateway) as visitor:
        for key, told in ((ADMIN_KEY, True), (await gateway.key(tenant="other", scopes=["read"]), False)):
            page = await visitor.look("/dashboard/money/shares?days=7", authorization=f"Bearer {key}")
            assert (page.status, "Where less might do" in page.words) == (200, told)


async def test_money_says_how_budgets_stand_or_how_to_set_one(gateway, admin):
    page = await admin.look("/dashboard/money")
    assert "No key and no tenant has a budget" in page.words
    assert "--budget-day 5 --budget-month 100" in page.words
    key = await gateway.key(name="mobile", tenant="acme", budget={"day": 0.0005})
    sent = {"authorization": f"Bearer {key}"}
    assert (await gateway.ask(chat("What does it cost?", model="mock/mock-model", max_tokens=20), **sent)).status == 200
    page = await seen(admin, "/dashboard/money", "mobile")
    assert "acme day $0.0005" in page.words
    assert "No key and no tenant" not in page.words


@pytest.fixture
async def comparing(chaos, tmp_path):
    """A gateway that compares questions."""
    async with running_gateway(tmp_path, config=one_provider(chaos.base_url), semantic=True) as gateway:
        yield gateway


async def test_experiments_are_shown_arm_by_arm_with_a_verdict(chaos, tmp_path):
    config = one_provider(chaos.base_url) + "experiments: {cheaper: {arms: {usual: {}, small: {model: mock/mock-small}}}}\n"
    async with running_gateway(tmp_path, config=config) as gateway, visiting(gateway) as visitor:
        await visitor.sign_in()
        page = await visitor.look("/dashboard/semantic")
        assert "Experiment: cheaper Too early to say: 0 in the smallest arm" in page.words
        answers = [await gateway.ask(chat("Who is in which arm?")) for _ in range(2)]
        arm = answers[0].headers["x-sentinel-experiment"].partition("=")[2]
        changes = {"usual": "weight 1.0", "small": "weight 1.0, model mock/mock-small"}[arm]
        page = await seen(visitor, "/dashboard/semantic", f"{arm} {changes} 2 50.0% ")
        assert "0.0% 0.0% to" in page.words
        assert (await gateway.reload(one_provider(chaos.base_url))).status == 200
        page = await seen(visitor, "/dashboard/semantic", "Experiment: cheaper over Too early to say")


async def test_explain_tells_how_a_request_was_decided(comparing):
    """Candidates with what every rule says of them; of an exact hit, and of what is forgotten, why nothing is known."""
    for text in ("What is the capital of France?", "What is the capital of Germany?"):
        await comparing.ask(chat(text))
    asked = await comparing.ask(chat("Please tell me: what is the capital of France?"))
    id_ = asked.headers["x-sentinel-id"]
    told = (await comparing.get(f"/api/monitoring/requests/{id_}/decision", headers=comparing.admin)).json
    assert told["known"]
    assert told["normalised"]["compared"] == "Please tell me: what is the capital of France?"
    by_text = {one["question"]: one for one in told["candidates"]}
    assert by_text["What is the capital of France?"]["objections"] == []
    assert "guard-names" in by_text["What is the capital of Germany?"]["objections"]
    async with visiting(comparing) as visitor:
        await visitor.sign_in()
        page = await seen(visitor, f"/dashboard/explain?id={id_}", "How it was decided")
        assert "What is the capital of Germany?" in page.words
        assert "guard-names" in page.words
        miss = await comparing.ask(chat("Which birds can swim?"))
        page = await seen(visitor, f"/dashboard/explain?id={miss.headers['x-sentinel-id']}", "How it was decided")
        assert "disk never seen; it is stored there now" in page.words
        hit = await comparing.ask(chat("What is the capital of Germany?"))
        assert hit.headers["x-cache"] == "exact"
        page = await seen(visitor, f"/dashboard/explain?id={hit.headers['x-sentinel-id']}", "How it was decided")
        assert "No longer known" in page.words


async def test_explain_hides_texts_where_they_are_hidden_and_other_tenants_always(comparing):
    keys = {tenant: await comparing.key(tenant=tenant, scopes=["inference", "read"]) for tenant in ("one", "two")}
    of = {tenant: {"authorization": f"Bearer {key}"} for tenant, key in keys.items()}
    for text in ("What is the capital of France?", "Please tell me: what is the capital of France?"):
        asked = await comparing.ask(chat(text), **of["one"])
    path = f"/api/monitoring/requests/{asked.headers['x-sentinel-id']}/decision"
    for headers in (of["one"], comparing.admin):
        told = await comparing.get(path, headers=headers)
        assert told.json["known"]
        assert told.json["candidates"][0]["similarity"] > 0.9
        assert "France" not in told.body.decode(), "somebody needs a key, so nobody is told what others asked"
    assert (await comparing.get(path, headers=of["two"])).json["known"] is False


async def test_explain_tells_no_question_that_was_cleared_since(comparing):
    ids = []
    for text in ("What is the capital of France?", "Please tell me: what is the capital of France?"):
        asked = await comparing.ask(chat(text))
        ids.append(asked.headers["x-sentinel-id"])
    for is_cleared in (False, True):
        if is_cleared:
            cleared = await comparing.request("POST", "/admin/cache/clear", headers=comparing.admin, json={})
            assert cleared.status == 200
        for id_ in ids:
            told = await comparing.get(f"/api/monitoring/requests/{id_}/decision", headers=comparing.admin)
            assert told.json["known"]
            assert ("France" in told.body.decode()) is not is_cleared
    anew = await comparing.ask(chat("What is the capital of France?"))
    told = await comparing.get(f"/api/monitoring/requests/{anew.headers['x-sentinel-id']}/decision", headers=comparing.admin)
    assert told.json["normalised"]["compared"] == "What is the capital of France?"


async def test_explain_tells_which_tiers_had_no_answer_before_a_reworded_one(comparing):
    await comparing.ask(chat("What is the capital of France?"))
    hit = await comparing.ask(chat("Please tell me: what is the capital of France?"))
    assert hit.headers["x-cache"] == "semantic"
    path = f"/api/monitoring/requests/{hit.headers['x-sentinel-id']}/decision"
    told = (await comparing.get(path, headers=comparing.admin)).json
    assert [(one["tier"], one["forward"]) for one in told["tiers"]] == [("memory", "uri-miss"), ("disk", "uri-miss")]
    [near] = told["candidates"]
    assert (near["objections"], near["weighed"]) == ([], True)


async def test_who_needs_no_key_reads_no_question_that_was_asked_with_one(chaos, tmp_path):
    config = one_provider(chaos.base_url) + "keys: {required: false}\nadmin: {show_text: true}\n"
    async with running_gateway(tmp_path, config=config, semantic=True) as gateway:
        key = {"authorization": f"Bearer {await gateway.key(tenant='one')}"}
        for headers in (key, {}):
            asked = await gateway.ask(chat("Which secret birds can swim?"), **headers)
            path = f"/api/monitoring/requests/{asked.headers['x-sentinel-id']}/decision"
            told = [(await gateway.get(path, headers=who)).json["normalised"]["compared"] for who in ({}, gateway.admin)]
            assert told == [None if headers else "Which secret birds can swim?", "Which secret birds can swim?"]


async def test_a_provider_that_is_gone_breaks_no_page(chaos, tmp_path):
    """The ledger knows its calls, and nobody else knows it any more."""
    both = f"providers:\n{provider('mock', chaos.base_url)}{provider('spare', chaos.base_url)}"
    for config in (both, one_provider(chaos.base_url)):
        async with running_gateway(tmp_path, config=config, alone=False) as gateway, visiting(gateway) as visitor:
            await visitor.sign_in()
            if config == both:
                await gateway.ask(chat("What does it cost?", model="spare/mock-model"))
            page = await seen(visitor, "/dashboard/providers", "spare/mock-model")
            assert page.status == 200


async def test_a_clear_by_tenant_and_by_who_asked(gateway, admin):
    """A tenant's own key is not asked for a tenant: it clears its own."""
    keys = {name: await gateway.key(name=name, tenant=name, scopes=["inference", "read", "admin"]) for name in ("one", "two")}
    for name, key in keys.items():
        await gateway.ask(chat(f"Whose is {name}?", model="mock/mock-model"), authorization=f"Bearer {key}")
    page = await admin.look("/dashboard/cache")
    assert 'id="clear-tenant"' in page.text
    stored = []
    while len(stored) < len(keys):  # on disk a moment after the answer
        stored = (await gateway.get("/admin/cache/entries", headers=gateway.admin)).json["data"]
    (writer,) = [entry["writer"] for entry in stored if entry["tenant"] == "two"]
    for chosen in ("tenant=one", f"writer={writer}"):
        page = await admin.look(f"/dashboard/cache?preview=1&{chosen}")
        assert "What a clear would remove: 1" in page.words
        await admin.send("/dashboard/cache/clear", **dict([chosen.split("=")]))
        assert "cleared: 1" in (await admin.look("/dashboard/cache")).words
    assert (await gateway.get("/admin/cache/entries", headers=gateway.admin)).json["data"] == []
    async with visiting(gateway) as visitor:
        await visitor.sign_in(keys["one"])
        assert 'id="clear-tenant"' not in (await visitor.look("/dashboard/cache")).text


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


async def test_alerts_that_cannot_be_read_are_told_and_the_page_stands():
    class Away:
        """A desk whose store does not answer."""

        rules, channels, is_on = (), {}, True
        store = property(lambda self: self)

        async def look(self):
            raise StoreDown("the disk is full")

    told = await AlertsPage(AlertAdmin(Away(), None, guard=None, clock=lambda: 0.0)).now(None)
    assert "be read or changed now" in environment().get_template("alerts_now.html").render(told)


async def test_a_redis_that_is_away_is_told_with_what_still_works(chaos, tmp_path):
    environ = {"REDIS_URL": "redis://127.0.0.1:1"}
    away = running_gateway(tmp_path, config=one_provider(chaos.base_url), environ=environ, alone=False)
    async with away as gateway, visiting(gateway) as visitor:
        await visitor.sign_in()
        page = await seen(visitor, "/dashboard", "Redis is away")
        assert "Answers still come from memory and from providers" in page.words
        assert (await gateway.ask(chat("still"))).status == 200
