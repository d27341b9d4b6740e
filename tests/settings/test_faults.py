"""Every fault names its place and what would be right, and all of them come at once."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel_gateway.errors import ConfigurationError
from sentinel_gateway.settings.checks import Report, complete
from sentinel_gateway.settings.faults import MOST_FAULTS
from sentinel_gateway.settings.layers import Fault, Layer, Places
from sentinel_gateway.settings.load import load
from sentinel_gateway.settings.model import Settings

FREE = "providers: {local: {dialect: openai, base_url: 'http://127.0.0.1:9001/v1'}}\n"
"""A provider to point at."""

ONE_BY_ONE = [
    # what is wrong, where, and a part of the sentence that says what would be right
    ("server: {prot: 1}", "sentinel.yaml:1 server.prot", "unknown setting 'prot'; did you mean 'port'?"),
    ("servr: {}", "sentinel.yaml:1 servr", "did you mean 'server'?"),
    ("logging: {zzz: 1}", "sentinel.yaml:1 logging.zzz", "known here are level, format"),
    ("server: {prot: }", "sentinel.yaml:1 server.prot", "did you mean 'port'?"),
    ("metrics: {percentiles: [100]}", "sentinel.yaml:1 metrics.percentiles.0", "got '100', but it must be less than 100"),
    (
        "metrics: {percentiles: '1,2,3,4,5,6,7,8,9,10,11'}",
        "sentinel.yaml:1 metrics.percentiles",
        "it must be at most 10 values long",
    ),
    ("server: {region_header: a b}", "sentinel.yaml:1 server.region_header", "got 'a b', but it must be text of the form ^[a-z]"),
    ("server:\n  port: lots", "sentinel.yaml:2 server.port", "got 'lots', but it must be a whole number"),
    ("server: {port: 65536}", "sentinel.yaml:1 server.port", "got '65536', but it must be at most 65535"),
    ("server: {port: -1}", "sentinel.yaml:1 server.port", "at least 0"),
    ("server: {port: 80.5}", "sentinel.yaml:1 server.port", "a whole number"),
    ("server: {port: 0x50}", "sentinel.yaml:1 server.port", "got '0x50', but it must be a whole number"),
    ("server: {port: 0o17}", "sentinel.yaml:1 server.port", "a whole number"),
    ("server: {port: [80]}", "sentinel.yaml:1 server.port", "got a list, but it must be a whole number"),
    (
        f"server: {{port: {'9' * 4000}}}",
        "sentinel.yaml:1 server.port",
        f"got '{'9' * 60}...', but it must be at most 65535",
    ),
    ("server: {keep_alive: 1:30}", "sentinel.yaml:1 server.keep_alive", "got '1:30', but it must be a number"),
    ("server: {keep_alive: 0}", "sentinel.yaml:1 server.keep_alive", "more than 0"),
    ("server: {keep_alive: .inf}", "sentinel.yaml:1 server.keep_alive", "a number"),
    ("server: {keep_alive: inf}", "sentinel.yaml:1 server.keep_alive", "a finite number"),
    ("server: {max_body_bytes: 4 Mega}", "sentinel.yaml:1 server.max_body_bytes", "a size such as 268435456 or 256MiB"),
    ("server: {max_body_bytes: 0}", "sentinel.yaml:1 server.max_body_bytes", "at least 1"),
    ("server: 8080", "sentinel.yaml:1 server", "it must be a mapping of settings"),
    (
        "server: {cors: {credentials: perhaps}}",
        "sentinel.yaml:1 server.cors.credentials",
        "got 'perhaps', but it must be true or false",
    ),
    ("server: {cors: {origins: [app.example.com]}}", "sentinel.yaml:1 server.cors.origins.0", "such as https://app.example.com"),
    ("server: {cors: {origins: ['https://a/b']}}", "sentinel.yaml:1 server.cors.origins.0", "scheme, host and port"),
    ("server: {allowed_hosts: ['https://a']}", "sentinel.yaml:1 server.allowed_hosts.0", "without scheme and port"),
    ("server: {allowed_hosts: 'a.example,b:80'}", "sentinel.yaml:1 server.allowed_hosts.1", "got 'b:80'"),
    ("server: {cors: {origins: [null]}}", "sentinel.yaml:1 server.cors.origins.0", "got nothing, but it must be text"),
    ("server: {cors: {origins: '[a'}}", "sentinel.yaml:1 server.cors.origins", "a JSON list"),
    (
        "server: {cors: {origins: ['*'], credentials: true}}",
        "sentinel.yaml:1 server.cors",
        "name the origins, or drop credentials",
    ),
    ("logging: {level: loud}", "sentinel.yaml:1 logging.level", "'trace', 'debug', 'info', 'warn' or 'error'"),
    ("logging: {format: xml}", "sentinel.yaml:1 logging.format", "got 'xml', but it must be 'json' or 'text'"),
    ("service: {name: ''}", "sentinel.yaml:1 service.name", "at least 1 character long"),
    ("data_dir: [a]", "sentinel.yaml:1 data_dir", "got a list, but it must be a path"),
    ("admin_key: ''", "sentinel.yaml:1 admin_key", "needs at least 16 characters; leave it out and one is made"),
    ("admin_key: fifteen-letters", "sentinel.yaml:1 admin_key", "needs at least 16 characters"),
    ("admin_key: sixteen letters here", "sentinel.yaml:1 admin_key", "holds white space"),
    ("cache: {memory: {entries: 0}}", "sentinel.yaml:1 cache.memory.entries", "at least 1"),
    ("cache: {ttl: -1}", "sentinel.yaml:1 cache.ttl", "at least 0"),
    ("cache: {ttl: 31536001}", "sentinel.yaml:1 cache.ttl", "at most 31536000"),
    ("cache: {semantic: {threshold: 1.1}}", "sentinel.yaml:1 cache.semantic.threshold", "at most 1"),
    ("cache: {semantic: {threshold: 0.6}}", "sentinel.yaml:1 cache.semantic", "threshold is below min_threshold"),
    ("cache: {semantic: {entries: 0}}", "sentinel.yaml:1 cache.semantic.entries", "at least 1"),
    ("cache: {max_wrong_hit_rate: 1.5}", "sentinel.yaml:1 cache.max_wrong_hit_rate", "at most 1"),
    ("models: {m: {targets: demo/demo, max_wrong_hit_rate: -1}}", "sentinel.yaml:1 models.m.max_wrong_hit_rate", "at least 0"),
    ("cache: {namespaces: {n: {max_wrong_hit_rate: 2}}}", "sentinel.yaml:1 cache.namespaces.n.max_wrong_hit_rate", "at most 1"),
    ("cache: {namespaces: {a b: {}}}", "sentinel.yaml:1 cache.namespaces.a b", "letters, digits or any of _ . : / -"),
    ("cache: {semantic: {exploration: -0.1}}", "sentinel.yaml:1 cache.semantic.exploration", "at least 0"),
    ("keys: {required: perhaps}", "sentinel.yaml:1 keys.required", "true or false"),
    # providers
    ("providers: [groq]", "sentinel.yaml:1 providers", "got a list, but it must be a mapping"),
    ("providers: {Groq: {}}", "sentinel.yaml:1 providers.Groq", "lower-case letters"),
    ("providers: {groq: {}}", "sentinel.yaml:1 providers.groq.api_key", "groq needs a key: set GROQ_API_KEY, or api_key"),
    ("providers: {grok: {}}", "sentinel.yaml:1 providers.grok.base_url", "is no preset, so it needs a base_url"),
    ("providers: {groqq: {}}", "sentinel.yaml:1 providers.groqq.base_url", "did you mean 'groq'?"),
    ("providers: {a: {preset: opena}}", "sentinel.yaml:1 providers.a.preset", "did you mean 'openai'?"),
    ("providers: {a: {preset: azure, api_key: k}}", "sentinel.yaml:1 providers.a.base_url", "set AZURE_BASE_URL, or base_url"),
    ("providers: {a: {base_url: 'http://b/v1'}}", "sentinel.yaml:1 providers.a.dialect", "dialect: openai"),
    ("providers: {a: {dialect: smtp, base_url: 'http://b/v1'}}", "sentinel.yaml:1 providers.a.dialect", "it must be 'openai'"),
    ("providers: {demo: {api_key: k}}", "sentinel.yaml:1 providers.demo", "can only be switched off, by 'enabled: false'"),
    ("providers: {vllm: {api_key: 'a b'}}", "sentinel.yaml:1 providers.vllm.api_key", "was it copied whole?"),
    ("providers: {vllm: {headers: {Host: a}}}", "sentinel.yaml:1 providers.vllm.headers", "'host' can't be set"),
    ("providers: {vllm: {headers: {'a b': a}}}", "sentinel.yaml:1 providers.vllm.headers", "'a b' can't be set"),
    ('providers: {vllm: {headers: {a: "x\\ny"}}}', "sentinel.yaml:1 providers.vllm.headers", "control character"),
    ("providers: {vllm: {headers: {a: [1]}}}", "sentinel.yaml:1 providers.vllm.headers.a", "it must be text"),
    ("providers: {vllm: {timeouts: {conect: 1}}}", "sentinel.yaml:1 providers.vllm.timeouts.conect", "did you mean 'connect'?"),
    ("providers: {vllm: {timeouts: 5}}", "sentinel.yaml:1 providers.vllm.timeouts", "it must be a mapping of settings"),
    # models
    ("models: {fast: }", "sentinel.yaml:1 models.fast", "lacks 'targets'"),
    ("models: {fast: []}", "sentinel.yaml:1 models.fast", "needs at least one target"),
    ("models: {fast: gpt}", "sentinel.yaml:1 models.fast.0", "a target is provider/model"),
    (FREE + "models: {fast: [local/a, local/]}", "sentinel.yaml:2 models.fast.1", "a target is provider/model"),
    (
        FREE + "models: {fast: [local/a, {target: zzz/b, weight: 2}]}",
        "sentinel.yaml:2 models.fast.1",
        "there is no provider 'zzz'",
    ),
    (FREE + "models: {fast: [local/a, {weight: 2}]}", "sentinel.yaml:2 models.fast.1.target", "lacks 'target'"),
    (FREE + "models: {fast: [{target: local/a, weight: 0}]}", "sentinel.yaml:2 models.fast.0.weight", "it must be more than 0"),
    (FREE + "models: {fast: [{target: local/a, wieght: 1}]}", "sentinel.yaml:2 models.fast.0.wieght", "did you mean 'weight'?"),
    (FREE + "models: {fast: [[local/a]]}", "sentinel.yaml:2 models.fast.0", "it must be a mapping of settings"),
    (
        FREE + "models: {fast: {targets: [local/a, {target: local/b, weight: 2}], strategy: cheapest}}",
        "sentinel.yaml:2 models.fast",
        "sets weights, which strategy cheapest does not go by",
    ),
    (FREE + "models: {fast: {targets: local/a, sticky: yes}}", "sentinel.yaml:2 models.fast", "only strategy weighted can be"),
    (FREE + "models: {fast: {targets: local/a, strategy: best}}", "sentinel.yaml:2 models.fast.strategy", "'least_busy'"),
    ("routing: {max_attempts: 0}", "sentinel.yaml:1 routing.max_attempts", "at least 1"),
    ("routing: {breaker: {pause: 0}}", "sentinel.yaml:1 routing.breaker.pause", "more than 0"),
    (FREE + "models: {fast: [local/a, local/a]}", "sentinel.yaml:2 models.fast", "names the same target twice"),
    (FREE + "models: {fast: loca/a}", "sentinel.yaml:2 models.fast.0", "there is no provider 'loca'; did you mean 'local'?"),
    (FREE + "models: {fast: zzz/a}", "sentinel.yaml:2 models.fast.0", "those on are demo, local"),
    ("models: {fast: groq/a}", "sentinel.yaml:1 models.fast.0", "provider 'groq' is off: set GROQ_API_KEY"),
    ("models: {fast: azure/a}", "sentinel.yaml:1 models.fast.0", "set AZURE_API_KEY and AZURE_BASE_URL"),
    ("models: {fast: vllm/a}", "sentinel.yaml:1 models.fast.0", "set VLLM_BASE_URL"),
    ("providers: {demo: {enabled: no}}\nmodels: {fast: demo/demo}", "sentinel.yaml:2 models.fast.0", "'demo' is switched off"),
    (FREE + "models: {demo: local/a}", "sentinel.yaml:2 models.demo", "choose another name"),
    (FREE + "models: {local/b: local/a}", "sentinel.yaml:2 models.local/b", "would hide what provider 'local' itself calls so"),
    (FREE + "models: {'a b': local/a}", "sentinel.yaml:2 models.a b", "a model's name has up to 128"),
    (FREE + f"models: {{{'a' * 129}: local/a}}", f"sentinel.yaml:2 models.{'a' * 129}", "a model's name has up to 128"),
    (FREE + "models: {fast: {targets: local/a, tll: 5}}", "sentinel.yaml:2 models.fast.tll", "did you mean 'ttl'?"),
    (FREE + "models: {fast: {targets: [local/a, zzz/b]}}", "sentinel.yaml:2 models.fast.targets.1", "there is no provider 'zzz'"),
]


@pytest.mark.parametrize(
    ("yaml", "place", "remedy"), ONE_BY_ONE, ids=[place.split()[-1] + "-" + remedy[:20] for _, place, remedy in ONE_BY_ONE]
)
def test_one_fault(faults, yaml, place, remedy):
    [(found, sentence)] = faults(yaml)
    assert found == place
    assert remedy in sentence


WIDER = ["0.0.0.0", "::", "192.168.1.7", "gateway.example.com", "10.0.0.1", "::ffff:10.0.0.1"]


@pytest.mark.parametrize("host", WIDER)
def test_a_wider_bind_always_asks_for_keys(faults, configure, host):
    [(place, sentence)] = faults(f"server: {{host: '{host}'}}\nkeys: {{required: false}}")
    assert place == "sentinel.yaml:2 keys.required"
    assert f"others can reach {host}: leave it out, or bind 127.0.0.1" in sentence
    assert configure(f"server: {{host: '{host}'}}").settings.server.host == host


@pytest.mark.parametrize("host", WIDER)
def test_the_demo_answers_this_machine_only_unless_asked(configure, host):
    assert not configure(f"server: {{host: '{host}'}}").settings.demo
    assert configure(f"server: {{host: '{host}'}}\nproviders: {{demo: {{enabled: true}}}}").settings.demo


@pytest.mark.parametrize("host", ["", "*"])
def test_an_address_is_needed(faults, host):
    [(place, sentence)] = faults(f"server: {{host: '{host}'}}")
    assert place == "sentinel.yaml:1 server.host"
    assert "0.0.0.0 for all that this machine has" in sentence


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "localhost", "LOCALHOST", "::1", "[::1]"])
def test_loopback_is_fine(configure, host):
    assert configure(env={"HOST": host}).settings.server.host == host.strip("[]")


@pytest.mark.parametrize(
    ("url", "remedy"),
    [
        ("api.example.com/v1", "must be an http or https URL with a host"),
        ("ftp://api.example.com", "must be an http or https URL with a host"),
        ("http:///v1", "must be an http or https URL with a host"),
        ("unix:///run/x.sock", "must be an http or https URL with a host"),
        ("http://a b/v1", "must be an http or https URL with a host"),
        ("http://a:0/v1", "must be an http or https URL with a host"),
        ("http://a:99999/v1", "is not a URL"),
        ("http://[::1/v1", "is not a URL"),
        ("https://user:sk-canary@a/v1", "must not hold credentials: put the key into api_key"),
        ("https://a/v1?key=sk-canary", "put what follows '?' into query"),
        ("https://a/v1#x", "drop what follows '#'"),
        ("https://a/v1/chat/completions/", "leave out /chat/completions"),
    ],
)
def test_base_urls(faults, url, remedy):
    [(place, sentence)] = faults(f"providers: {{a: {{dialect: openai, base_url: '{url}'}}}}")
    assert place == "sentinel.yaml:1 providers.a.base_url"
    assert remedy in sentence
    assert "canary" not in sentence


@pytest.mark.parametrize("setting", ["endpoint", "traces_endpoint", "metrics_endpoint"])
@pytest.mark.parametrize(
    ("url", "remedy"),
    [
        ("http://user:sk-canary@tempo:4318", "put credentials into OTEL_EXPORTER_OTLP_HEADERS"),
        ("http://tempo:4318/v1?key=sk-canary", "put credentials into OTEL_EXPORTER_OTLP_HEADERS"),
        ("http://tempo:4318#sk-canary", "put credentials into OTEL_EXPORTER_OTLP_HEADERS"),
        ("ftp://user:sk-canary@tempo", "put credentials into OTEL_EXPORTER_OTLP_HEADERS"),
        ("tempo:4318", "must be an http or https URL with a host"),
        ("http://tempo 4318", "must be an http or https URL with a host"),
    ],
)
def test_otlp_addresses(faults, configure, setting, url, remedy):
    [(place, sentence)] = faults(f"tracing: {{{setting}: '{url}'}}")
    assert place == f"sentinel.yaml:1 tracing.{setting}"
    assert remedy in sentence
    assert "canary" not in sentence
    fine = "https://tempo.example:4318/otlp/v1/traces/"
    assert getattr(configure(f"tracing: {{{setting}: '{fine}'}}").settings.tracing, setting) == fine


@pytest.mark.parametrize(
    ("server", "url"),
    [
        ("{}", "http://127.0.0.1:8080/v1"),
        ("{}", "http://localhost:8080"),
        ("{}", "http://0.0.0.0:8080/v1"),
        ("{}", "http://[::1]:8080/v1"),
        ("{port: 80}", "http://127.9.9.9/v1"),
        ("{port: 443}", "https://localhost/v1"),
        ("{host: localhost}", "http://LOCALHOST:8080/v1"),
    ],
)
def test_our_own_address_as_a_provider(faults, server, url):
    [(place, sentence)] = faults(f"server: {server}\nproviders: {{vllm: {{base_url: '{url}'}}}}")
    assert place == "sentinel.yaml:2 providers.vllm.base_url"
    assert "Sentinel's own address" in sentence


def test_another_port_or_machine_is_not_our_own_address(configure):
    for url in ("http://127.0.0.1:8081/v1", "http://10.0.0.1:8080/v1", "https://localhost/v1"):
        assert configure("", env={"VLLM_BASE_URL": url}).settings.providers["vllm"].base_url == url
    assert configure("", env={"VLLM_BASE_URL": "http://127.0.0.1:0/v1", "PORT": "0"} | {"VLLM_BASE_URL": "http://127.0.0.1:1/v1"})


def test_all_faults_come_at_once_in_the_order_of_the_file(faults):
    found = faults(
        """\
        models:
          fast: [groq/a, nope/b]
        server:
          port: lots
          hots: localhost
        providers:
          mine: {base_url: 'http://x/v1?a=b', dialect: openai}
          vllm: {base_url: 'http://localhost:8080/v1'}
        cache: {memory: {ttl: x}}
        """,
        env={"LOG_FORMAT": "xml", "SENTINEL_SERVR__PORT": "1"},
        flags={"log-level": "loud"},
    )
    assert [place for place, _ in found] == [
        "env LOG_FORMAT",
        "env SENTINEL_SERVR__PORT",
        "flag --log-level",
        "sentinel.yaml:2 models.fast.0",
        "sentinel.yaml:2 models.fast.1",
        "sentinel.yaml:4 server.port",
        "sentinel.yaml:5 server.hots",
        "sentinel.yaml:7 providers.mine.base_url",
        "sentinel.yaml:8 providers.vllm.base_url",
        "sentinel.yaml:9 cache.memory.ttl",
    ]


def test_what_depends_on_a_broken_value_is_not_blamed_as_well(faults):
    [(place, _)] = faults("providers: {mine: {dialect: openai, base_url: nonsense}}\nmodels: {fast: mine/a}")
    assert place == "sentinel.yaml:1 providers.mine.base_url"


def test_the_place_is_that_of_the_source_that_won(faults):
    yaml, dotenv = "server: {port: 1}", "\nPORT=x\n"
    assert faults(yaml, dotenv=dotenv) == [(".env:2 PORT", "got 'x', but it must be a whole number")]
    assert faults(yaml, dotenv=dotenv, env={"PORT": "y"}) == [("env PORT", "got 'y', but it must be a whole number")]
    assert faults(yaml, dotenv=dotenv, flags={"port": "z"}) == [("flag --port", "got 'z', but it must be a whole number")]


def test_the_place_of_a_list_that_was_replaced(faults):
    yaml = FREE + "models: {fast: [local/a, local/b]}"
    [(place, _)] = faults(yaml, env={"SENTINEL_MODELS__FAST": "zzz/a"})
    assert place == "env SENTINEL_MODELS__FAST"


def test_a_room_is_judged_as_a_whole_although_a_part_of_it_is_wrong(faults):
    found = faults("server: {cors: {origins: ['*'], credentials: true, orgins: []}}\nmodels: {fast: {targets: [{}], ttl: 1}}")
    assert [place for place, _ in found] == [
        "sentinel.yaml:1 server.cors.orgins",
        "sentinel.yaml:1 server.cors",
        "sentinel.yaml:2 models.fast.targets.0.target",
    ]


def test_files_that_are_not_there(faults, tmp_path, configure):
    [(place, sentence)] = faults(env={"SENTINEL_CONFIG": "other.yaml"})
    assert (place, sentence) == ("env SENTINEL_CONFIG", "there is no file other.yaml")
    (tmp_path / "other.yaml").write_text("server: {port: 1234}")
    assert configure(env={"SENTINEL_CONFIG": "other.yaml"}).settings.server.port == 1234


@contextmanager
def nobody_may_enter(folder: Path) -> Iterator[None]:
    """The folder is closed to us: to root no folder is, so root is somebody else meanwhile."""
    us = os.geteuid()
    folder.chmod(0)
    if us == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(us)
        folder.chmod(0o700)


def test_a_file_in_a_folder_that_nobody_may_enter(tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir()
    (closed / "sentinel.yaml").touch()
    file, env = closed / "sentinel.yaml", {"HOME": "/home/me"}
    with nobody_may_enter(closed):
        for how, place in (
            ({"environ": env | {"SENTINEL_CONFIG": str(file)}}, "env SENTINEL_CONFIG"),
            ({"environ": env, "config": file}, "flag --config"),
        ):
            with pytest.raises(ConfigurationError) as caught:
                load(**how, cwd=Path("/"))
            assert caught.value.faults == [(place, f"{file} can't be read: Permission denied")]
        with pytest.raises(ConfigurationError) as caught:
            load(env, cwd=closed)
    assert ("sentinel.yaml", "sentinel.yaml can't be read: Permission denied") in caught.value.faults


def test_a_flag_names_the_file_before_the_environment_does(tmp_path):
    (tmp_path / "one.yaml").write_text("server: {port: 1}")
    (tmp_path / "two.yaml").write_text("server: {port: 2}")
    (tmp_path / "sentinel.yaml").write_text("server: {port: 3}")
    env = {"HOME": "/h", "SENTINEL_CONFIG": "two.yaml"}
    assert load(env, cwd=tmp_path, config=Path("one.yaml")).settings.server.port == 1
    assert load(env, cwd=tmp_path).settings.server.port == 2
    assert load({"HOME": "/h"}, cwd=tmp_path).settings.server.port == 3
    (tmp_path / ".env").write_text("SENTINEL_CONFIG=one.yaml")
    assert load(env, cwd=tmp_path).settings.server.port == 2
    assert load({"HOME": "/h"}, cwd=tmp_path).settings.server.port == 1
    elsewhere = load(env, cwd=tmp_path / "nowhere", config=tmp_path / "one.yaml")
    assert elsewhere.files == (str(tmp_path / "one.yaml"),)


def test_a_folder_in_the_place_of_the_file(faults, tmp_path):
    (tmp_path / "sentinel.yaml").mkdir()
    with pytest.raises(ConfigurationError) as caught:
        load({"HOME": "/h"}, cwd=tmp_path)
    assert caught.value.faults == [("sentinel.yaml", "can't be read: Is a directory")]


def test_a_place_that_nobody_wrote_is_its_path():
    assert Layer().place(("server", "port")) == "server.port"


def test_no_home_and_no_folder(faults):
    assert faults(env={"HOME": ""}) == [("data_dir", "there is no HOME to put it in: set SENTINEL_DATA_DIR")]


def test_a_key_in_a_file_that_everybody_can_read(faults, configure):
    bedrock = "bedrock: {region: x-1, access_key_id: abc, secret_access_key: abc, session_token: abc}"
    literal = f"providers:\n  vllm: {{api_key: abc, headers: {{x-token: abc}}}}\n  {bedrock}\nadmin_key: 0123456789abcdef\n"
    found = faults(literal, mode=0o644)
    assert [place for place, _ in found] == [
        "sentinel.yaml:2 providers.vllm.api_key",
        "sentinel.yaml:2 providers.vllm.headers.x-token",
        "sentinel.yaml:3 providers.bedrock.access_key_id",
        "sentinel.yaml:3 providers.bedrock.secret_access_key",
        "sentinel.yaml:3 providers.bedrock.session_token",
        "sentinel.yaml:4 admin_key",
    ]
    assert all("chmod 600 sentinel.yaml" in sentence for _, sentence in found)
    assert configure(literal, mode=0o600)
    assert configure("providers: {vllm: {api_key: '${KEY:-none}'}}", mode=0o644)
    assert configure("server: {port: 1}", mode=0o644)


def test_a_value_that_replaces_the_exposed_key_does_not_excuse_the_file(configure):
    # The file's key is overridden, so it is no longer what is used: the place of the value is the environment's.
    assert configure("providers: {vllm: {api_key: abc}}", env={"VLLM_API_KEY": "k"}, mode=0o644)


PLACES = st.lists(st.lists(st.sampled_from(["a", "b", 0, 1]), min_size=1, max_size=4).map(tuple), max_size=6)


@given(PLACES, PLACES)
def test_a_place_is_among_others_that_are_at_around_or_below_it(places, asked):
    def overlap(one, other):
        length = min(len(one), len(other))
        return one[:length] == other[:length]

    among = Places(places)
    assert [place in among for place in asked] == [any(overlap(place, one) for one in places) for place in asked]


class Looked(dict):
    """Counts how many of its items somebody looked at."""

    looked = 0

    def items(self):
        for item in super().items():
            self.looked += 1
            yield item


@pytest.mark.parametrize("room", ["models", "providers"])
def test_who_has_made_more_faults_than_are_told_is_not_told_of_each(room):
    """Each fault takes time to be told, and thousands of them took twenty seconds."""
    written = {"models": {f"a{n}": "nobody/b" for n in range(500)}, "providers": {f"p{n}": {} for n in range(500)}}[room]
    settings = Settings.model_validate({"data_dir": "/d", room: written})
    looked = Looked(getattr(settings, room))
    report = Report(Layer())
    complete(settings.model_copy(update={room: looked}), report)
    assert len(report.faults) == MOST_FAULTS + 1
    assert looked.looked == MOST_FAULTS + 2


def test_a_full_report_takes_no_more():
    report = Report(Layer(), [Fault("", "", (str(number),)) for number in range(MOST_FAULTS)])
    for name in ("one", "another"):
        report.fault((name,), "is wrong")
    assert len(report.faults) == MOST_FAULTS + 1
    assert report.is_broken(("one",))
    assert not report.is_broken(("another",))
