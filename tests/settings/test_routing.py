"""What answers a query that names no model."""

import pytest

from sentinel_gateway.settings.routes import default_models, default_route

LOCAL = "{dialect: openai, base_url: 'http://127.0.0.1:9001/v1', models: [%s]}"
ONE, TWO = LOCAL % "qwen3", LOCAL % "qwen3, phi"
OPENAI, GROQ = {"OPENAI_API_KEY": "k-openai"}, {"GROQ_API_KEY": "k-groq"}


@pytest.mark.parametrize(
    ("yaml", "env", "route", "models"),
    [
        ("", {}, "demo", {"demo": "demo"}),
        ("", OPENAI, "openai/gpt-4", {"openai": "gpt-4", "demo": "demo"}),
        ("", GROQ, "groq/llama-3.3-70b-versatile", {"groq": "llama-3.3-70b-versatile", "demo": "demo"}),
        ("", GROQ | {"SENTINEL_ROUTING__DEFAULT": "groq/x/y"}, "groq/x/y", {"groq": "x/y", "demo": "demo"}),
        ("", GROQ | {"SENTINEL_ROUTING__DEFAULT": "demo"}, "demo", {"groq": "llama-3.3-70b-versatile", "demo": "demo"}),
        ("", {"MISTRAL_API_KEY": "k"}, None, {"demo": "demo"}),
        ("providers: {demo: {enabled: false}}", {}, None, {}),
        ("providers: {groq: {enabled: false}}", GROQ, "demo", {"demo": "demo"}),
        ("providers: {groq: {models: [a, b]}}", GROQ, None, {"demo": "demo"}),
        ("providers: {work: {preset: groq}}", GROQ, "work/llama-3.3-70b-versatile", None),
        (f"providers: {{local: {ONE}}}", {}, "local/qwen3", {"local": "qwen3", "demo": "demo"}),
        (f"providers: {{local: {TWO}}}", {}, None, {"demo": "demo"}),
        (f"providers: {{local: {TWO}}}\nrouting: {{default: local/phi}}", {}, "local/phi", {"local": "phi", "demo": "demo"}),
        (
            f"providers: {{local: {TWO}}}\nmodels: {{fast: [local/phi, demo/demo]}}\nrouting: {{default: fast}}",
            {},
            "fast",
            {"local": "phi", "demo": "demo"},
        ),
    ],
)
def test_the_default_route(configure, yaml, env, route, models):
    settings = configure(yaml, env=env).settings
    assert default_route(settings) == route
    assert models is None or default_models(settings) == models


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("gpt-4", "got 'gpt-4', but the default is provider/model, or a name under models (fast)"),
        ("/gpt-4", "got '/gpt-4', but the default is provider/model, or a name under models (fast)"),
        ("groq/", "got 'groq/', but the default is provider/model, or a name under models (fast)"),
        ("groq/llama", "got 'groq/llama', but provider 'groq' is off: set GROQ_API_KEY"),
        ("acme/llama", "got 'acme/llama', but there is no provider 'acme': those on are demo"),
    ],
)
def test_a_default_that_nobody_serves_is_a_fault(faults, name, said):
    (fault,) = faults(f"models: {{fast: [demo/demo]}}\nrouting:\n  default: {name}")
    assert fault == ("sentinel.yaml:3 routing.default", said)


def test_a_judge_that_nobody_serves_is_a_fault(faults):
    ((place, said),) = faults("cache: {semantic: {judge: acme/llama}}")
    assert place.endswith("cache.semantic.judge")
    assert said == "got 'acme/llama', but there is no provider 'acme': those on are demo"
    ((_, said),) = faults("cache: {semantic: {judge: gpt-4}}")
    assert said == "got 'gpt-4', but the judge is provider/model, or a name under models"


def test_the_demo_is_no_default_where_it_is_off(faults):
    ((place, _),) = faults("providers: {demo: {enabled: false}}\nrouting: {default: demo}")
    assert place.endswith("routing.default")
