"""Providers by environment and by YAML: presets, keys among the headers, what stays off and why."""

import pytest

from sentinel_gateway.settings.presets import PRESETS


def headers(provider):
    return {name: value.get_secret_value() for name, value in provider.headers.items()}


def query(provider):
    return {name: value.get_secret_value() for name, value in provider.query.items()}


@pytest.mark.parametrize(
    "preset", [p for p in PRESETS.values() if p.needs_key and p.base_url and not p.regional], ids=lambda p: p.name
)
def test_a_key_switches_its_preset_on(configure, preset):
    loaded = configure(env={preset.key_env: "k"})
    [(name, provider)] = loaded.settings.providers.items()
    assert (name, provider.preset, provider.dialect, provider.base_url) == (
        *(preset.name, preset.name),
        *(preset.dialect, preset.base_url),
    )
    assert provider.key_name == preset.key_env
    own = {"portkey": "x-portkey-api-key", "anthropic": "x-api-key"}
    assert headers(provider) == ({own[name]: "k"} if name in own else {"authorization": "Bearer k"})
    assert provider.enabled
    assert loaded.notes == ()


@pytest.mark.parametrize("preset", [p for p in PRESETS.values() if not p.needs_key], ids=lambda p: p.name)
def test_a_local_server_is_on_when_its_base_url_is_set(configure, preset):
    settings = configure(env={preset.base_url_env: "http://10.0.0.5:1234/v1/"}).settings
    assert settings.providers[preset.name].base_url == "http://10.0.0.5:1234/v1"
    assert headers(settings.providers[preset.name]) == {}
    assert (
        configure(env={preset.base_url_env: "http://127.0.0.1:1/v1", preset.key_env: "k"}).settings.providers[preset.name].api_key
    )


@pytest.mark.parametrize(
    ("name", "value", "note"),
    [
        ("OPENAI_BASE_URL", "http://localhost:8080/v1", "OPENAI_BASE_URL is set, but OPENAI_API_KEY is not: openai stays off"),
        ("VLLM_API_KEY", "k", "VLLM_API_KEY is set, but VLLM_BASE_URL is not: vllm stays off"),
        ("OPENAI_API_VERSION", "v", "OPENAI_API_VERSION is set, but AZURE_API_KEY and AZURE_BASE_URL is not: azure stays off"),
    ],
)
def test_what_says_something_about_a_provider_does_not_switch_it_on(configure, name, value, note):
    """A machine that only calls the gateway has OPENAI_BASE_URL too: it points here."""
    loaded = configure(env={name: value})
    assert loaded.settings.providers == {}
    assert loaded.notes == (note,)


def test_anthropic_by_its_key_and_by_a_server_that_speaks_as_it_does(configure, faults):
    anthropic = configure(env={"ANTHROPIC_API_KEY": "k"}).settings.providers["anthropic"]
    assert (anthropic.dialect, anthropic.base_url, headers(anthropic)) == (
        *("anthropic", "https://api.anthropic.com"),
        {"x-api-key": "k"},
    )
    own = "providers: {claude: {dialect: anthropic, base_url: 'http://127.0.0.1:9/anthropic', api_key: a}}"
    claude = configure(own).settings.providers["claude"]
    assert (claude.dialect, headers(claude)) == ("anthropic", {"x-api-key": "a"})
    assert faults("providers: {groq: {dialect: anthropic, api_key: k}}") == [
        ("sentinel.yaml:1 providers.groq.dialect", "the preset groq speaks openai: leave the dialect out")
    ]


def test_gemini_in_its_own_words(configure):
    gemini = configure("providers: {gemini: {dialect: gemini}}", env={"GEMINI_API_KEY": "k"}).settings.providers["gemini"]
    assert (gemini.dialect, headers(gemini)) == ("gemini", {"x-goog-api-key": "k"})
    assert gemini.base_url == "https://generativelanguage.googleapis.com/v1beta"
    work = configure("providers: {gemini: {dialect: gemini, api_key: k}, work: {preset: gemini}}").settings.providers["work"]
    assert (work.dialect, headers(work)) == ("gemini", {"x-goog-api-key": "k"})


AWS = {"AWS_REGION": "eu-west-1", "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "s3cret-of-aws"}


def test_bedrock_by_its_key(configure, faults):
    env = {"AWS_BEARER_TOKEN_BEDROCK": "k", "AWS_DEFAULT_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE"}
    bedrock = configure(env=env).settings.providers["bedrock"]
    assert (bedrock.dialect, bedrock.base_url) == ("bedrock", "https://bedrock-runtime.us-east-1.amazonaws.com")
    assert (headers(bedrock), bedrock.signs, bedrock.key_name) == ({"authorization": "Bearer k"}, False, "BEDROCK_API_KEY")
    assert faults(env={"BEDROCK_API_KEY": "k"}) == [("env BEDROCK_API_KEY", "bedrock needs a region: set AWS_REGION, or region")]


def test_bedrock_by_the_credentials_of_aws_where_the_file_asks_for_it(configure, faults):
    """Many machines have them for something else."""
    assert configure(env=AWS).settings.providers == {}
    assert configure(env=AWS).notes == ()
    bedrock = configure("providers:\n  bedrock:\n", env=AWS).settings.providers["bedrock"]
    assert (bedrock.signs, bedrock.region, headers(bedrock), bedrock.key_name) == (True, "eu-west-1", {}, "AWS_ACCESS_KEY_ID")
    [(_, sentence)] = faults("providers:\n  bedrock:\n", env={"AWS_ACCESS_KEY_ID": "a", "AWS_REGION": "eu-west-1"})
    assert sentence == "bedrock needs a key: set BEDROCK_API_KEY, or api_key, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"


def test_bedrock_in_two_regions_and_elsewhere(configure, faults):
    yaml = """\
    providers:
      bedrock:
      ohio: {preset: bedrock, region: us-east-2}
      other: {preset: bedrock, access_key_id: B, secret_access_key: b, base_url: 'https://vpce-1.amazonaws.com'}
    """
    providers = configure(yaml, env={**AWS, "AWS_SESSION_TOKEN": "t"}).settings.providers
    assert providers["ohio"].base_url == "https://bedrock-runtime.us-east-2.amazonaws.com"
    told = [(one.access_key_id.get_secret_value(), one.session_token is None) for one in providers.values()]
    assert told == [("AKIDEXAMPLE", False), ("AKIDEXAMPLE", False), ("B", True)]
    assert (providers["other"].base_url, providers["other"].region) == ("https://vpce-1.amazonaws.com", "eu-west-1")
    own = "providers: {a: {dialect: bedrock, base_url: 'http://127.0.0.1:9', access_key_id: a, secret_access_key: b%s}}"
    assert configure(own % ", region: x-1").settings.providers["a"].signs
    [(place, sentence)] = faults(own % "")
    assert (place, sentence) == ("sentinel.yaml:1 providers.a.region", "a needs a region: its requests are signed for one")


@pytest.mark.parametrize("region", ["evil.example.com/", "A", "-", "us_east"])
def test_a_region_is_part_of_a_host_and_nothing_else(faults, region):
    [(place, _)] = faults(f"providers: {{bedrock: {{api_key: k, region: '{region}'}}}}")
    assert place == "sentinel.yaml:1 providers.bedrock.region"


def test_azure(configure, faults):
    expected = "https://n.openai.azure.com/openai/v1"
    for env in (
        {"AZURE_API_KEY": "k", "AZURE_BASE_URL": expected},
        {"AZURE_OPENAI_API_KEY": "k", "AZURE_OPENAI_ENDPOINT": "https://n.openai.azure.com/"},
        {"AZURE_OPENAI_API_KEY": "k", "AZURE_OPENAI_ENDPOINT": expected},
    ):
        azure = configure(env=env).settings.providers["azure"]
        assert (azure.base_url, headers(azure), query(azure)) == (expected, {"api-key": "k"}, {})
    azure = configure(env=env | {"OPENAI_API_VERSION": "preview"}).settings.providers["azure"]
    assert query(azure) == {"api-version": "preview"}
    assert faults(env={"AZURE_API_KEY": "k"}) == [
        ("env AZURE_API_KEY", "every customer of azure has their own: set AZURE_BASE_URL, or base_url")
    ]


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:11434/v1"),
        ("0.0.0.0", "http://127.0.0.1:11434/v1"),
        ("0.0.0.0:8000", "http://127.0.0.1:8000/v1"),
        ("box:1234", "http://box:1234/v1"),
        (":1234", "http://127.0.0.1:1234/v1"),
        ("https://box", "https://box/v1"),
        ("https://box/ollama/", "https://box/ollama/v1"),
        ("http://box:1/v1", "http://box:1/v1"),
        ("[::1]:1234", "http://[::1]:1234/v1"),
        ("[::]", "http://127.0.0.1:11434/v1"),
    ],
)
def test_ollama_host_as_ollama_reads_it(configure, host, url):
    assert configure(env={"OLLAMA_HOST": host}).settings.providers["ollama"].base_url == url


def test_ollama_host_that_is_none(faults):
    assert faults(env={"OLLAMA_HOST": "a:b"}) == [("env OLLAMA_HOST", "must be a host, host:port or a URL")]


def test_a_provider_of_ones_own(configure):
    yaml = """\
    providers:
      local:
        dialect: openai
        base_url: http://127.0.0.1:9001/v1
        api_key: ${LOCAL_KEY:-none}
        headers: {X-Team: red}
        query: {v: 2}
        models: [qwen3]
        timeouts: {first_byte: 5}
    """
    local = configure(yaml).settings.providers["local"]
    assert headers(local) == {"authorization": "Bearer none", "x-team": "red"}
    assert (query(local), local.models, local.preset, local.key_name) == ({"v": "2"}, ("qwen3",), None, "api_key")
    assert (local.timeouts.first_byte, local.timeouts.total) == (5, 600)


def test_a_header_of_ones_own_replaces_the_key(configure):
    local = configure("providers: {vllm: {api_key: a, headers: {Authorization: Basic x}}}").settings.providers["vllm"]
    assert headers(local) == {"authorization": "Basic x"}


def test_what_is_sent_with_every_call_is_never_shown(configure, faults):
    canary = "s3cret-canary-of-a-provider"
    sent = f"headers: {{X-Team: {canary}}}, query: {{subscription-key: {canary}}}"
    local = f"dialect: openai, base_url: 'http://127.0.0.1:9001/v1', {sent}"
    settings = configure(f"providers: {{local: {{{local}}}}}").settings
    assert (query(settings.providers["local"]), headers(settings.providers["local"])) == (
        {"subscription-key": canary},
        {"x-team": canary},
    )
    assert canary not in repr(settings)
    assert canary not in str(settings.model_dump(mode="json")), "as GET /config shows it"
    [(place, sentence)] = faults(f"providers: {{local: {{{local}}}}}", mode=0o644)
    assert (place, "chmod 600" in sentence) == ("sentinel.yaml:1 providers.local.query.subscription-key", True)
    assert canary not in sentence
    assert configure("providers: {query: {preset: ollama, query: {v: 2}}}", mode=0o644), "no key, by its name"


def test_a_preset_under_another_name(configure, faults):
    settings = configure("providers: {work: {preset: openai, api_key: w}}", env={"OPENAI_API_KEY": "o"}).settings
    assert headers(settings.providers["work"]) == {"authorization": "Bearer w"}
    assert headers(settings.providers["openai"]) == {"authorization": "Bearer o"}
    assert settings.providers["work"].base_url == settings.providers["openai"].base_url
    shared = configure("providers: {work: {preset: groq}}", env={"GROQ_API_KEY": "g"}).settings
    assert headers(shared.providers["work"]) == {"authorization": "Bearer g"}
    [(place, sentence)] = faults("providers: {work: {preset: groq}}")
    assert (place, sentence) == ("sentinel.yaml:1 providers.work.api_key", "work needs a key: set GROQ_API_KEY, or api_key")


def test_yaml_and_environment_describe_one_provider_together(configure):
    groq = configure("providers: {groq: {timeouts: {total: 7}}}", env={"GROQ_API_KEY": "g"}).settings.providers["groq"]
    assert (groq.timeouts.total, headers(groq)) == (7, {"authorization": "Bearer g"})


def test_an_entry_without_a_body_is_filled_by_the_environment(configure):
    groq = configure("providers:\n  groq:\n", env={"GROQ_API_KEY": "g"}).settings.providers["groq"]
    assert headers(groq) == {"authorization": "Bearer g"}


def test_an_entry_without_a_body_says_that_it_should_be_on(faults):
    [(_, sentence)] = faults("providers:\n  openai:\n", env={"OPENAI_BASE_URL": "http://10.0.0.1/v1"})
    assert "openai needs a key: set OPENAI_API_KEY" in sentence


def test_switched_off(configure):
    settings = configure(
        "providers: {groq: {enabled: false}, azure: {enabled: false}, demo: {enabled: no}}", env={"GROQ_API_KEY": "g"}
    ).settings
    assert [provider.enabled for provider in settings.providers.values()] == [False, False, False]
    assert not settings.demo
    assert configure("providers: {demo: {enabled: true}}").settings.demo


def test_a_key_over_plain_http_beyond_this_machine_gets_a_note(configure):
    [note] = configure(env={"VLLM_BASE_URL": "http://10.0.0.5/v1", "VLLM_API_KEY": "k"}).notes
    assert note == "the key of vllm travels unencrypted to http://10.0.0.5/v1: use https if the network is not yours alone"
    for quiet in ({"VLLM_BASE_URL": "http://10.0.0.5/v1"}, {"VLLM_BASE_URL": "http://127.0.0.1/v1", "VLLM_API_KEY": "k"}):
        assert configure(env=quiet).notes == ()


def test_presets_are_told_apart_and_complete():
    names = [name for preset in PRESETS.values() for name in (preset.key_env, preset.base_url_env, *preset.other_keys)]
    assert len(names) == len(set(names))
    assert list(PRESETS) == [preset.name for preset in PRESETS.values()]
    asked_for = "groq openai qwen portkey openrouter together mistral deepseek fireworks xai cerebras gemini azure ollama vllm"
    assert PRESETS.keys() == {*asked_for.split(), "anthropic", "bedrock"}
