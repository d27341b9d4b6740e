"""`/api/monitoring/requests` and `/savings`: what a gateway has just done, told by its ledger."""

import asyncio
import threading
from types import SimpleNamespace

import pytest

from sentinel_gateway.api.traffic import Traffic
from sentinel_gateway.core.stretches import Share
from tests.gateway import chat, one_provider, running_gateway

pytestmark = pytest.mark.anyio


async def told(gateway, path, count, **how):
    """The answer, once there are so many requests in it; the ledger has them a second or two later."""
    for _ in range(300):
        answer = await gateway.get(f"/api/monitoring/{path}", **how)
        assert answer.status == 200, answer.body
        there = answer.json["requests"] if path.startswith("requests") else answer.json["data"]
        have = len(there) if path.startswith("requests") else sum(sum(one[n] for n in COUNTS) for one in there)
        if have >= count:
            break
        await asyncio.sleep(0.1)
    return answer.json


COUNTS = ("exact_hits", "semantic_hits", "misses", "other_requests")


async def test_requests_as_they_came(gateway, upstream, text):
    first = await gateway.ask(chat(text), x_request_id="mine-1")
    await gateway.ask(chat(text))
    upstream.script("err=500")
    await gateway.ask(chat(f"fails {text}"))
    found = (await told(gateway, "requests", 3))["requests"]
    assert [(one["outcome"], one["status"]) for one in found] == [("miss", 502), ("exact", 200), ("miss", 200)]
    miss, hit = found[2], found[1]
    assert miss["request_id"] == "mine-1"
    assert miss["id"] == first.headers["x-sentinel-id"]
    assert miss["cost"] == hit["saved"] > 0 == miss["saved"] == hit["cost"]
    assert hit["tier"] == "memory"
    assert text not in str(found)
    [one] = (await told(gateway, "requests?id=mine-1", 1))["requests"]
    assert one == miss
    assert [one["status"] for one in (await told(gateway, "requests?failed=true", 1))["requests"]] == [502]
    assert [one["outcome"] for one in (await told(gateway, "requests?outcome=exact&limit=1", 1))["requests"]] == ["exact"]


async def test_what_was_saved_over_time(gateway, text):
    before = await told(gateway, "savings?span=hour", 0)
    for _ in range(3):
        await gateway.ask(chat(text))
    found = await told(gateway, "savings?span=hour", sum(before[name] for name in COUNTS) + 3)
    assert found["exact_hits"] - before["exact_hits"] == 2
    assert found["saved"] > before["saved"]
    assert found["spent"] > before["spent"]
    assert found["seconds"] == 60
    assert len(found["data"]) == 60
    for span, seconds, count in (("day", 900, 96), ("week", 3600, 168), ("month", 86_400, 30), ("quarter", 86_400, 90)):
        one = await told(gateway, f"savings?span={span}", 0)
        assert (one["seconds"], len(one["data"])) == (seconds, count)
        assert one["exact_hits"] == sum(each["exact_hits"] for each in one["data"])


async def test_a_tenant_sees_its_own(gateway, chaos, tmp_path):
    config = one_provider(chaos.base_url) + "keys: {required: true}\n"
    async with running_gateway(tmp_path, config=config, alone=False) as closed:
        for tenant in ("one", "two"):
            key = {"authorization": f"Bearer {await closed.key(tenant=tenant, scopes=['read', 'inference'])}"}
            await closed.ask(chat(f"of {tenant}"), **key)
            found = (await told(closed, "requests", 1, headers=key))["requests"]
            assert [one["tenant"] for one in found] == [tenant]
        assert len((await told(closed, "requests", 2, headers=closed.admin))["requests"]) == 2


async def test_money_is_added_up_beside_the_event_loop():
    """With many keys there is much of it."""
    threads = set()

    class Shares(list):
        def __iter__(self):
            threads.add(threading.current_thread())
            return super().__iter__()

    class Ledger:
        async def shares(self, since, until, *, by, tenant):
            assert since <= day < until
            return Shares([Share(day, f"key-{n}", requests=1, spent=n * 10**9) for n in (1, 2, 3)])

    day = 1_800_000_000 // 86_400 * 86_400
    traffic = Traffic(Ledger(), list, guard=None, clock=lambda: day + 43_200.0)
    request = SimpleNamespace(state=SimpleNamespace(caller=SimpleNamespace(tenant=None)))
    told = await traffic.spending(request, by="key", days=1, limit=2)
    assert ([one.name for one in told.shares], told.total_shares, told.total_spent) == (["key-3", "key-2"], 3, 6.0)
    assert threads
    assert threading.current_thread() not in threads


async def test_days_come_the_latest_first():
    class Ledger:
        async def shares(self, since, until, *, by, tenant):
            return [Share(day - back * 86_400, f"{back} ago", spent=back) for back in (2, 0, 1)]

    day = 1_800_000_000 // 86_400 * 86_400
    traffic = Traffic(Ledger(), list, guard=None, clock=lambda: day + 43_200.0)
    request = SimpleNamespace(state=SimpleNamespace(caller=SimpleNamespace(tenant=None)))
    told = await traffic.spending(request, by="day", days=7, limit=2)
    assert ([one.name for one in told.shares], told.total_shares) == (["0 ago", "1 ago"], 3)


@pytest.mark.parametrize(
    "asked", ["requests?hours=0", "requests?limit=1001", "requests?outcome=x", "requests?id=", "savings?span=year"]
)
async def test_what_is_asked_wrong_is_told(gateway, asked):
    answer = await gateway.get(f"/api/monitoring/{asked}")
    assert (answer.status, answer.headers["content-type"]) == (400, "application/problem+json")


async def test_without_a_ledger_there_is_no_past(chaos, tmp_path):
    config = one_provider(chaos.base_url) + "ledger: {enabled: false}\n"
    async with running_gateway(tmp_path, config=config, alone=False) as gateway:
        for path in ("requests", "savings"):
            answer = await gateway.get(f"/api/monitoring/{path}")
            assert answer.status == 503
            assert "ledger.enabled" in answer.json["detail"]
        page = await gateway.get("/dashboard/savings", headers={"accept": "text/html"})
        assert page.status == 200
        assert "ledger.enabled" in page.body.decode()
        assert (await gateway.get("/dashboard/frame?page=overview")).json["rows"]["feed"] == []
