"""A value in YAML means what a person reads, or is a clear fault."""

import pytest

LOCAL = "providers: {local: {dialect: openai, base_url: 'http://127.0.0.1:9001/v1', "


def port(configure, text, **env):
    return configure(f"server: {{port: {text}}}", env=env).settings.server.port


@pytest.mark.parametrize(("text", "value"), [("1_000", 1000), ("0777", 777), ("'8081'", 8081), ("!!str 8082", 8082), ("+5", 5)])
def test_numbers_mean_what_is_read(configure, text, value):
    assert port(configure, text) == value


@pytest.mark.parametrize(
    ("text", "value"), [("on", True), ("Yes", True), ("true", True), ("off", False), ("NO", False), ("n", False), ("0", False)]
)
def test_switches(configure, text, value):
    assert configure(f"cache: {{disk: {{enabled: {text}}}}}").settings.cache.disk.enabled is value


@pytest.mark.parametrize("text", ["no", "on", "1.0", "1.10", "1e3", "0x10", "12:30:45", "2024-01-01", "'null'", "~a", "=", "007"])
def test_text_stays_text(configure, text):
    """YAML 1.1 would make booleans, floats, dates and base-60 numbers of these."""
    assert configure(f"service: {{version: {text}}}").settings.service.version == text.strip("'")


def test_a_provider_called_no(configure):
    loaded = configure("providers:\n  no: {dialect: openai, base_url: 'http://127.0.0.1:9001/v1'}\nmodels: {on: no/yes}")
    assert list(loaded.settings.providers) == ["no"]
    assert loaded.settings.models["on"].names == ("no/yes",)


@pytest.mark.parametrize("null", ["", "~", "null", "NULL"])
def test_null_is_the_default(configure, null):
    settings = configure(
        f"server:\n  port: {null}\nlogging: {null}\ncache:\n  ttl: {null}\nproviders:\n  vllm: {null}\n"
    ).settings
    assert (settings.server.port, settings.logging.level, settings.cache.ttl) == (8080, "info", None)
    assert settings.providers["vllm"].base_url == "http://127.0.0.1:8000/v1"


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "{}"])
def test_an_empty_file(configure, text):
    assert configure(text).settings.server.port == 8080


@pytest.mark.parametrize(
    ("yaml", "place", "remedy"),
    [
        ("server: {port: 1}\nserver: {host: localhost}", "sentinel.yaml:2 server", "stands twice, also in line 1: keep one"),
        ("server:\n  port: 1\n  'port': 1", "sentinel.yaml:3 server.port", "stands twice, also in line 2"),
        ("a: !!python/object/apply:os.system [id]", "sentinel.yaml:1 a", "tags are not read, write the plain value"),
        ("server: {port: !!int 8080}", "sentinel.yaml:1 server.port", "tags are not read"),
        ("server: &a {cors: *a}", "sentinel.yaml:1 server.cors", "holds itself"),
        ("server: {[a]: b}", "sentinel.yaml:1 server", "has a key that is not a name"),
        ("server:\n\tport: 1", "sentinel.yaml:2", "is not YAML"),
        ("server: {port: 1", "sentinel.yaml:1", "is not YAML"),
        ("a: 1\n---\nb: 2", "sentinel.yaml:2", "is not YAML"),
        ("server: {port: *nowhere}", "sentinel.yaml:1", "undefined alias"),
        ("a: \x07", "sentinel.yaml", "a character that YAML does not allow"),
        ("- server", "sentinel.yaml:1", "must be a mapping of settings"),
        ("just text", "sentinel.yaml:1", "must be a mapping of settings"),
        ("<<: {port: 1}", "sentinel.yaml:1 <<", "unknown setting '<<'"),
    ],
)
def test_what_is_no_configuration(faults, yaml, place, remedy):
    [(found, sentence)] = faults(yaml)
    assert found == place
    assert remedy in sentence


def test_a_file_that_cannot_be_parsed_does_not_hide_the_environments_faults(faults):
    assert [place for place, _ in faults("server: [", env={"PORT": "x"})] == ["env PORT", "sentinel.yaml:1"]


def test_not_utf_8(faults, tmp_path):
    (tmp_path / "latin.yaml").write_bytes(b"service: {name: caf\xe9}")
    assert faults(env={"SENTINEL_CONFIG": "latin.yaml"}) == [("latin.yaml", "is not UTF-8 text")]


def test_anchors_repeat_values(configure):
    settings = configure("providers:\n  vllm: {timeouts: &patient {total: 900}}\n  ollama: {timeouts: *patient}").settings
    assert settings.providers["ollama"].timeouts.total == 900


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${NAME}", "sentinel-7"),
        ("'${NAME}'", "sentinel-7"),
        ("a-${NAME}-${NAME}", "a-sentinel-7-sentinel-7"),
        ("${NAME:-other}", "sentinel-7"),
        ("${ABSENT:-other}", "other"),
        ("${EMPTY:-other}", "other"),
        ("${ABSENT:-a:-b}", "a:-b"),
        ("${NAME:?needed}", "sentinel-7"),
        ("$$5", "$5"),
        ("$${NAME}", "${NAME}"),
        ("$$$${NAME}", "$${NAME}"),
        ("$$${NAME}", "$sentinel-7"),
        ("${FROM_DOTENV}", "x"),
    ],
)
def test_interpolation(configure, text, value):
    loaded = configure(
        f"service: {{name: {text}}}" if "'" in text else f'service: {{name: "{text}"}}',
        env={"NAME": "sentinel-7", "EMPTY": ""},
        dotenv="FROM_DOTENV=x\n",
    )
    assert loaded.settings.service.name == value


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("${ABSENT}", "ABSENT is not set: set it, or write a default as ${ABSENT:-default}"),
        ("${ABSENT:?ask the admin}", "ABSENT is not set: ask the admin"),
        ("${EMPTY:?ask the admin}", "EMPTY is not set: ask the admin"),
        ("${ABSENT:?}", "ABSENT is not set: it is needed here"),
        ("$NAME", "a dollar sign is written $$"),
        ("5$", "a dollar sign is written $$"),
        ("${}", "starts ${NAME}"),
        ("${A-b}", "starts ${NAME}"),
        ("${A:-${B}}", "without one in another"),
        ("${NAME", "starts ${NAME}"),
    ],
)
def test_interpolation_that_cannot_be_done(faults, text, remedy):
    [(place, sentence)] = faults(f'server:\n  port: 1\nservice:\n  name: "{text}"', env={"EMPTY": "", "NAME": "x", "B": "x"})
    assert place == "sentinel.yaml:4 service.name"
    assert remedy in sentence


def test_each_reference_of_a_value_is_told(faults):
    assert len(faults("service: {name: '${A} ${B}'}")) == 2


def test_what_is_filled_in_is_text_not_yaml(configure):
    value = "x}, server: {port: 1"
    settings = configure("service: {name: '${NAME}'}", env={"NAME": value}).settings
    assert settings.service.name == value
    assert settings.server.port == 8080


def test_a_key_filled_in_with_nothing_is_no_key(configure):
    assert configure(LOCAL + "api_key: '${KEY:-}'}}").settings.providers["local"].headers == {}


def test_models_as_text_list_or_mapping(configure):
    models = configure(
        LOCAL + "}}\nmodels: {a: local/x, b: [local/x, local/y/z], c: {targets: local/x, ttl: 60}, d: 'local/x, local/y'}"
    ).settings.models
    assert models["a"].names == ("local/x",)
    assert models["b"].names == ("local/x", "local/y/z")
    assert (models["c"].names, models["c"].ttl) == (("local/x",), 60)
    assert models["d"].names == ("local/x", "local/y")
