"""Who gets in: every route by every kind of caller, tenants apart, models and scopes as the keys say, revocation at once."""

import asyncio
import re
import sys

import pytest

from sentinel_gateway.core.access import NOT_ALLOWED
from tests.gateway import ADMIN_KEY, chat, one_provider, post, provider, running_gateway, until

pytestmark = pytest.mark.anyio

PUBLIC = {("GET", path) for path in ("/livez", "/healthz", "/ready", "/readyz", "/health")}
SIGN_IN = {("GET", "/dashboard/sign-in"), ("POST", "/dashboard/sign-in"), ("GET", "/dashboard/static/{name}")}
"""The page for signing in, and the files that pages are made of: public, and nothing of the gateway's is in them."""
FACES = [
    ("POST", "/v1/chat/completions"),
    ("POST", "/chat/completions"),
    ("POST", "/v1/messages"),
    ("POST", "/v1/messages/count_tokens"),
    ("POST", "/messages"),
    ("POST", "/v1/query"),
    ("POST", "/v1/query/batch"),
    ("POST", "/v1/predict"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/demo"),
]
STRANGE = [
    ("GET", "/nowhere"),
    ("GET", "/v1/nowhere"),
    ("DELETE", "/livez"),
    ("POST", "/"),
    ("GET", "/docs"),
    ("GET", "/openapi.json"),
    ("GET", "/v1/query/more"),
]
ODD_HOSTS = ["localhost", "127.0.0.1:1", "localhost/../livez", "livez", ""]


@pytest.fixture(scope="module")
async def closed(chaos, tmp_path_factory):
    """A gateway that asks everybody for a key."""
    config = one_provider(chaos.base_url) + "keys: {required: true}\n"
    async with running_gateway(tmp_path_factory.mktemp("closed"), config=config) as gateway:
        yield gateway


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def fill(routes):
    """With an id in each path that wants one, and without HEAD."""
    return {(method, path.replace("{id}", "key_0123456789abcdef")) for method, path in routes if method != "HEAD"}


# --- A2: the census of routes ---


async def test_without_a_key_only_the_probes_answer(closed):
    for method, path in [*fill(closed.managed()), *FACES, *STRANGE]:
        async with closed.elsewhere() as stranger:
            for headers in ({}, bearer("wrong"), bearer("sk-sn-" + "A" * 49), {"x-api-key": "x"}, {"api-key": "x"}):
                answer = await stranger.request(method, path, headers=headers, data=b"{}" if method == "POST" else None)
                if (method, path) in PUBLIC:
                    assert answer.status in {200, 503}, (method, path)
                elif (method, path) in SIGN_IN:
                    assert answer.status in {200, 400, 404}, (method, path)
                else:
                    assert answer.status == 401, (method, path, headers, answer.body)
                    assert answer.headers["www-authenticate"] == 'Bearer realm="sentinel"', (method, path, headers)


async def test_odd_hosts_and_versions_open_nothing(closed):
    for host in ODD_HOSTS:
        for version in ("1.0", "1.1"):
            for method, path in (
                *FACES[:1],
                ("GET", "/metrics"),
                ("GET", "/admin/stats"),
                ("GET", "http://livez/metrics"),
                ("GET", "//livez"),
            ):
                wire = await closed.connect()
                wire.send(
                    f"{method} {path} HTTP/{version}\r\nHost: {host}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()
                )
                status = int(re.match(rb"HTTP/1.. (\d+)", await wire.read())[1])
                assert status in {400, 401, 404, 421}, (host, version, path, status)
                await wire.close()


async def test_strangers_learn_little_from_health(closed):
    known = await closed.key(scopes=["read"])
    assert set((await closed.get("/health")).json) == {"status", "services", "timestamp"}
    assert "version" in (await closed.get("/health", headers=bearer(known))).json


# --- scopes and models ---


async def test_each_scope_opens_its_own(closed):
    reader, asker, admin = [await closed.key(scopes=[scope]) for scope in ("read", "inference", "admin")]
    for path, allowed in (("/metrics", reader), ("/v1/metrics", reader), ("/v1/models", asker), ("/admin/keys", admin)):
        for key in (reader, asker, admin):
            answer = await closed.get(path, headers=bearer(key))
            assert answer.status == (200 if key == allowed else 403), (path, answer.body)
    for key in (reader, asker, admin):
        clearing = await closed.request("POST", "/admin/cache/clear", headers=bearer(key))
        assert clearing.status == (200 if key == admin else 403), clearing.body
        for method, path in (("GET", "/admin/stats"), ("POST", "/admin/reload")):
            assert (await closed.request(method, path, headers=bearer(key))).status == 403, "a tenant's admin is not the operator"


async def test_a_key_uses_its_models_only(closed, upstream):
    key = await closed.key(models=["mock-m*", "demo"])
    assert (await closed.ask(chat("allowed?"), authorization=f"Bearer {key}")).status == 200
    asked = len(upstream.calls)
    refused = await closed.ask(chat("allowed?", model="mock/other"), authorization=f"Bearer {key}")
    assert (refused.status, refused.error["code"], refused.error["param"]) == (403, "model_not_allowed", "model")
    assert [model["id"] for model in (await closed.get("/v1/models", headers=bearer(key))).json["data"]] == ["demo"]
    assert (await closed.get("/v1/models/mock/other", headers=bearer(key))).status == 403
    assert len(upstream.calls) == asked


@pytest.mark.parametrize(
    "damage",
    [
        str.swapcase,
        lambda key: key + " x",
        lambda key: key[:-1],
        lambda key: key[:-1] + "~",
        lambda key: key.replace("sk-", "sk_"),
    ],
)
async def test_nearly_a_key_is_none(closed, damage):
    key = await closed.key()
    async with closed.elsewhere() as stranger:
        assert (await stranger.ask(chat("A6"), authorization=f"Bearer {damage(key)}")).status == 401
        assert (await stranger.ask(chat("A6"), authorization=f"Bearer {key}", x_api_key=damage(key))).status == 400
        assert (await stranger.ask(chat("A6"), authorization=f"Bearer {key}")).status == 200
        again = await stranger.ask(chat("A6"), authorization=f"Bearer {damage(key)}")
        assert again.status == 401, "nor is it one now that the key itself is remembered"


async def test_who_guesses_is_slowed_down_and_who_knows_is_not(closed):
    key = await closed.key()
    async with closed.elsewhere() as guesser:
        answers = [await guesser.get("/v1/models", headers=bearer(f"sk-sn-{number}")) for number in range(40)]
        statuses = [answer.status for answer in answers]
        assert statuses[:20] == [401] * 20
        assert statuses[-10:] == [429] * 10
        assert int(answers[-1].headers["retry-after"]) >= 1
        assert (await guesser.get("/v1/models", headers=bearer(key))).status == 200
    async with closed.elsewhere() as other:
        assert (await other.get("/v1/models", headers=bearer("wrong"))).status == 401


@pytest.mark.parametrize("header", ["authorization", "x-api-key", "api-key"])
async def test_a_key_opens_in_each_header_and_is_not_passed_on(closed, upstream, text, header):
    key = await closed.key()
    answer = await closed.ask(chat(text), **{header: f"Bearer {key}" if header == "authorization" else key})
    assert (answer.status, answer.cache) == (200, "miss")
    (call,) = upstream.calls
    assert key not in str(call.headers)
    assert not {"x-api-key", "api-key"} & {name.lower() for name in call.headers}


# --- loopback: no key before the first one ---


async def test_the_first_key_closes_the_door(chaos, tmp_path):
    async with running_gateway(tmp_path, config=one_provider(chaos.base_url)) as gateway:
        assert (await gateway.ask(chat("open"), authorization="Bearer whatever-an-sdk-sends")).status == 200
        assert (await gateway.get("/metrics")).status == 200
        key = await gateway.key()
        assert (await gateway.ask(chat("open"))).status == 401
        assert (await gateway.get("/metrics")).status == 401
        assert (await gateway.ask(chat("open"), authorization=f"Bearer {key}")).status == 200
        (made,) = (await gateway.get("/admin/keys", headers=gateway.admin)).json["data"]
        await gateway.request("POST", f"/admin/keys/{made['id']}/revoke", headers=gateway.admin)
        assert (await gateway.ask(chat("open"))).status == 401, "a gateway that had keys does not open again"


async def test_keys_may_be_optional_on_loopback(chaos, tmp_path):
    config = one_provider(chaos.base_url) + "keys: {required: false}\n"
    async with running_gateway(tmp_path, config=config) as gateway:
        key = await gateway.key(models=["nothing"])
        assert (await gateway.ask(chat("optional"))).status == 200
        assert (await gateway.ask(chat("optional"), api_key="something-else")).status == 200
        for header in ("x_api_key", "api_key"):
            assert (await gateway.ask(chat("optional"), **{header: key})).status == 403
        assert (await gateway.ask(chat("optional"), authorization="Bearer sk-something-else")).status == 200
        assert (await gateway.ask(chat("optional"), authorization=f"Bearer {key}")).status == 403, (
            "who shows a key has its rights"
        )
        assert (await gateway.ask(chat("optional"), authorization="Bearer sk-sn-wrong")).status == 401


# --- tenants ---


NAMES = ("a", "b", "c", "group\\nboth", "default", "a:b", "*", "a" * 1024, "\u00e4")


async def test_tenants_never_share_unless_they_are_told_to(chaos, upstream, tmp_path):
    config = one_provider(chaos.base_url) + "tenants: {a: {cache_group: both}, b: {cache_group: both}}\n"
    async with running_gateway(tmp_path, config=config) as gateway:
        keys = {tenant: await gateway.key(tenant=tenant) for tenant in NAMES}
        caches = {}
        for tenant, key in keys.items():
            answer = await gateway.ask(chat("whose?"), authorization=f"Bearer {key}")
            caches[tenant] = answer.cache
        assert caches == dict.fromkeys(keys, "miss") | {"b": "exact"}
        assert len(upstream.calls) == len(keys) - 1


async def test_a_flight_is_not_shared_across_tenants(closed, upstream):
    keys = [await closed.key(tenant=f"flying-{number % 5}") for number in range(20)]
    answers = await asyncio.gather(*(closed.ask(chat("together, slowly"), authorization=f"Bearer {key}") for key in keys))
    assert {answer.status for answer in answers} == {200}
    assert sum(call.method == "POST" for call in upstream.calls) == 5


async def test_a_namespace_stays_within_its_tenant(closed, upstream):
    one, other = [await closed.key(tenant=tenant) for tenant in ("spaced", "spaced-too")]
    for key, cache in ((one, "miss"), (one, "exact"), (other, "miss")):
        answer = await closed.ask(chat("spaces"), authorization=f"Bearer {key}", x_cache_namespace="shared")
        assert answer.cache == cache


# --- clearing: each tenant its own ---


async def clear(gateway, key, body=None):
    return await gateway.request("POST", "/admin/cache/clear", headers=bearer(key), json=body)


async def kept(gateway, keys, text) -> set[str]:
    """The tenants who are still answered from the cache."""
    asked = {
        tenant: await gateway.ask(chat(text), authorization=bearer(key)["authorization"], cache_control="only-if-cached")
        for tenant, key in keys.items()
    }
    assert {answer.status for answer in asked.values()} <= {200, 504}
    return {tenant for tenant, answer in asked.items() if answer.status == 200}


async def ask_as(gateway, tenants, text) -> dict[str, str]:
    """A key of scope `admin` for each tenant, after it has asked: nothing else is stored."""
    assert (await clear(gateway, ADMIN_KEY)).status == 200
    keys = {tenant: await gateway.key(tenant=tenant, scopes=["admin", "inference"]) for tenant in tenants}
    for key in keys.values():
        assert (await gateway.ask(chat(text), authorization=f"Bearer {key}")).cache == "miss"
    return keys


async def test_a_tenants_admin_clears_its_own_and_nothing_else(closed, upstream, text):
    keys = await ask_as(closed, NAMES, text)
    for tenant in ("a", "*", "group\\nboth"):
        for other in {*NAMES, "nobody", ""} - {tenant}:
            refused = await clear(closed, keys[tenant], {"tenant": other})
            assert (refused.status, refused.json["code"]) == (403, "insufficient_scope")
    assert await kept(closed, keys, text) == {*NAMES}
    answer = await clear(closed, keys["a"])
    assert (answer.status, answer.json["cleared"]) == (200, 1)
    assert answer.json["message"] == "Matching entries that this tenant asked for cleared"
    assert await kept(closed, keys, text) == {*NAMES} - {"a"}
    assert (await clear(closed, keys["*"], {"tenant": "*", "namespace": ""})).json["cleared"] == 1
    assert (await clear(closed, keys["b"], {"namespace": "another"})).json["cleared"] == 0
    assert (await clear(closed, keys["b"], {"writer": "admin-key"})).json["cleared"] == 0
    assert await kept(closed, keys, text) == {*NAMES} - {"a", "*"}


async def test_the_operator_clears_one_tenant_or_all(closed, upstream, text):
    keys = await ask_as(closed, NAMES, text)
    one = await clear(closed, ADMIN_KEY, {"tenant": "b", "namespace": ""})
    assert (one.status, one.json["cleared"]) == (200, 1)
    assert await kept(closed, keys, text) == {*NAMES} - {"b"}
    assert (await clear(closed, ADMIN_KEY, {"tenant": "nobody"})).json["cleared"] == 0
    assert (await clear(closed, ADMIN_KEY, {"namespace": "another", "tenant": "a"})).json["cleared"] == 0
    assert await kept(closed, keys, text) == {*NAMES} - {"b"}
    assert (await clear(closed, ADMIN_KEY)).json["message"] == "Cache cleared"
    assert await kept(closed, keys, text) == set()


async def test_guests_and_the_operator_are_cleared_apart(chaos, upstream, tmp_path):
    async with running_gateway(tmp_path, config=one_provider(chaos.base_url) + "keys: {required: false}\n") as gateway:
        for headers in ({}, {"authorization": f"Bearer {ADMIN_KEY}"}):
            assert (await gateway.ask(chat("whose?"), **headers)).cache == "miss"
        assert (await clear(gateway, ADMIN_KEY, {"tenant": ""})).json["cleared"] == 1
        assert (await gateway.ask(chat("whose?"), authorization=f"Bearer {ADMIN_KEY}")).cache == "exact"
        assert (await gateway.ask(chat("whose?"))).cache == "miss"


async def test_in_a_group_each_clears_what_it_has_asked_for(chaos, upstream, tmp_path):
    config = one_provider(chaos.base_url) + "tenants: {a: {cache_group: both}, b: {cache_group: both}}\n"
    async with running_gateway(tmp_path, config=config) as gateway:
        a, b = [await gateway.key(tenant=tenant, scopes=["admin", "inference"]) for tenant in ("a", "b")]
        for key, text in ((a, "of a"), (b, "of b")):
            assert (await gateway.ask(chat(text), authorization=f"Bearer {key}")).cache == "miss"
        assert await kept(gateway, {"a": a, "b": b}, "of a") == {"a", "b"}
        assert (await clear(gateway, a)).json["cleared"] == 1
        assert await kept(gateway, {"a": a, "b": b}, "of a") == set()
        assert await kept(gateway, {"a": a, "b": b}, "of b") == {"a", "b"}
        gateway.config.write_text(one_provider(chaos.base_url))
        assert (await gateway.reload()).status == 200
        assert (await clear(gateway, b)).json["cleared"] == 1, "also where it is in the group no more"


async def test_what_one_tenant_clears_costs_another_nothing(closed, upstream, text):
    """A clear keeps what is on its way from being kept: that of its own tenant only."""
    keys = {tenant: await closed.key(tenant=tenant, scopes=["admin", "inference"]) for tenant in ("a", "b")}
    upstream.script("latency_ms=150")
    upstream.script("latency_ms=150")
    running = {tenant: asyncio.create_task(closed.ask(chat(text), authorization=f"Bearer {key}")) for tenant, key in keys.items()}
    await until(lambda: upstream.count == 2)
    assert (await clear(closed, keys["a"])).status == 200
    assert {(await answer).status for answer in running.values()} == {200}
    assert await kept(closed, keys, text) == {"b"}


async def test_the_log_tells_whose_entries_were_cleared(closed):
    admin = await closed.key(tenant="clearing", scopes=["admin"])
    await clear(closed, admin, {"tag": "own"})
    await clear(closed, ADMIN_KEY, {"tenant": "clearing", "tag": "by the operator"})
    await clear(closed, ADMIN_KEY, {"tag": "of all"})
    await clear(closed, admin, {"tenant": "another"})
    seen = (await closed.get("/admin/audit?limit=2", headers=bearer(admin))).json["data"]
    told = [(entry["action"], entry["tenant"], entry["after"]) for entry in seen]
    assert told == [
        ("cache.clear", "clearing", {"tenant": "clearing", "tag": "by the operator"}),
        ("cache.clear", "clearing", {"tag": "own"}),
    ]
    assert [entry["actor"] == "admin-key" for entry in seen] == [True, False]
    (last,) = (await closed.get("/admin/audit?limit=1", headers=closed.admin)).json["data"]
    assert (last["tenant"], last["after"]) == (None, {"tag": "of all"})


# --- revocation ---


async def test_a_revoked_key_gets_not_even_a_hit(closed):
    key = await closed.key(tenant="short-lived")
    for _ in range(3):
        assert (await closed.ask(chat("again"), authorization=f"Bearer {key}")).status == 200
    (made,) = (await closed.get("/admin/keys?tenant=short-lived", headers=closed.admin)).json["data"]
    assert (await closed.request("POST", f"/admin/keys/{made['id']}/revoke", headers=closed.admin)).status == 200
    assert (await closed.ask(chat("again"), authorization=f"Bearer {key}")).status == 401


async def test_what_another_process_revokes_is_gone_within_a_second(closed, tmp_path):
    key = await closed.key(tenant="elsewhere")
    (made,) = (await closed.get("/admin/keys?tenant=elsewhere", headers=closed.admin)).json["data"]
    assert (await closed.ask(chat("again"), authorization=f"Bearer {key}")).status == 200
    command = [sys.executable, "-m", "sentinel_gateway", "keys", "revoke", made["id"]]
    environ = {"SENTINEL_DATA_DIR": str(closed.config.parent / "data"), "HOME": str(tmp_path), "PATH": ""}
    process = await asyncio.create_subprocess_exec(*command, env=environ, cwd=tmp_path, stdout=asyncio.subprocess.PIPE)
    said, _ = await process.communicate()
    assert process.returncode == 0, said

    async def refused() -> bool:
        return (await closed.ask(chat("again"), authorization=f"Bearer {key}")).status == 401

    for _ in range(100):
        if await refused():
            break
        await asyncio.sleep(0.1)
    else:
        pytest.fail("ten seconds later it still opens")


# --- the audit log ---


async def test_every_administrative_change_is_written_down(closed):
    await closed.key(name="to be seen", tenant="audited")
    await closed.request("POST", "/admin/cache/clear", headers=closed.admin, json={"tag": "none"})
    await closed.reload()
    entries = (await closed.get("/admin/audit?limit=3", headers=closed.admin)).json["data"]
    assert [entry["action"] for entry in entries] == ["configuration.reload", "cache.clear", "key.create"]
    assert [entry["actor"] for entry in entries] == ["admin-key"] * 3
    assert (entries[1]["after"], entries[2]["after"]["name"]) == ({"tag": "none"}, "to be seen")
    tenant = await closed.key(tenant="audited", scopes=["admin"])
    seen = (await closed.get("/admin/audit", headers=bearer(tenant))).json["data"]
    assert {entry["tenant"] for entry in seen} == {"audited"}


async def test_the_line_of_a_request_beside_the_path_says_whose_key_it_was(closed):
    """Also of one that its key is not good enough for; who shows none that is good is anybody."""
    written = []
    closed.process.events.also_write(written.append)
    made = await closed.request("POST", "/admin/keys", json={"name": "test", "scopes": ["read"]}, headers=closed.admin)
    reader, id_ = bearer(made.json["key"]), made.json["id"]
    await closed.get("/costs", headers=reader)
    await closed.get("/admin/stats", headers=reader)
    await closed.get("/admin/stats", headers=closed.admin)
    await closed.get("/costs", headers=bearer("wrong"))
    told = [(record.route, record.status, record.account, record.key) for record in written]
    assert told == [
        ("/admin/keys", 201, "", "admin-key"),
        ("/costs", 200, "default", id_),
        ("/admin/stats", 403, "default", id_),
        ("/admin/stats", 200, "", "admin-key"),
        ("/costs", 401, "", "anybody"),
    ]


async def test_the_line_of_a_request_beside_the_path_says_what_was_wrong_with_it(closed):
    """As the lines of requests to models do."""
    written = []
    closed.process.events.also_write(written.append)
    reader = bearer(await closed.key(scopes=["read"]))
    written.clear()
    await closed.get("/costs", headers=bearer("wrong"))
    await closed.get("/admin/stats", headers=reader)
    await closed.get("/api/monitoring/health/nobody", headers=reader)
    await closed.get("/api/monitoring/error-rates?hours=x", headers=reader)
    await closed.request("POST", "/api/monitoring/report", json={}, headers=reader)
    await closed.get("/nowhere", headers=reader)
    await closed.request("DELETE", "/livez", headers=reader)
    for path in ("/dashboard/semantic", "/dashboard/nowhere"):
        await closed.get(path, headers=reader | {"accept": "text/html"})
    await closed.get("/livez")
    assert [(record.status, record.error) for record in written] == [
        (401, "invalid_api_key"),
        (403, "insufficient_scope"),
        (404, "provider_not_found"),
        (400, "invalid_value"),
        (400, "invalid_value"),
        (404, "unknown_url"),
        (405, "method_not_allowed"),
        (403, "insufficient_scope"),
        (404, "unknown_url"),
        (200, ""),
    ]


async def test_a_configuration_that_is_rejected_is_told_after_the_wish(closed):
    good = closed.config.read_text()
    assert (await closed.reload("modles: {}\n")).json["code"] == "invalid_configuration"
    closed.config.write_text(good)
    entries = (await closed.get("/admin/audit?limit=2", headers=closed.admin)).json["data"]
    assert [entry["action"] for entry in entries] == ["configuration.rejected", "configuration.reload"]


async def test_no_key_is_told_by_anything(closed):
    """I7 for keys: neither answers, metrics, nor what lies on the disk hold one."""
    key = await closed.key(tenant="canary")
    await closed.ask(chat("hello"), authorization=f"Bearer {key}")
    await closed.ask(b"{broken", authorization=f"Bearer {key}")
    shown = b"".join(
        [
            (await closed.get(path, headers=closed.admin)).body
            for path in ("/metrics", "/admin/keys", "/admin/audit", "/admin/stats", "/health")
        ]
    )
    shown += b"".join(file.read_bytes() for file in (closed.config.parent / "data").rglob("*") if file.is_file())
    for secret in (key, ADMIN_KEY):
        for at in range(len("sk-sn-"), len(secret) - 12):
            assert secret[at : at + 12].encode() not in shown


async def test_a_reload_never_opens_what_others_can_reach(chaos, tmp_path):
    """The socket stays where it was bound, whatever the new configuration says of it."""
    wide = one_provider(chaos.base_url) + "server: {host: 0.0.0.0}\n"
    environ = {"SENTINEL_DATA_DIR": str(tmp_path / "data")}
    async with running_gateway(tmp_path, config=one_provider(chaos.base_url), environ=environ) as gateway:
        key = await gateway.key()
    async with running_gateway(tmp_path, config=wide, environ=environ) as gateway:
        assert (await gateway.ask(chat("wide"))).status == 401
        narrow = one_provider(chaos.base_url) + "server: {host: 127.0.0.1}\nkeys: {required: false}\n"
        assert (await gateway.reload(narrow)).status == 200
        assert (await gateway.ask(chat("wide"))).status == 401
        assert (await gateway.ask(chat("wide"), authorization=f"Bearer {key}")).status == 200


async def test_a_key_with_a_list_learns_no_other_names(closed):
    key = await closed.key(models=["mock-model"])
    for name in ("mock/other", "no-such-model", "mock-mode"):
        refused = await closed.ask(chat("names?", model=name), authorization=f"Bearer {key}")
        assert (refused.status, refused.error["code"]) == (403, "model_not_allowed")
        assert "Did you mean" not in refused.error["message"]


async def test_a_name_that_a_key_may_use_and_nobody_serves_is_not_found(chaos, upstream, tmp_path):
    """403 is for names that the key may not use, served or not; neither answer tells any other name."""
    two = f"providers:\n{provider('first', chaos.base_url)}{provider('second', chaos.base_url)}keys: {{required: true}}\n"
    async with running_gateway(tmp_path, config=two) as gateway:
        narrow = await gateway.key(models=["mock-m*", "off/*", "groq/*"], limits={"requests_per_minute": 100})
        wide = await gateway.key(tenant="wide")
        # Looks like one that is served, is served by two, names a provider that is off.
        for name, near in (("mock-mode", "Did you mean"), ("mock-model", "first/mock-model"), ("groq/x", "GROQ_API_KEY")):
            for body, path in ((chat("?", name), "/v1/chat/completions"), ({"prompt": "?", "model": name}, "/v1/query")):
                told = await gateway.ask(body, path, authorization=f"Bearer {wide}")
                assert told.status == 404
                assert near in told.body.decode()
                told = await gateway.ask(body, path, authorization=f"Bearer {narrow}")
                assert (told.status, told.json.get("code") or told.error["code"]) == (404, "model_not_found")
                assert said(told) == f"Nobody here serves the model '{name}'. GET /v1/models lists those that this key may use."
            told = await gateway.get(f"/v1/models/{name}", headers=bearer(narrow))
            assert said(told) == f"Nobody here serves the model '{name}'. GET /v1/models lists those that this key may use."
            assert near in said(await gateway.get(f"/v1/models/{name}", headers=bearer(wide)))
        for name in ("mock-larg", "mock-large", "first/mock-model", "third/mock-model"):
            for body, path in ((chat("?", name), "/v1/chat/completions"), ({"prompt": "?", "model": name}, "/v1/query")):
                told = await gateway.ask(body, path, authorization=f"Bearer {narrow}")
                assert (told.status, said(told)) == (403, NOT_ALLOWED)
            assert (await gateway.get(f"/v1/models/{name}", headers=bearer(narrow))).status == 403
        for asked, status in (({"provider": "off", "model": "x"}, 404), ({"provider": "off"}, 404), ({"provider": "out"}, 403)):
            told = await gateway.ask({"prompt": "?"} | asked, "/v1/query", authorization=f"Bearer {narrow}")
            assert (told.status, "first" in said(told)) == (status, False), told.body
        assert upstream.calls == []


def said(answer) -> str:
    """The sentence of an error, in whichever dialect."""
    document = answer.json
    return document["error"]["message"] if isinstance(document["error"], dict) else document["error"]


async def test_a_key_that_is_revoked_while_its_body_comes_gets_no_answer(closed):
    key = await closed.key(tenant="slow-sender")
    (made,) = (await closed.get("/admin/keys?tenant=slow-sender", headers=closed.admin)).json["data"]
    whole = post(chat("slowly"), headers=f"Authorization: Bearer {key}\r\n")
    wire = await closed.connect()
    wire.send(whole[:-5])
    await asyncio.sleep(0.6)
    await closed.request("POST", f"/admin/keys/{made['id']}/revoke", headers=closed.admin)
    wire.send(whole[-5:])
    assert (await wire.answer()).status == 401
    await wire.close()


async def test_the_operator_shares_no_idempotency_keys_with_guests(chaos, tmp_path):
    async with running_gateway(tmp_path, config=one_provider(chaos.base_url) + "keys: {required: false}\n") as gateway:
        once = {"x_bypass_cache": "true", "idempotency_key": "the-same"}
        operator = {"authorization": f"Bearer {ADMIN_KEY}"}
        answers = [await gateway.ask(chat("secret"), **once, **who) for who in (operator, {}, operator, {})]
        assert [answer.status for answer in answers] == [200] * 4
        assert [answer.headers.get("idempotent-replayed") for answer in answers] == [None, None, "true", "true"]
        assert (answers[2].body, answers[3].body) == (answers[0].body, answers[1].body)
        assert (await gateway.ask(chat("another"), **once)).status == 422


async def test_the_operator_shares_no_answers_with_guests(chaos, tmp_path):
    async with running_gateway(tmp_path, config=one_provider(chaos.base_url) + "keys: {required: false}\n") as gateway:
        assert (await gateway.ask(chat("operator"), authorization=f"Bearer {ADMIN_KEY}")).cache == "miss"
        assert (await gateway.ask(chat("operator"))).cache == "miss"
        assert (await gateway.ask(chat("operator"), authorization=f"Bearer {ADMIN_KEY}")).cache == "exact"
