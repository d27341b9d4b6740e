"""A value in YAML means what a person reads, or is a clear fault."""

import pytest
import yaml

from sentinel_gateway.errors import ConfigurationError
from sentinel_gateway.settings.faults import MOST_FAULTS
from sentinel_gateway.settings.load import MOST_OF_DRAFT, load
from sentinel_gateway.settings.yaml_file import MOST_REPEATED, PARSER, read_yaml

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
        ("server: &a\n  cors: *a", "sentinel.yaml:2", "'*a' stands within '&a', which would hold itself"),
        ("server: {[a]: b}", "sentinel.yaml:1 server", "has a key that is not a name"),
        ("server:\n\tport: 1", "sentinel.yaml:2", "is not YAML"),
        ("server: {port: 1", "sentinel.yaml:1", "is not YAML"),
        ("a: 1\n---\nb: 2", "sentinel.yaml:2", "is not YAML"),
        ("server:\n  port: *nowhere", "sentinel.yaml:2", "'*nowhere' stands for nothing: no '&nowhere' is above it"),
        ("a: \x07", "sentinel.yaml", "a character that YAML does not allow"),
        ("- server", "sentinel.yaml:1", "must be a mapping of settings"),
        (f"a: {'[' * 65}{']' * 65}", "sentinel.yaml", "is nested too deeply to be read"),
        (f"a: {'[{a: ' * 40}", "sentinel.yaml", "is nested too deeply to be read"),
        ("just text", "sentinel.yaml:1", "must be a mapping of settings"),
        ("<<: {port: 1}", "sentinel.yaml:1 <<", "unknown setting '<<'"),
    ],
)
def test_what_is_no_configuration(faults, yaml, place, remedy):
    [(found, sentence)] = faults(yaml)
    assert found == place
    assert remedy in sentence


READ_ALIKE = (
    "a: 1\nb: [x, 'y', \"\\u00e9\", {c: ~}]\nd: |\n  two\n  lines\ne: >-\n  one\n  line\n",
    "a: &a {b: 1}\nc: *a\nd: !!str 5\ne: ! x\nf: '${HOME}'\n",
    "- 1\n- 2",
    "? a\n: b\nc:\n- d\n- e: f\n  g: h",
    "a: 1\na: 2\n'a': 3\n[x]: 4",
    "# nothing",
    "\ufeffa: é字😀\r\nb: 'it''s'\r\n",
    f"a: {'[' * 63}{']' * 63}",
    f"a: {'[' * 64}{']' * 64}",
    "- " * 64 + "x",
    "- " * 20_000,
    "? " * 20_000,
    "a: [",
    "a: *nowhere",
    "a: \x07",
    "a: \ud800",
    "a:\n\tb: 1",
    "a: 1\n---\nb: 2",
)


@pytest.mark.parametrize("text", READ_ALIKE, ids=lambda text: repr(text[:12]))
def test_without_libyaml_the_same_is_read(text):
    """But for the words in which a parser says what is wrong."""
    assert PARSER is yaml.CBaseLoader
    fast, slow = (read_yaml(text, "file", {"HOME": "/h"}.get, parser=parser) for parser in (PARSER, yaml.BaseLoader))
    assert fast[0] == slow[0]
    assert [(one.place, one.sentence.partition(":")[0]) for one in fast[1]] == [
        (one.place, one.sentence.partition(":")[0]) for one in slow[1]
    ]


@pytest.mark.parametrize("more", [0, 1])
def test_what_aliases_repeat_is_bounded(faults, more):
    """Each group and each value in it is one; what a file itself says is bounded by its length."""
    shared = f"a: &a [{', '.join('x' * 99)}]\nb: [{', '.join(['*a'] * (MOST_REPEATED // 100))}]\n" + "c: *a\n" * more
    told = [sentence for _, sentence in faults(shared)]
    assert any("repeats more than 10,000 things" in one for one in told) == bool(more)


HELD = {
    "nothing": ("", 0),
    "groups": ("b: {c: []}\n", 4),
    "an alias": ("b: &b [x, x]\nc: *b\n", 8),
    "references": ("b: &b $$${x:-y}\nc: *b\n", 10),
}
"""Lines, and how many keys, values, groups and references they hold: each alias what it repeats."""


@pytest.mark.parametrize("more", [0, 1])
@pytest.mark.parametrize(("lines", "held"), HELD.values(), ids=HELD)
def test_a_draft_is_bounded_by_what_it_holds(faults, tmp_path, lines, held, more):
    """Each takes time, of which little is the parser's. A file may hold more."""
    text = f"{lines}a: [{'x,' * (MOST_OF_DRAFT - held - 3 + more)}]"
    with pytest.raises(ConfigurationError) as caught:
        load({"HOME": "/home/me"}, cwd=tmp_path, draft=text)
    assert ([place for place, sentence in caught.value.faults if "holds more than 2,000" in sentence] == ["draft"]) == bool(more)
    assert not any("holds more than" in sentence for _, sentence in faults(text))


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


@pytest.mark.parametrize("line", ["  port: 1\n", "  port{}: 1\n"], ids=["one key", "unknown keys"])
@pytest.mark.parametrize("more", [0, 1, 500])
def test_of_very_many_faults_the_first_are_told(faults, line, more):
    wrong = "".join(line.format(number) for number in range(MOST_FAULTS + more))
    told = faults(f"server:\n  port: 1\n{wrong}")
    assert [place.partition(" ")[0] for place, _ in told[:MOST_FAULTS]] == [f"sentinel.yaml:{3 + n}" for n in range(MOST_FAULTS)]
    assert told[MOST_FAULTS:] == ([("configuration", "has more faults than these: mend them first")] if more else [])
