"""Alerts of a whole gateway: what callers suffer is told, once; and what operators see and do about it."""

import asyncio
import json

import pytest

from sentinel_gateway.alarms import Gatherer
from sentinel_gateway.core.alerting.conditions import needs
from sentinel_gateway.core.alerting.figures import Figures, Needs
from sentinel_gateway.core.alerting.rules import HOUR, Rule, default_rules
from sentinel_gateway.core.windows import total
from sentinel_gateway.pipeline.budgeting import BudgetRules
from tests.alerts.sinks import SECRET, http_sink
from tests.gateway import DAY, away_from_the_end_of, chat, one_provider, running_gateway, until
from tests.servers import PATIENT, REDIS8, RedisServer

pytestmark = pytest.mark.anyio

PATIENCE = 30.0
"""Seconds: rows come to the ledger beside everything else."""


def alerts(sink, rules: str, *, more: str = "") -> str:
    return f"""
alerts:
  every: 1
  group: 0
  cool_down: 0
  defaults: false
  channels:
    ops: {{webhook: '{sink.url}/hook', secret: '{SECRET}'}}{more}
  rules:
{rules}
"""


ERRORS = "    errors: {metric: request_error_rate, above: 0.5, least: 5, window: 60, severity: page}"
CIRCUITS = "    circuit: {metric: circuit_open}"
HEALTH = Needs(metrics=frozenset({"provider_health", "circuit_open"}))
OPENS = {"CIRCUIT_BREAKER_FAILURE_THRESHOLD": "2", "CIRCUIT_BREAKER_TIMEOUT_SECS": "600"}


@pytest.fixture
async def sink(anyio_backend):
    async with http_sink() as sink:
        yield sink


async def circuit_opens(gateway, upstream) -> None:
    upstream.script("err=500", 2)
    for number in range(2):
        assert (await gateway.ask(chat(f"fails {number}"))).status == 502


async def test_requests_that_fail_are_told_by_a_signed_message(chaos, upstream, sink, tmp_path):
    config = one_provider(chaos.base_url) + alerts(sink, ERRORS)
    async with running_gateway(tmp_path, config=config) as gateway:
        upstream.script("err=500", 6)
        for number in range(6):
            assert (await gateway.ask(chat(f"what {number}"))).status == 502
        await until(lambda: sink.arrived, PATIENCE)
        [arrived] = sink.arrived
        arrived.verify_as_receivers_do()
        [alert] = arrived.json["data"]["firing"]
        assert (alert["rule"], alert["severity"], alert["value"]) == ("errors", "page", 1.0)
        assert "what" not in json.dumps(alert["text"]).replace("what providers", "")
        assert gateway.metric('sentinel_alerts_firing{rule="errors",severity="page"}') == 1
        await until(lambda: gateway.metric('sentinel_alert_messages_total{channel="ops",outcome="delivered"}') == 1)


async def test_a_circuit_that_opens_and_is_closed_by_the_operator(chaos, upstream, sink, tmp_path):
    config = one_provider(chaos.base_url) + alerts(sink, CIRCUITS)
    async with running_gateway(tmp_path, config=config, environ=OPENS) as gateway:
        await circuit_opens(gateway, upstream)
        await until(lambda: len(sink.arrived) == 1, PATIENCE)
        shown = (await gateway.get("/admin/alerts", headers=gateway.admin)).json
        [rule] = shown["rules"]
        assert (rule["name"], rule["state"], rule["channels"]) == ("circuit", "firing", ["ops"])
        assert rule["alerts"][0]["subject"] == "mock/mock-model"
        await gateway.request("POST", "/admin/circuits/reset", headers=gateway.admin)
        await until(lambda: len(sink.arrived) == 2, PATIENCE)
        assert sink.arrived[1].json["data"]["counts"] == {"firing": 0, "still_firing": 0, "resolved": 1}
        await until(lambda: gateway.metric('sentinel_alert_messages_total{channel="ops",outcome="delivered"}') == 2)
        page = (await gateway.get("/admin/alerts/history?limit=3", headers=gateway.admin)).json
        assert [entry["kind"] for entry in page["data"]] == ["delivered", "resolved", "delivered"]
        rest = (await gateway.get(f"/admin/alerts/history?cursor={page['next']}", headers=gateway.admin)).json
        assert [(entry["kind"], entry["rule"]) for entry in rest["data"]] == [("firing", "circuit")]
        assert rest["next"] is None


async def test_a_failing_channel_costs_requests_nothing_and_is_tried_again(chaos, upstream, sink, tmp_path):
    sink.script.extend([500])
    config = one_provider(chaos.base_url) + alerts(sink, CIRCUITS)
    async with running_gateway(tmp_path, config=config, environ=OPENS) as gateway:
        await circuit_opens(gateway, upstream)
        await until(lambda: len(sink.arrived) == 1, PATIENCE)
        assert (await gateway.ask(chat("small", model="mock-small"))).status == 200
        await until(lambda: len(sink.arrived) == 2, PATIENCE)
        first, second = sink.arrived
        second.verify_as_receivers_do()
        assert first.headers["webhook-id"] == second.headers["webhook-id"]
        assert gateway.metric('sentinel_events_total{event="alert_not_delivered"}') == 1


async def test_a_restart_tells_nothing_twice(chaos, upstream, sink, tmp_path):
    config = one_provider(chaos.base_url) + alerts(sink, ERRORS.replace("window: 60", "window: 3600"))
    async with running_gateway(tmp_path, config=config) as gateway:
        upstream.script("err=500", 6)
        for number in range(6):
            await gateway.ask(chat(f"what {number}"))
        await until(lambda: sink.arrived, PATIENCE)
        await until(lambda: gateway.metric('sentinel_alert_messages_total{channel="ops",outcome="delivered"}') == 1)
    async with running_gateway(tmp_path, config=config) as gateway:
        await until(lambda: gateway.metric('sentinel_alerts_firing{rule="errors",severity="page"}') == 1, PATIENCE)
        await asyncio.sleep(1.5)
    assert len(sink.arrived) == 1


async def test_a_reload_swaps_rules_and_channels(chaos, sink, tmp_path):
    async with running_gateway(tmp_path, config=one_provider(chaos.base_url)) as gateway:
        shown = (await gateway.get("/admin/alerts", headers=gateway.admin)).json
        assert (shown["enabled"], shown["rules"], shown["channels"]) == (False, [], [])
        assert "alerts.enabled" in shown["note"]
        assert (await gateway.reload(one_provider(chaos.base_url) + alerts(sink, CIRCUITS))).status == 200
        shown = (await gateway.get("/admin/alerts", headers=gateway.admin)).json
        assert [rule["name"] for rule in shown["rules"]] == ["circuit"]
        assert shown["channels"] == [{"name": "ops", "kind": "webhook"}]
        broken = one_provider(chaos.base_url) + alerts(sink, CIRCUITS, more="\n    chat: {apprise: 'discord://s3cret-only'}")
        refused = await gateway.reload(broken)
        assert refused.status == 400
        assert "alerts.channels.chat.apprise" in refused.body.decode()
        assert "s3cret" not in refused.body.decode()
        shown = (await gateway.get("/admin/alerts", headers=gateway.admin)).json
        assert [rule["name"] for rule in shown["rules"]] == ["circuit"], "the old one stays in force"
        assert (await gateway.reload(one_provider(chaos.base_url))).status == 200


async def test_a_test_says_whether_it_arrived(chaos, sink, tmp_path):
    config = one_provider(chaos.base_url) + alerts(sink, CIRCUITS)
    async with running_gateway(tmp_path, config=config) as gateway:
        how = {"headers": gateway.admin, "json": {"channel": "ops"}}
        told = (await gateway.request("POST", "/admin/alerts/test", **how)).json
        assert told == {"channel": "ops", "delivered": True, "id": sink.arrived[0].headers["webhook-id"], "detail": None}
        sink.script.append(403)
        told = (await gateway.request("POST", "/admin/alerts/test", **how)).json
        assert told == {"channel": "ops", "delivered": False, "id": None, "detail": "it answered 403"}
        unknown = await gateway.request("POST", "/admin/alerts/test", headers=gateway.admin, json={"channel": "nobody"})
        assert (unknown.status, unknown.json["code"]) == (404, "alert_not_found")
        audit = (await gateway.get("/admin/audit", headers=gateway.admin)).json["data"]
        assert [(entry["action"], entry["object"]) for entry in audit][:3] == [
            ("alert.test", "nobody"),
            ("alert.test", "ops"),
            ("alert.test", "ops"),
        ]


async def test_a_silence_keeps_it_quiet_and_is_seen(chaos, upstream, sink, tmp_path):
    config = one_provider(chaos.base_url) + alerts(sink, CIRCUITS)
    async with running_gateway(tmp_path, config=config, environ=OPENS) as gateway:
        path = "/admin/alerts/circuit/silence"
        told = (await gateway.request("POST", path, headers=gateway.admin, json={"minutes": 30})).json
        assert told["silenced_until"] is not None
        await circuit_opens(gateway, upstream)
        await until(lambda: gateway.metric('sentinel_alerts_firing{rule="circuit",severity="ticket"}') == 1, PATIENCE)
        [rule] = (await gateway.get("/admin/alerts", headers=gateway.admin)).json["rules"]
        assert (rule["state"], rule["silenced_until"]) == ("firing", told["silenced_until"])
        assert rule["silenced_by"] == "admin-key"
        assert sink.arrived == []
        assert (await gateway.request("POST", path, headers=gateway.admin, json={"minutes": 0})).json["silenced_until"] is None
        await until(lambda: len(sink.arrived) == 1, PATIENCE)
        unknown = await gateway.request("POST", "/admin/alerts/nothing/silence", headers=gateway.admin, json={})
        assert (unknown.status, unknown.json["code"]) == (404, "alert_not_found")
        for minutes in (-1, 1e9, "5"):
            wrong = await gateway.request("POST", path, headers=gateway.admin, json={"minutes": minutes})
            assert wrong.status in {400, 422}


async def test_only_the_operator_sees_them(chaos, sink, tmp_path):
    config = one_provider(chaos.base_url) + alerts(sink, CIRCUITS)
    async with running_gateway(tmp_path, config=config) as gateway:
        tenant = {"authorization": f"Bearer {await gateway.key(scopes=['read', 'admin', 'inference'])}"}
        asked = [("GET", ""), ("GET", "/history"), ("POST", "/test"), ("POST", "/circuit/silence")]
        for method, path in asked:
            assert (await gateway.request(method, f"/admin/alerts{path}")).status == 401
            assert (await gateway.request(method, f"/admin/alerts{path}", headers=tenant)).status == 403


async def test_nothing_secret_of_a_channel_is_told_anywhere(chaos, sink, tmp_path):
    sink.script.extend([500] * 3)
    more = f"\n    chat: {{apprise: 'json://user:s3cret-canary@127.0.0.1:{sink.port}/s3cret-canary'}}"
    config = one_provider(chaos.base_url) + alerts(sink, CIRCUITS, more=more)
    async with running_gateway(tmp_path, config=config) as gateway:
        for channel in ("ops", "chat"):
            await gateway.request("POST", "/admin/alerts/test", headers=gateway.admin, json={"channel": channel})
        for path in ("/admin/alerts", "/admin/alerts/history", "/admin/audit", "/metrics", "/admin/stats"):
            body = (await gateway.get(path, headers=gateway.admin)).body.decode()
            assert "s3cret-canary" not in body
            assert SECRET not in body
            assert f":{sink.port}/" not in body


async def test_of_two_gateways_on_one_database_one_tells_and_the_other_goes_on_from_there(
    chaos, upstream, sink, tmp_path, postgres
):
    """The first stops while it fires; the second has been told nothing, knows all the same, and tells that it is over."""
    config = one_provider(chaos.base_url) + alerts(sink, ERRORS.replace("window: 60", "window: 3600"))
    shared = {"SENTINEL_DATABASE_URL": postgres.fresh(), "SENTINEL_SECRET": "5f2b8c0de1a94f7763b2c9d80e4f1a6b"}
    firing = 'sentinel_alerts_firing{rule="errors",severity="page"}'
    folders = [tmp_path / name for name in "ab"]
    for folder in folders:
        folder.mkdir()
    async with running_gateway(folders[1], config=config, environ=shared) as second:
        async with running_gateway(folders[0], config=config, environ=shared, alone=False) as first:
            upstream.script("err=500", 6)
            for number in range(6):
                assert (await (first, second)[number % 2].ask(chat(f"what {number}"))).status == 502
            await until(lambda: sink.arrived, PATIENCE)
            await until(lambda: first.metric(firing) + second.metric(firing) == 1, PATIENCE)
            await asyncio.sleep(2.5)
            assert len(sink.arrived) == 1
            assert first.metric(firing) + second.metric(firing) == 1, "one of them looks"
            boards = [(await node.get("/admin/alerts", headers=node.admin)).json["rules"] for node in (first, second)]
            assert boards[0][0]["state"] == boards[1][0]["state"] == "firing", "both say how it stands"
        await until(lambda: second.metric(firing) == 1, PATIENCE)
        for number in range(8):
            assert (await second.ask(chat(f"well {number}"))).status == 200
        await until(lambda: len(sink.arrived) == 2, PATIENCE)
        assert sink.arrived[1].json["data"]["counts"] == {"firing": 0, "still_firing": 0, "resolved": 1}


async def test_budgets_of_keys_tenants_and_of_whoever_needs_no_key(chaos, sink, tmp_path):
    rules = "    spent: {metric: budget_used, above: 0.000001}"
    budgets = "budget: {day: 0.05}\ntenants: {acme: {budget: {month: 0.5}}}\n"
    config = one_provider(chaos.base_url) + budgets + alerts(sink, rules)
    await away_from_the_end_of(DAY)
    async with running_gateway(tmp_path, config=config) as gateway:
        assert (await gateway.ask(chat("without a key"))).status == 200
        key = await gateway.key(tenant="acme")
        [id_] = [one["id"] for one in (await gateway.get("/admin/keys", headers=gateway.admin)).json["data"]]
        assert (await gateway.ask(chat("with one"), authorization=f"Bearer {key}")).status == 200
        firing = 'sentinel_alerts_firing{rule="spent",severity="ticket"}'
        await until(lambda: gateway.metric(firing) == 3, PATIENCE)
        [rule] = (await gateway.get("/admin/alerts", headers=gateway.admin)).json["rules"]
        subjects = {alert["subject"] for alert in rule["alerts"]}
        assert subjects == {"key guest day", f"key {id_} day", "tenant acme month"}
        assert all("USD of its" in alert["text"] for alert in rule["alerts"])


async def test_what_is_known_of_everything_that_rules_ask_for(chaos, upstream, tmp_path):
    async with running_gateway(tmp_path, config=one_provider(chaos.base_url), semantic=True) as gateway:
        upstream.script("err=500")
        for number in range(3):
            await gateway.ask(chat(f"what {number}"))
        process = gateway.process
        gather = Gatherer(process.stores, BudgetRules(), {"mock"})
        asked = needs([*default_rules(most_wrong=0.01), Rule(name="r", kind="forecast", metric="total_cost")])

        async def look() -> Figures:
            return await gather(asked, process.clock())

        figures = await look()
        end = process.clock() + PATIENCE
        while process.clock() < end and not (
            sum(one.requests for one in figures.served or ()) == total(figures.calls or ()).decided == 3
        ):
            await asyncio.sleep(0.2)
            figures = await look()
        assert (sum(one.requests for one in figures.served), sum(one.failed for one in figures.served)) == (3, 1)
        assert (total(figures.calls).decided, total(figures.calls).failures) == (3, 1)
        assert figures.month > 0
        assert figures.health["mock"] < 100
        assert (figures.open_circuits, figures.budgets, figures.anomalies) == (set(), [], [])
        assert figures.wrong.observations == 0
        await process.stores.recent.update_circuit_breaker("mock", "resting", "open", 5)
        await process.stores.recent.update_circuit_breaker("mock", "tried", "half_open", 5)
        figures = await look()
        assert (figures.open_circuits, figures.half_open) == ({"mock/resting"}, {"mock/tried"})


async def health_known(gather, clock) -> Figures:
    """Calls and circuits are recorded beside everything else."""
    end = clock() + PATIENCE
    figures = await gather(HEALTH, clock())
    while not (figures.health and figures.open_circuits) and clock() < end:
        await asyncio.sleep(0.1)
        figures = await gather(HEALTH, clock())
    return figures


async def test_while_redis_is_away_health_and_circuits_are_not_known(chaos, upstream, tmp_path):
    """Else whoever was told that they are bad would be told that they are well again."""
    with RedisServer(REDIS8, tmp_path) as server:
        environ = {"REDIS_URL": server.url, **PATIENT, **OPENS}
        async with running_gateway(tmp_path, config=one_provider(chaos.base_url), environ=environ) as gateway:
            gather = Gatherer(gateway.process.stores, BudgetRules(), {"mock"})
            await circuit_opens(gateway, upstream)
            figures = await health_known(gather, gateway.process.clock)
            assert figures.health["mock"] < 100
            assert figures.open_circuits == {"mock/mock-model"}
            server.stop()
            figures = await gather(HEALTH, gateway.process.clock())
            assert (figures.health, figures.open_circuits) == (None, None)


async def test_of_a_provider_that_is_configured_or_called_no_more_nothing_is_told(chaos, upstream, tmp_path):
    """Nothing makes its score better, so an alert of it would last for ever."""
    async with running_gateway(tmp_path, config=one_provider(chaos.base_url), environ=OPENS) as gateway:
        stores, clock = gateway.process.stores, gateway.process.clock
        gather = Gatherer(stores, BudgetRules(), {"mock"})
        await circuit_opens(gateway, upstream)
        figures = await health_known(gather, clock)
        assert figures.health.keys() == {"mock"}
        assert figures.open_circuits == {"mock/mock-model"}
        figures = await gather(HEALTH, clock() + 2 * HOUR)
        assert figures.health == {}
        figures = await Gatherer(stores, BudgetRules(), {"other"})(HEALTH, clock())
        assert (figures.health, figures.open_circuits) == ({}, set())


async def test_the_default_rules_are_looked_at_without_a_fault_where_there_is_no_ledger(tmp_path):
    environ = {"SENTINEL_ALERTS__ENABLED": "true", "SENTINEL_LEDGER__ENABLED": "false", "SENTINEL_ALERTS__EVERY": "1"}
    async with running_gateway(tmp_path, environ=environ) as gateway:
        await until(lambda: gateway.process.watch.board is not None, PATIENCE)
        shown = (await gateway.get("/admin/alerts", headers=gateway.admin)).json
        assert {rule["state"] for rule in shown["rules"]} == {"ok"}
        assert gateway.metric('sentinel_events_total{event="alert_fault"}') == 0
