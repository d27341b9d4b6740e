"""Limits and tenants: what may be written, and what is wrong."""

import pytest

from sentinel_gateway.rules import limit_rules
from sentinel_gateway.settings.model import Limits, Tokens


def test_limits_of_keys_tenants_and_models(configure):
    settings = configure("""
        limits: {requests_per_minute: 600, tokens_per_minute: 100000, concurrency: 20}
        tenants:
          acme: {limits: {requests_per_minute: 3000}, cache_group: everyone}
          Zwölf & Söhne: {cache_group: everyone}
        models:
          fast: {targets: demo/demo, limits: {concurrency: 2}}
        """).settings
    assert settings.limits == Limits(requests_per_minute=600, tokens_per_minute=100_000, concurrency=20)
    assert settings.tenants["acme"].limits == Limits(requests_per_minute=3000)
    assert settings.tenants["Zwölf & Söhne"].limits == Limits()
    assert settings.models["fast"].limits == Limits(concurrency=2)


def test_a_model_without_limits_limits_nobody(configure):
    settings = configure("""
        models:
          fast: {targets: demo/demo, limits: {concurrency: 2}}
          plain: {targets: demo/demo}
        """).settings
    assert list(limit_rules(settings).models) == ["fast"]


def test_by_variables(configure):
    env = {
        "SENTINEL_LIMITS__REQUESTS_PER_MINUTE": "60",
        "SENTINEL_TENANTS__ACME__LIMITS__CONCURRENCY": "5",
        "SENTINEL_TENANTS__ACME__CACHE_GROUP": "shared",
    }
    loaded = configure(env=env)
    assert loaded.settings.limits == Limits(requests_per_minute=60)
    assert loaded.settings.tenants["acme"].limits == Limits(concurrency=5)
    assert loaded.notes == ("'acme' is the only tenant of the cache group 'shared': it shares with nobody",)


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "1000000001", "many", "true"])
@pytest.mark.parametrize("room", ["limits", "tenants.acme.limits", "models.fast.limits"])
def test_a_limit_is_a_whole_number_from_one_to_a_thousand_million(faults, room, value):
    *around, _ = room.split(".")
    yaml = "".join(f"{'  ' * depth}{name}:\n" for depth, name in enumerate(around))
    indent = "  " * len(around)
    targets = f"{indent}targets: demo/demo\n" if around[:1] == ["models"] else ""
    [(place, _)] = faults(f"{yaml}{targets}{indent}limits: {{requests_per_minute: {value}}}")
    assert place.endswith(f" {room}.requests_per_minute")


def test_what_media_count_is_a_whole_number_from_one(configure, faults):
    assert configure().settings.tokens == Tokens(media=1445)
    assert configure("tokens: {media: 85}").settings.tokens == configure(env={"SENTINEL_TOKENS__MEDIA": "85"}).settings.tokens
    for value in ("0", "-1", "1.5", "many"):
        [(place, _)] = faults(f"tokens: {{media: {value}}}")
        assert place == "sentinel.yaml:1 tokens.media"


def test_an_unknown_limit_is_named(faults):
    [(place, sentence)] = faults("limits: {request_per_minute: 1}")
    assert place == "sentinel.yaml:1 limits.request_per_minute"
    assert "did you mean 'requests_per_minute'?" in sentence


@pytest.mark.parametrize("name", ['""', '" a"', '"a\\tb"', "a" * 1025])
def test_names_of_tenants_are_plain(faults, name):
    [(_, sentence)] = faults(f"tenants: {{? {name} : {{}}}}")
    assert "the name of a tenant has 1 to 1024 printable characters" in sentence


def test_a_cache_group_is_no_other_tenant(faults, configure):
    [(place, sentence)] = faults("tenants: {a: {cache_group: b}, b: {}}")
    assert place == "sentinel.yaml:1 tenants.a.cache_group"
    assert sentence == "'b' is a tenant that shares with nobody: choose another name for the group"
    assert configure("tenants: {a: {cache_group: b}, b: {cache_group: b}}").notes == ()
