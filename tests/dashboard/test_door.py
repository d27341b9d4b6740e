"""Who gets in to the dashboard, by what, for how long, and what a browser is told that must not be trusted."""

import asyncio

import pytest
from fastapi import Request

from sentinel_gateway.api.dashboard.door import COOKIE, Door
from sentinel_gateway.api.dashboard.live import Streams
from sentinel_gateway.api.dashboard.sessions import IDLE, LONGEST, MOST_OF_ONE, Sessions
from sentinel_gateway.api.guard import Guard, Policy
from sentinel_gateway.core.access import operator
from sentinel_gateway.errors import InvalidKey, KeysUnavailable
from sentinel_gateway.pipeline.keyring import TRUSTED_SECONDS
from tests.core.keys import minted
from tests.dashboard.visitor import visiting
from tests.gateway import ADMIN_KEY, DEADLINE, one_provider, running_gateway
from tests.pipeline.test_authentication import Door as Keyed
from tests.pipeline.test_keyring import revoked

pytestmark = pytest.mark.anyio

POLICY = {
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "connect-src 'self'",
    "img-src 'self' data:",
    "frame-ancestors 'none'",
    "base-uri 'none'",
    "form-action 'self'",
}


async def test_without_a_key_there_is_a_form_and_nothing_else(visitor):
    seen = await visitor.look()
    assert seen.status == 401
    assert "Sign in" in seen.words
    assert "Requests" not in seen.words
    for path in (
        "/dashboard/providers",
        "/dashboard/savings",
        "/dashboard/events?page=overview",
        "/dashboard/frame?page=overview",
    ):
        assert (await visitor.look(path)).status == 401


async def test_the_admin_key_opens_it_and_signing_out_ends_it(visitor):
    seen = await visitor.sign_in()
    assert (seen.status, seen.headers["location"]) == (303, "/dashboard")
    assert (await visitor.look()).status == 200
    cookie = dict(visitor.cookies)
    assert (await visitor.send("/dashboard/sign-out")).status == 303
    visitor.cookies = cookie
    assert (await visitor.look()).status == 401, "who kept the cookie is out, too"


async def test_the_cookie_is_for_this_place_alone(visitor):
    [cookie] = [line for line in (await visitor.sign_in()).cookies if line.startswith("sentinel_session")]
    parts = {part.strip().lower() for part in cookie.split(";")[1:]}
    assert {"httponly", "samesite=strict", "path=/dashboard"} <= parts
    assert "secure" not in parts
    async with visiting(visitor.gateway) as other:
        await other.look("/dashboard/sign-in")
        behind_tls = {"x-forwarded-proto": "https"}
        seen = await other.send("/dashboard/sign-in", headers=behind_tls, key=ADMIN_KEY)
        assert all("secure" in line.lower() for line in seen.cookies if line.startswith("sentinel_session"))


async def test_a_session_opens_the_dashboard_and_not_the_api(visitor):
    await visitor.sign_in()
    for path in ("/admin/stats", "/metrics", "/v1/models", "/admin/keys"):
        assert (await visitor.look(path)).status == 401, path


async def test_every_page_tells_browsers_to_run_nothing_else(visitor):
    async def check(path, status):
        seen = await visitor.look(path)
        assert seen.status == status
        assert set(seen.headers["content-security-policy"].split("; ")) == POLICY
        assert "unsafe" not in seen.headers["content-security-policy"]
        assert seen.headers["x-frame-options"] == "DENY"
        assert seen.headers["x-content-type-options"] == "nosniff"
        assert seen.headers["referrer-policy"] == "same-origin"
        assert seen.headers["cross-origin-opener-policy"] == "same-origin"
        assert "no-store" in seen.headers["cache-control"]

    await check("/dashboard", 401)
    await check("/dashboard/sign-in", 200)
    await visitor.sign_in()
    for path in ("/dashboard", "/dashboard/providers", "/dashboard/savings", "/dashboard/frame?page=overview"):
        await check(path, 200)


async def test_where_there_is_no_page_a_browser_is_shown_one_with_a_way_back(closed, visitor):
    places = (
        ("/dashboard/nothing", 404, "no such page"),
        ("/dashboard/keys/create", 405, "GET is not allowed"),
        ("/dashboard/static/nothing.js", 404, "no such file"),
    )
    shown = [await visitor.look(path) for path, _, _ in places]
    assert [one.status for one in shown] == [401, 401, 404]
    assert all("Sign in" in one.words and "Audit log" not in one.words for one in shown), "strangers learn of no page"
    leads = await visitor.look("/dashboard/")
    assert (leads.status, leads.headers["location"]) == (307, "/dashboard")
    await visitor.sign_in()
    for path, status, why in places:
        page = await visitor.look(path)
        assert (page.status, why in page.words, '<a href="/dashboard">To the overview</a>' in page.text) == (status, True, True)
        assert "Audit log" in page.words
        assert set(page.headers["content-security-policy"].split("; ")) == POLICY
    assert (await visitor.look("/dashboard/keys/create")).headers["allow"] == "POST"
    assert (await visitor.look("/dashboards")).headers["content-type"] == "application/problem+json", "that is beside it"


async def test_where_there_is_no_page_a_program_is_told_so_as_everywhere(closed):
    for path, status in (("/dashboard/", 404), ("/dashboard/nothing", 404), ("/dashboard/keys/create", 405)):
        answers = [await closed.get(path), await closed.get(path, headers=closed.admin)]
        assert [answer.status for answer in answers] == [401, status]
        assert {answer.headers["content-type"] for answer in answers} == {"application/problem+json"}


async def test_pages_with_tokens_are_never_compressed(visitor):
    await visitor.sign_in()
    for path in ("/dashboard", "/dashboard/sign-in"):
        seen = await visitor.look(path, **{"accept-encoding": "gzip"})
        assert "content-encoding" not in seen.headers


async def test_a_form_of_another_page_changes_nothing(visitor):
    await visitor.sign_in()
    good = visitor.token
    for token, headers in (
        ("", {}),
        ("x" * 43, {}),
        (good, {"sec-fetch-site": "cross-site"}),
        (good, {"sec-fetch-site": "same-site"}),
        (good, {"origin": "https://evil.example"}),
    ):
        seen = await visitor.send("/dashboard/sign-out", headers=headers, token=token)
        assert seen.status == 403, (token, headers)
    assert (await visitor.look()).status == 200, "still signed in"
    assert (await visitor.ask("POST", "/dashboard/sign-out", json={"token": good})).status == 400
    assert (await visitor.send("/dashboard/sign-out", token=good)).status == 303


async def test_the_form_for_signing_in_is_ours_as_well(visitor):
    await visitor.look("/dashboard/sign-in")
    assert (await visitor.send("/dashboard/sign-in", token="x" * 43, key=ADMIN_KEY)).status == 403
    visitor.cookies.clear()
    assert (await visitor.send("/dashboard/sign-in", key=ADMIN_KEY)).status == 403
    assert "sentinel_session" not in visitor.cookies


@pytest.mark.parametrize(
    ("to", "leads"),
    [
        ("/dashboard/providers", "/dashboard/providers"),
        ("//evil.example", "/dashboard"),
        ("https://evil.example/dashboard", "/dashboard"),
        ("/dashboard/../admin", "/dashboard"),
        ("/dashboard\\evil", "/dashboard"),
        ("/dashboard/sign-out", "/dashboard"),
    ],
)
async def test_signing_in_leads_nowhere_else(visitor, to, leads):
    await visitor.look("/dashboard/sign-in")
    seen = await visitor.send("/dashboard/sign-in", key=ADMIN_KEY, to=to)
    assert (seen.status, seen.headers["location"]) == (303, leads)


async def test_viewers_look_and_change_nothing(closed, visitor):
    await visitor.sign_in(await closed.key(scopes=["read"], name="a viewer"))
    page = await visitor.look()
    assert page.status == 200
    assert "a viewer" in page.words
    seen = await visitor.send("/dashboard/providers/reset", target="mock/mock-model")
    assert seen.status == 403
    assert "admin key" in seen.words
    assert 'action="/dashboard/providers/reset"' not in (await visitor.look("/dashboard/providers")).text


async def test_a_key_that_may_not_look_is_told_so(closed, visitor):
    seen = await visitor.sign_in(await closed.key(scopes=["inference"]))
    assert seen.status == 403
    assert "scope 'read'" in seen.words
    assert "sentinel_session" not in visitor.cookies


async def test_wrong_keys_are_all_told_the_same(closed, visitor):
    revoked = await closed.key(scopes=["read"])
    [made] = [
        key
        for key in (await closed.get("/admin/keys?limit=200", headers=closed.admin)).json["data"]
        if revoked[-4:] == key["hint"][-4:]
    ]
    assert (await closed.request("POST", f"/admin/keys/{made['id']}/revoke", headers=closed.admin)).status == 200
    texts = set()
    for key in ("wrong", revoked, "sk-sn-" + "A" * 49, "clé, with a comma"):
        seen = await visitor.sign_in(key)
        assert seen.status == 401
        texts.add(seen.text.replace(visitor.token, ""))
    assert len(texts) == 1


async def test_guessing_is_slowed_down_and_a_right_key_is_not_held_back(closed):
    """Behind a proxy all have its address: one who guesses must not lock out everybody else."""
    async with visiting(closed, "127.3.0.1") as guesser, visiting(closed, "127.3.0.2") as other:
        await guesser.look("/dashboard/sign-in")
        statuses = [(await guesser.send("/dashboard/sign-in", key=f"guess {number}")).status for number in range(8)]
        assert statuses == [401] * 5 + [429] * 3
        seen = await guesser.send("/dashboard/sign-in", key="one more")
        assert seen.status == 429
        assert int(seen.headers["retry-after"]) <= 10
        assert (await guesser.send("/dashboard/sign-in", key=ADMIN_KEY)).status == 303
        assert (await other.sign_in()).status == 303, "others get in all the while"


async def test_a_revoked_key_ends_its_sessions_within_a_second(closed, visitor):
    key = await closed.key(scopes=["read"])
    await visitor.sign_in(key)
    assert (await visitor.look()).status == 200
    [made] = [
        one
        for one in (await closed.get("/admin/keys?limit=200", headers=closed.admin)).json["data"]
        if one["hint"][-4:] == key[-4:]
    ]
    async with visitor.session.get("/dashboard/events?page=overview", headers=visitor.kept) as stream:
        assert stream.status == 200
        await closed.request("POST", f"/admin/keys/{made['id']}/revoke", headers=closed.admin)
        assert (await visitor.look()).status == 401
        assert "event: signed-out" in await asyncio.wait_for(stream.text(), DEADLINE)


async def test_who_changed_a_key_stays_signed_in_with_what_it_may_now(closed, visitor):
    key = await closed.key(scopes=["read"])
    await visitor.sign_in(key)
    [made] = [
        one
        for one in (await closed.get("/admin/keys?limit=200", headers=closed.admin)).json["data"]
        if one["hint"][-4:] == key[-4:]
    ]
    changed = await closed.request("PUT", f"/admin/keys/{made['id']}/budget", headers=closed.admin, json={"day": 5})
    assert changed.status == 200
    assert (await visitor.look()).status == 200


async def test_signing_in_and_out_is_in_the_audit_log(closed, visitor):
    await visitor.sign_in()
    await visitor.send("/dashboard/sign-out")
    told = (await closed.get("/admin/audit?limit=5", headers=closed.admin)).json["data"]
    assert [(one["actor"], one["action"]) for one in told[:2]] == [
        ("admin-key", "dashboard.sign-out"),
        ("admin-key", "dashboard.sign-in"),
    ]


async def test_programs_come_in_by_a_header(closed):
    key = {"authorization": f"Bearer {await closed.key(scopes=['read'])}"}
    assert (await closed.get("/dashboard", headers=key)).status == 200
    assert (await closed.get("/dashboard/frame?page=overview", headers=key)).json["text"]["total"]
    answer = await closed.get("/dashboard")
    assert (answer.status, answer.headers["content-type"]) == (401, "application/problem+json")
    form = {"content-type": "application/x-www-form-urlencoded"}
    answer = await closed.request(
        "POST", "/dashboard/providers/reset", headers=closed.admin | form, data="", allow_redirects=False
    )
    assert answer.status == 303


@pytest.mark.parametrize("required", ["null", "false"])
async def test_the_admin_key_in_a_header_is_good_where_none_is_needed(chaos, tmp_path, required):
    config = f"{one_provider(chaos.base_url)}keys: {{required: {required}}}\n"
    async with running_gateway(tmp_path, config=config, alone=False) as gateway, visiting(gateway) as visitor:
        for headers, statuses in (
            ({}, [200, 403, 403]),
            ({"authorization": "Bearer any"}, [200, 403, 403]),
            (gateway.admin, [200, 200, 303]),
        ):
            seen = [await visitor.look(path, **headers) for path in ("/dashboard", "/dashboard/semantic")]
            seen.append(await visitor.send("/dashboard/providers/reset", headers=headers))
            assert [one.status for one in seen] == statuses


async def test_open_to_look_and_closed_to_change_where_no_key_was_made(chaos, tmp_path):
    async with (
        running_gateway(tmp_path, config=one_provider(chaos.base_url), alone=False) as open_gateway,
        visiting(open_gateway) as visitor,
    ):
        page = await visitor.look()
        assert page.status == 200
        assert "no key was made yet" in page.words
        for headers in ({}, {"sec-fetch-site": "cross-site"}):
            seen = await visitor.send("/dashboard/providers/reset", headers=headers, target="")
            assert seen.status == 403
        await visitor.sign_in()
        assert (await visitor.send("/dashboard/providers/reset")).status == 303
        assert "Nothing was open" in (await visitor.look("/dashboard/providers")).words
        assert "Nothing was open" not in (await visitor.look("/dashboard/providers")).words, "it is said once"


async def test_by_a_name_of_its_own_its_pages_may_send_forms(chaos, tmp_path):
    config = one_provider(chaos.base_url) + "server: {allowed_hosts: [gateway.example]}\n"
    async with running_gateway(tmp_path, config=config, alone=False) as named, visiting(named) as visitor:
        own = {"host": "gateway.example", "origin": "https://gateway.example"}
        await visitor.look("/dashboard/sign-in", **own)
        foreign = own | {"origin": "https://other.example"}
        assert (await visitor.send("/dashboard/sign-in", headers=foreign, key=ADMIN_KEY)).status == 403
        seen = await visitor.send("/dashboard/sign-in", headers=own, key=ADMIN_KEY)
        assert seen.status == 303
        assert any("secure" in line.lower() for line in seen.cookies if line.startswith("sentinel_session"))


async def test_files_are_kept_by_browsers_until_they_change(visitor):
    page = await visitor.look("/dashboard/sign-in")
    address = page.text.split('<link rel="stylesheet" href="')[1].split('"')[0]
    seen = await visitor.look(address, **{"accept-encoding": "identity"})
    assert (seen.status, seen.headers["cache-control"]) == (200, "public, max-age=31536000, immutable")
    again = await visitor.look(address, **{"if-none-match": seen.headers["etag"]})
    assert (again.status, again.text) == (304, "")
    assert (await visitor.look(address.partition("?")[0])).headers["cache-control"] == "no-cache"
    for name in ("..%2fframe.py", "VENDORED.md", "nothing.css"):
        assert (await visitor.look(f"/dashboard/static/{name}")).status in {401, 404}, name


# --- while the store of keys is away ---


async def test_a_store_that_is_away_for_long_signs_nobody_out():
    key, text = minted(1)
    keyed = Keyed(key)
    await keyed.ring.refresh()
    guard = Guard(keyed.authenticator, keyed.ring, Policy(required=True))
    sessions = Sessions()
    door = Door(guard, sessions, keyed.time)
    cookie = sessions.begin(keyed(f"Bearer {text}"), keyed.time.now)
    request = Request({"type": "http", "headers": [(b"cookie", f"{COOKIE}={cookie}".encode())], "client": ("192.0.2.1", 1)})
    visit = door.visit(request)

    async def nothing_new():
        raise AssertionError("nothing is shown to whom nobody can tell the key of")

    keyed.time.now += TRUSTED_SECONDS + 1
    with pytest.raises(KeysUnavailable):
        door.visit(request)
    streams = Streams(door, keyed.time, lambda: False)
    assert b"signed-out" not in b"".join([event async for event in streams.stream(visit, nothing_new)])

    await keyed.ring.refresh()
    assert door.visit(request).session is visit.session
    assert door.still(visit)
    keyed.keys.history.append(revoked(key))
    await keyed.ring.refresh()
    assert not door.still(visit)
    with pytest.raises(InvalidKey):
        door.visit(request)


# --- sessions by themselves ---


def test_sessions_end_when_idle_when_old_and_when_there_are_too_many():
    sessions = Sessions(most=30)
    root = operator("admin-key")
    cookie = sessions.begin(root, 0.0)
    for now in range(0, int(LONGEST), int(IDLE) - 1):
        assert sessions.find(cookie, now) is not None
    assert sessions.find(cookie, LONGEST) is None
    idle = sessions.begin(root, 0.0)
    assert sessions.find(idle, IDLE) is None
    assert len(sessions) == 0
    own = [sessions.begin(root, 1.0) for _ in range(MOST_OF_ONE + 5)]
    assert len(sessions) == MOST_OF_ONE
    assert [sessions.find(cookie, 1.0) is not None for cookie in own] == [False] * 5 + [True] * MOST_OF_ONE


def test_the_last_place_goes_to_who_comes_not_to_who_was_idle_longest():
    sessions = Sessions(most=2)
    callers = [operator(actor) for actor in ("admin-key", "cli", "start")]
    cookies = [sessions.begin(caller, float(number)) for number, caller in enumerate(callers)]
    assert [sessions.find(cookie, 5.0) is not None for cookie in cookies] == [False, True, True]


def test_a_cookie_is_kept_as_a_hash_alone():
    sessions = Sessions()
    cookie = sessions.begin(operator("admin-key"), 0.0)
    assert cookie not in repr(vars(sessions))
    assert len(cookie) == 43


async def test_a_key_may_end_when_no_calendar_reaches(closed):
    made = await closed.request("POST", "/admin/keys", headers=closed.admin, json={"name": "for ages", "expires": 1e300})
    assert made.status == 201
    page = await closed.get("/dashboard/keys?search=for+ages", headers=closed.admin)
    assert page.status == 200
    assert b"after 9999" in page.body
    await closed.request("POST", f"/admin/keys/{made.json['id']}/revoke", headers=closed.admin)
