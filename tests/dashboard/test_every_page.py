"""What holds for every page and every form of the dashboard, by the routes that there are: a new one is looked at by itself."""

import pytest

from bench.dashboard import PAGES
from tests.dashboard.test_door import POLICY

pytestmark = pytest.mark.anyio

OPEN = {"/dashboard/sign-in"}
"""What anybody is shown."""
JSON = {"/dashboard/playground/ask"}
"""What a page's script asks, in place of a form: with the token as a header."""
NOT_ENDING = "/dashboard/events"
FRAME = "/dashboard/frame"
"""Made once for all who look: what it costs is measured with those."""


def routes(gateway, method):
    found = {path for of, path in gateway.managed() if of == method and path.startswith("/dashboard") and "{" not in path}
    assert len(found) > 10
    return sorted(found)


def check_headers(seen, path):
    assert set(seen.headers["content-security-policy"].split("; ")) == POLICY, path
    assert seen.headers["x-frame-options"] == "DENY", path
    assert seen.headers["x-content-type-options"] == "nosniff", path
    assert seen.headers["cross-origin-opener-policy"] == "same-origin", path
    assert "no-store" in seen.headers["cache-control"], path


async def test_no_page_is_shown_to_strangers_nor_within_another_site(closed, visitor):
    pages = [path.replace("/frame", "/frame?page=overview") for path in routes(closed, "GET") if path != NOT_ENDING]
    for path in pages:
        seen = await visitor.look(path)
        assert seen.status == (200 if path in OPEN else 401), path
        check_headers(seen, path)
    assert (await visitor.look(NOT_ENDING)).status == 401
    await visitor.sign_in()
    for path in pages:
        seen = await visitor.look(path)
        assert seen.status == 200, path
        check_headers(seen, path)


async def test_what_every_page_takes_is_measured(closed):
    measured = {path.partition("?")[0] for path in PAGES}
    assert measured == set(routes(closed, "GET")) - OPEN - {NOT_ENDING, FRAME}


async def test_every_form_needs_the_token_of_its_session(closed, visitor):
    await visitor.sign_in()
    await visitor.look()
    good, cookies = visitor.token, dict(visitor.cookies)
    before = (await closed.get("/admin/audit", headers=closed.admin)).json["data"]
    for path in routes(closed, "POST"):
        for token, headers in (
            ("", {}),
            ("x" * 43, {}),
            (good, {"sec-fetch-site": "cross-site"}),
            (good, {"sec-fetch-site": "same-site"}),
            (good, {"origin": "https://evil.example"}),
            (good, {"origin": "null"}),
        ):
            seen = await send(visitor, path, token, headers)
            assert seen.status == 403, (path, token, headers, seen.status)
        visitor.cookies.clear()
        assert (await send(visitor, path, good, {})).status in {401, 403}, f"{path}: a token without its session"
        visitor.cookies = dict(cookies)
    assert (await closed.get("/admin/audit", headers=closed.admin)).json["data"] == before, "nothing was done"
    assert (await visitor.look()).status == 200, "still signed in"


async def test_signing_out_ends_every_page_and_form(closed, visitor):
    await visitor.sign_in()
    await visitor.look()
    token, cookies = visitor.token, dict(visitor.cookies)
    assert (await visitor.send("/dashboard/sign-out")).status == 303
    for path in (*routes(closed, "GET"), *routes(closed, "POST")):
        visitor.cookies = dict(cookies)  # somebody kept them
        seen = await (send(visitor, path, token, {}) if path in routes(closed, "POST") else visitor.look(path))
        assert seen.status in ({200, 403} if path in OPEN else {401, 403}), path


async def send(visitor, path, token, headers):
    if path in JSON:
        return await visitor.ask("POST", path, json={}, headers={"x-sentinel-token": token} | headers)
    return await visitor.send(path, headers=headers, token=token, key="sk-sn-none")
