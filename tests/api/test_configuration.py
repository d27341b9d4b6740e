"""Where settings come from, what a reload or a draft would change, and that nothing else is put in force than was looked at."""

import pytest

from tests.gateway import ADMIN_KEY, chat, one_provider, running_gateway

pytestmark = pytest.mark.anyio

ENVIRON = {
    "MEMORY_CACHE_SIZE": "500",
    "DEEP_SECRET": "s3cret-of-the-environment",
    "LOCAL_KEY": "key-in-the-environment",
    "SHORT": "zq7",
    "LISTED": "a.example,zq7:80",
    "SENTINEL_MODELS__QUICK": "mock/mock-small, mock/mock-model",
}


def base(chaos, *, more: str = "") -> str:
    own = "  own: {dialect: openai, base_url: 'http://127.0.0.1:9/v1', api_key: '${LOCAL_KEY}', models: [a]}\n"
    return f"{one_provider(chaos.base_url)}{own}cache:\n  ttl: 600\n{more}"


@pytest.fixture(scope="module")
async def configured(chaos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("configured")
    async with running_gateway(folder, config=base(chaos), environ=ENVIRON, alone=False) as gateway:
        yield gateway


@pytest.fixture
async def gateway(configured, chaos):
    """The same for all, as it began."""
    yield configured
    assert (await configured.reload(base(chaos))).status == 200


async def settings(gateway):
    told = (await gateway.get("/config/sources", headers=gateway.admin)).json
    return {one["name"]: one for one in told["settings"]}


async def check(gateway, **body):
    answer = await gateway.request("POST", "/admin/config/check", headers=gateway.admin, json=body)
    assert answer.status == 200, answer.body
    return answer.json


def changes(checked):
    return {one["name"]: (one["before"], one["after"]) for one in checked["changes"]}


async def test_each_setting_says_where_it_was_written(gateway):
    told = await settings(gateway)
    assert (told["cache.ttl"]["value"], told["cache.ttl"]["source"], told["cache.ttl"]["place"]) == (
        600,
        "file",
        "sentinel.yaml:5",
    )
    assert told["cache.ttl"]["about"].startswith("Seconds to keep answers")
    entries = told["cache.memory.entries"]
    assert (entries["value"], entries["default"], entries["place"]) == (500, 10_000, "env MEMORY_CACHE_SIZE")
    assert entries["by_restart"]
    assert (told["cache.max_answer_bytes"]["source"], told["cache.max_answer_bytes"]["place"]) == ("default", "")
    targets = told["models.quick.targets"]
    assert (targets["value"], targets["place"]) == (
        [{"target": "mock/mock-small"}, {"target": "mock/mock-model"}],
        "env SENTINEL_MODELS__QUICK",
    )
    assert told["models.quick.sticky"]["source"] == "default"
    assert told["providers.mock.base_url"]["source"] == "file"
    assert told["providers.own.headers.authorization"]["source"] == "preset", "made of its key"
    files = (await gateway.get("/config/sources", headers=gateway.admin)).json["files"]
    assert files == ["sentinel.yaml"]


async def test_no_secret_is_told(gateway, chaos):
    shown = (await gateway.get("/config/sources", headers=gateway.admin)).body
    draft = base(chaos, more="service: {name: '${DEEP_SECRET}'}\nadmin_key: sk-sn-another-admin-key-of-tests\n")
    gateway.config.write_text(base(chaos).replace("key-of-mock", "another-key-of-mock"))
    now, drafted = await check(gateway), await check(gateway, yaml=draft)
    told = str((shown, now, drafted))
    for secret in (ADMIN_KEY, "key-of-mock", *(ENVIRON[name] for name in ("DEEP_SECRET", "LOCAL_KEY")), "another-admin"):
        assert secret not in told
    assert changes(now)["providers.mock.api_key"] == ("***", "***"), "that it is another is told"
    assert changes(drafted)["service.name"] == ("sentinel", "***"), "or drafts would read the environment"


@pytest.mark.parametrize(
    ("more", "name"),
    [
        ("models: {fast: ['mock/${DEEP_SECRET}']}", "models.fast.targets"),
        ("models: {fast: {targets: ['mock/plain', 'mock/${DEEP_SECRET}']}}", "models.fast.targets"),
        ("models: {fast: [{target: 'mock/${DEEP_SECRET}', weight: 2}, mock/plain]}", "models.fast.targets"),
        ("server: {cors: {origins: ['https://${DEEP_SECRET}']}}", "server.cors.origins"),
    ],
)
async def test_a_draft_does_not_read_the_environment_through_lists(configured, chaos, more, name):
    told = await check(configured, yaml=base(chaos, more=f"{more}\n"))
    assert told["ok"], told["faults"]
    assert changes(told)[name][1] == "***"
    assert ENVIRON["DEEP_SECRET"] not in str(told)


async def test_a_draft_does_not_read_the_environment_through_what_providers_take_over(configured, chaos):
    """From the preset whose name another one has, and from the region in an address."""
    region = "region: '${DEEP_SECRET}'"
    namesake = f"  mine: {{preset: bedrock, api_key: k, models: [a]}}\n  bedrock: {{api_key: k, {region}}}\n"
    addressed = f"  ours: {{preset: bedrock, api_key: k, {region}, base_url: 'https://{{region}}.example'}}\n"
    for own, name in ((namesake, "providers.mine.region"), (addressed, "providers.ours.base_url")):
        told = await check(configured, yaml=base(chaos).replace("  own:", f"{own}  own:"))
        assert told["ok"], told["faults"]
        assert changes(told)[name][1] == "***"
        assert ENVIRON["DEEP_SECRET"] not in str(told)


async def test_what_a_draft_says_itself_is_told(configured, chaos):
    own = "  groq: {api_key: '${DEEP_SECRET}'}\n"
    told = changes(await check(configured, yaml=base(chaos).replace("  own:", f"{own}  own:")))
    assert told["providers.groq.base_url"][1].startswith("https://api.groq.com"), "the preset's, whoever's the key is"
    assert told["providers.groq.api_key"][1] == "***"


async def test_a_reload_is_looked_at_before_it_is_done(gateway, chaos):
    assert changes(await check(gateway)) == {}
    gateway.config.write_text(base(chaos, more="limits: {requests_per_minute: 99}\n").replace("600", "60"))
    seen = await check(gateway)
    assert (seen["ok"], seen["of"]) == (True, "files")
    assert changes(seen) == {"cache.ttl": (600, 60), "limits.requests_per_minute": (None, 99)}
    assert not any(one["by_restart"] for one in seen["changes"])
    assert (await settings(gateway))["cache.ttl"]["value"] == 600, "looking changes nothing"
    done = await gateway.request("POST", "/admin/reload", headers=gateway.admin, json={"mark": seen["mark"]})
    assert done.status == 200
    assert (await settings(gateway))["cache.ttl"]["value"] == 60
    assert changes(await check(gateway)) == {}


async def test_what_changed_after_the_look_is_not_put_in_force(gateway, chaos):
    seen = await check(gateway)
    gateway.config.write_text(base(chaos).replace("600", "61"))
    refused = await gateway.request("POST", "/admin/reload", headers=gateway.admin, json={"mark": seen["mark"]})
    assert (refused.status, refused.json["code"]) == (409, "configuration_moved")
    assert (await settings(gateway))["cache.ttl"]["value"] == 600
    audit = (await gateway.get("/admin/audit?limit=2", headers=gateway.admin)).json["data"]
    assert [one["action"] for one in audit] == ["configuration.rejected", "configuration.reload"]


async def test_a_draft_is_put_in_force_once_the_file_says_just_that(gateway, chaos):
    draft = base(chaos).replace("600", "62")
    drafted = await check(gateway, yaml=draft)
    assert (drafted["of"], changes(drafted)) == ("draft", {"cache.ttl": (600, 62)})
    assert drafted["changes"][0]["place"] == "draft:5"
    how = {"headers": gateway.admin, "json": {"mark": drafted["mark"]}}
    assert (await gateway.request("POST", "/admin/reload", **how)).status == 409
    gateway.config.write_text(draft + "# saved\n")
    assert (await gateway.request("POST", "/admin/reload", **how)).status == 200
    assert (await settings(gateway))["cache.ttl"]["value"] == 62


async def test_what_waits_for_the_next_start_says_so(gateway, chaos):
    gateway.config.write_text(base(chaos, more="replicas: 1\nserver: {max_connections: 77}\n"))
    [change] = (await check(gateway))["changes"]
    assert (change["name"], change["after"], change["by_restart"]) == ("server.max_connections", 77, True)
    assert "takes effect at the next start" in str((await gateway.reload()).json["notes"])
    told = (await settings(gateway))["server.max_connections"]
    assert (told["value"], told["waits"]) == (77, True)
    [change] = (await check(gateway))["changes"]
    assert change["before"] == 10_000, "what it began with is in force still"


@pytest.mark.parametrize(
    ("draft", "place", "said"),
    [
        ("server: {prot: 1}", "draft:1 server.prot", "did you mean 'port'"),
        ("cache: {ttl: soon}", "draft:1 cache.ttl", "a number"),
        ("- a\n- b", "draft:1", "mapping"),
        ("a: [", "draft:1", "is not YAML"),
        ("[" * 20_000, "draft", "nested too deeply"),
        (
            "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10) if n else 'x'}]\n" for n in range(9)),
            "draft",
            "more than 2,000 keys",
        ),
        (
            "".join(f"a{n}: &a{n} [{f'*a{n - 1}' if n else 'x'}]\n" for n in range(1_500)),
            "draft",
            "more than 2,000 keys",
        ),
        (
            f"a: &a '{'x' * 5_000}'\nb: [{', '.join(['*a'] * 1_000)}]\n",
            "draft",
            "more than 4,000,000 characters",
        ),
        ("service: {name: '${NOT_SET_ANYWHERE}'}", "draft:1 service.name", "is not set"),
    ],
)
async def test_faults_of_a_draft_are_told_with_their_places(configured, draft, place, said):
    told = await check(configured, yaml=draft)
    assert (told["ok"], told["mark"], told["changes"]) == (False, None, [])
    assert any(place == one["place"] and said in one["fault"] for one in told["faults"]), told["faults"][:3]


@pytest.mark.parametrize(
    "draft",
    [
        "server: {allowed_hosts: '${LISTED}'}",
        "server: {allowed_hosts: ['${SHORT}']}",
        "models: {fast: '${SHORT}'}",
        "models: {fast: ['${SHORT}']}",
        "models: {fast: {targets: [{target: '${SHORT}', weight: 2}]}}",
        "routing: {default: '${SHORT}'}",
        "providers: {a: {preset: '${SHORT}'}}",
        "providers: {a: {dialect: openai, api_key: k, base_url: 'http://${SHORT}.example'}}",
        "tenants: {a: {cache_group: '${SHORT}'}}",
    ],
)
async def test_faults_and_notes_of_a_draft_tell_nothing_that_is_filled_in(configured, draft):
    """Neither short texts nor parts of long ones, though sentences elsewhere quote what is wrong."""
    told = await check(configured, yaml=draft)
    assert told["faults"] or told["notes"]
    assert "zq7" not in str((told["faults"], told["notes"]))


async def test_a_draft_of_the_longest_kind_fits_into_its_body(configured, chaos):
    told = await check(configured, yaml=(base(chaos).replace("600", "61") + "# 😀\n" * 20_000)[:50_000])
    assert changes(told)["cache.ttl"] == (600, 61)


async def test_what_only_a_reload_would_trip_over_is_told_beforehand(configured, chaos):
    """It is right by itself, but its channel can't be opened."""
    told = await check(configured, yaml=base(chaos, more="alerts: {channels: {chat: {apprise: 'nosuch://s3cret'}}}\n"))
    assert not told["ok"]
    assert [one["place"] for one in told["faults"]] == ["alerts.channels.chat.apprise"]
    assert "s3cret" not in str(told)


async def test_readers_look_and_the_operator_tries(configured):
    keys = {scope: await configured.key(scopes=[scope]) for scope in ("read", "inference", "admin")}
    for scope, key in keys.items():
        who = {"authorization": f"Bearer {key}"}
        assert (await configured.get("/config/sources", headers=who)).status == (200 if scope == "read" else 403)
        for path in ("/admin/config/check", "/admin/reload"):
            assert (await configured.request("POST", path, headers=who, json={})).status == 403
    for body in ({"yaml": 1}, {"yml": "a"}, {"yaml": "x" * 50_001}):
        answer = await configured.request("POST", "/admin/config/check", headers=configured.admin, json=body)
        assert answer.status == 400, answer.body
    assert (await configured.ask(chat("still served"), **configured.admin)).status == 200
