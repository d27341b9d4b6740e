"""Precedence holds for any mixture of sources; no input ends in anything but settings or faults; no secret is ever shown."""

import tempfile
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sentinel_gateway.errors import ConfigurationError
from sentinel_gateway.settings.load import load
from sentinel_gateway.settings.model import Settings

PLACES = {
    # setting: (variable, flag, value that is written -> value that is read)
    ("server", "port"): ("PORT", "port"),
    ("server", "queue"): ("SENTINEL_SERVER__QUEUE", None),
    ("cache", "memory", "entries"): ("MEMORY_CACHE_SIZE", None),
    ("cache", "memory", "ttl"): ("MEMORY_CACHE_TTL_SECS", None),
    ("service", "name"): ("SERVICE_NAME", None),
}
SOURCES = ("yaml", "dotenv", "env", "flag")
"""From the weakest to the strongest."""

CANARY = "sk-canary-0123456789abcdef"

choices = st.fixed_dictionaries({place: st.dictionaries(st.sampled_from(SOURCES), st.integers(1, 60_000)) for place in PLACES})


@pytest.fixture(scope="module")
def folder():
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def write(folder, *, text="", dotenv=""):
    for name, content in (("sentinel.yaml", text), (".env", dotenv)):
        (folder / name).write_text(content)
        (folder / name).chmod(0o600)


def nested(values):
    tree = {}
    for place, value in values.items():
        node = tree
        for key in place[:-1]:
            node = node.setdefault(key, {})
        node[place[-1]] = value
    return tree


def read(settings, place):
    for name in place:
        settings = getattr(settings, name)
    return settings


@given(choices)
def test_flags_beat_environment_beats_dotenv_beats_yaml_beats_defaults(folder, chosen):
    given_to = {source: {p: c[source] for p, c in chosen.items() if source in c} for source in SOURCES}
    write(
        folder,
        text=yaml.safe_dump(nested(given_to["yaml"])),
        dotenv="".join(f"{PLACES[place][0]}={value}\n" for place, value in given_to["dotenv"].items()),
    )
    env = {PLACES[place][0]: str(value) for place, value in given_to["env"].items()}
    flags = {PLACES[place][1]: value for place, value in given_to["flag"].items() if PLACES[place][1]}
    settings = load({"HOME": "/h"} | env, cwd=folder, flags=flags).settings
    defaults = load({"HOME": "/h"}, cwd=folder.parent / "nowhere").settings
    for place, by_source in chosen.items():
        won = [by_source[s] for s in SOURCES if s in by_source and (s != "flag" or PLACES[place][1])]
        expected = won[-1] if won else read(defaults, place)
        assert str(read(settings, place)).removesuffix(".0") == str(expected).removesuffix(".0")


def settings_or_faults(folder, env):
    try:
        return load({"HOME": "/h"} | env, cwd=folder).settings
    except ConfigurationError as error:
        return error.faults


KEYS = (
    "server port host cors origins providers groq local demo base_url api_key headers preset timeouts enabled "
    "models targets cache memory ttl data_dir admin_key 0 << Bad"
)
keys = st.sampled_from(KEYS.split()) | st.just("") | st.just("a b")
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["groq/a", "http://a/v1", "${A}", "$", "demo/demo"]),
)
trees = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4), max_leaves=12)
variables = st.dictionaries(
    st.sampled_from(["PORT", "HOST", "DEBUG", "GROQ_API_KEY", "GROQ_BASE_URL", "OLLAMA_HOST", "AZURE_OPENAI_ENDPOINT"])
    | st.lists(keys.map(str.upper), max_size=4).map(lambda parts: "SENTINEL_" + "__".join(parts)),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12),
    max_size=5,
)  # fmt: skip


@given(trees, variables, st.text(max_size=40))
def test_nothing_but_settings_or_faults_comes_of_it(folder, tree, env, dotenv):
    write(folder, text=yaml.safe_dump(tree, allow_unicode=True), dotenv=dotenv.encode("utf-8", "ignore").decode())
    settings = settings_or_faults(folder, env)
    if isinstance(settings, Settings):
        assert all(provider.base_url for name, provider in settings.providers.items() if provider.enabled and name != "demo")
    else:
        assert settings
        assert all(place and sentence for place, sentence in settings)


@given(st.text(max_size=200))
def test_any_text_as_the_file(folder, text):
    write(folder, text=text.encode("utf-8", "ignore").decode())
    assert settings_or_faults(folder, {})


AWS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
SECRET_PLACES = [
    "admin_key: {k} {k}",
    "admin_key: [{k}]",
    "admin_key: 'x {k}'",
    "providers: {k}",
    "providers: {{groq: {k}}}",
    "providers: {{groq: {{api_key: {k}, port: 1}}}}",
    "providers: {{groq: {{api_key: '{k} '}}}}",
    "providers: {{groq: {{api_key: {{a: {k}}}}}}}",
    "providers: {{groq: {{headers: {k}}}}}",
    "providers: {{groq: {{headers: {{x-token: {k}, y: [{k}]}}}}}}",
    "providers: {{groq: {{headers: {{x-token: '{k}\u2028'}}}}}}",
    "providers: {{bedrock: {{secret_access_key: {k}, session_token: '{k} ', access_key_id: [{k}]}}}}",
    "providers: {{a: {{dialect: openai, base_url: 'https://u:{k}@h/v1'}}}}",
    "providers: {{a: {{dialect: openai, base_url: 'https://h/v1?key={k}'}}}}",
    "server: {{port: '${{KEY}}', host: '${{KEY}}', hots: '${{KEY}}'}}",
    "logging: {{level: '${{KEY}}'}}",
    "models: {{fast: '${{KEY}}/a'}}",
    "models: {{fast: {{targets: ['${{KEY}}']}}}}",
    "server: {{cors: {{origins: ['${{KEY}}']}}}}",
    "providers: {{a: {{preset: '${{KEY}}'}}}}",
]


@pytest.mark.parametrize("yaml_text", SECRET_PLACES)
def test_no_fault_shows_a_secret(faults, yaml_text):
    found = faults(yaml_text.format(k=CANARY) + "\nzzz: 1", env={"KEY": CANARY})
    assert len(found) >= 2
    assert CANARY not in repr(found)
    assert "canary" not in repr(found).lower()


@pytest.mark.parametrize(
    "name", ["SENTINEL_ADMIN_KEY", "GROQ_API_KEY", "SENTINEL_PROVIDERS__X__API_KEY", "SENTINEL_PROVIDERS__GROQ", *AWS]
)
def test_no_fault_shows_a_secret_variable(faults, name):
    assert "canary" not in repr(faults(env={name: "canary \x01"}))


def test_config_has_no_secret(configure):
    loaded = configure(
        f"admin_key: {CANARY}\nproviders: {{bedrock: , vllm: {{api_key: {CANARY}, headers: {{x-token: {CANARY}}}}}}}",
        env=dict.fromkeys(("GROQ_API_KEY", "OPENAI_API_KEY", *AWS), CANARY) | {"AWS_REGION": "x-1"},
    )
    assert "canary" not in repr(loaded)
    assert "canary" not in str(loaded.settings.model_dump(mode="json"))
