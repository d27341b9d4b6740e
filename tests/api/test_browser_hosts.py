"""A name that an attacker makes lead to this machine (DNS rebinding) opens nothing; proxies on it are let in by a setting."""

import pytest

from sentinel_gateway.api.browsers import Browsers, Hosts
from sentinel_gateway.errors import HostRefused, PageRefused

OURS = ["localhost", "LocalHost:8080", "127.0.0.1", "127.0.0.1:8080", "127.255.3.4:1", "[::1]", "[::1]:8080"]
OTHERS = [
    "evil.example",
    "evil.example:8080",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "evil.example.localhost",
    "xlocalhost",
    "128.0.0.1",
    "127.0.0",
    "0.0.0.0",
    "[::2]",
    "::1",
    "localhost:",
    "",
    "\xff",
]


def admits(hosts: Hosts, name: str) -> bool:
    try:
        hosts.check({b"host": name.encode("latin-1")})
    except HostRefused as refused:
        assert "server.allowed_hosts" in refused.message
        return False
    return True


@pytest.mark.parametrize("name", OURS)
def test_the_names_of_this_machine(name):
    assert admits(Hosts(), name)
    assert admits(Hosts(("ai.example.com",)), name)


@pytest.mark.parametrize("name", OTHERS)
def test_all_others_are_refused_unless_all_are_allowed(name):
    assert not admits(Hosts(), name)
    assert admits(Hosts(("*",)), name)


@pytest.mark.parametrize(
    ("name", "admitted"),
    [
        ("ai.example.com", True),
        ("AI.Example.com:443", True),
        ("ai.example.com.", True),
        ("ai.example.com:x", False),
        ("example.com", False),
        ("x.ai.example.com", False),
        ("ai.example.com.evil.example", False),
    ],
)
def test_a_name_of_the_operators(name, admitted):
    assert admits(Hosts(("ai.example.com", "other")), name) is admitted


def test_who_sends_no_host_is_no_browser():
    Hosts().check({})


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["/health", "/metrics", "/livez", "/admin/stats", "/nowhere"])
async def test_a_rebound_name_reads_nothing(gateway, path):
    answer = await gateway.get(path, headers={"host": "evil.example", **gateway.admin})
    assert (answer.status, answer.json["code"]) == (421, "host_not_allowed")
    assert "server.allowed_hosts" in answer.json["detail"]
    assert (await gateway.get(path, headers={"host": "localhost:8080", **gateway.admin})).status in {200, 404}


@pytest.mark.parametrize(
    ("origin", "host", "names", "admitted"),
    [
        ("https://ai.example.com", "ai.example.com", ("ai.example.com",), True),
        ("https://AI.example.com:8443", "ai.example.com", ("ai.example.com",), True),
        ("https://other.example.com", "ai.example.com", ("ai.example.com", "other.example.com"), False),
        ("https://evil.example", "ai.example.com", ("ai.example.com",), False),
        ("https://evil.example", "evil.example", ("*",), False),
        ("null", "ai.example.com", ("ai.example.com",), False),
        ("https://ai.example.com.evil.example", "ai.example.com", ("ai.example.com",), False),
    ],
)
def test_a_page_of_its_own_may_call_by_the_names_that_it_is_told(origin, host, names, admitted):
    headers = {b"origin": origin.encode(), b"host": host.encode()}
    try:
        Browsers(hosts=Hosts(names)).check(headers)
    except PageRefused:
        assert not admitted
    else:
        assert admitted
