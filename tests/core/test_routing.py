"""Which targets serve a model name?"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel_gateway.core.routing import (
    LONGEST,
    NEAR_MATCHES,
    Directory,
    NoRoute,
    Route,
    Target,
    is_listed,
    names,
    near,
    resolve,
)

KNOWN = {"openai": "OPENAI_API_KEY", "groq": "GROQ_API_KEY"}
DEMO = {"catalogues": {"demo": frozenset({"demo"})}, "simulated": frozenset({"demo"})}
FULL = Directory(
    aliases={
        "fast": Route((Target("groq", "llama-3.1-8b"), Target("local", "qwen3"))),
        "gpt-4": Route((Target("local", "qwen3"),)),
    },
    providers=("demo", "groq", "local"),
    catalogues={
        "demo": frozenset({"demo", "demo-slow"}),
        "groq": frozenset({"llama-3.1-8b", "gpt-4", "shared", "openai/gpt-oss"}),
        "local": frozenset({"qwen3", "shared"}),
    },
    known={"openai": "OPENAI_API_KEY"},
    simulated=frozenset({"demo"}),
)


def directory(*providers: str, **members) -> Directory:
    return Directory(**{"aliases": {}, "providers": providers, "catalogues": {}, "known": KNOWN, **members})


def targets(name: str, of: Directory = FULL) -> tuple[str, ...]:
    found = resolve(name, of)
    assert isinstance(found, Route), found
    return found.names


def refusal(name: str, of: Directory = FULL) -> NoRoute:
    found = resolve(name, of)
    assert isinstance(found, NoRoute), found
    assert found.name == name
    return found


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("fast", ("groq/llama-3.1-8b", "local/qwen3")),
        ("gpt-4", ("local/qwen3",)),  # the alias, although groq's catalogue has it
        ("groq/gpt-4", ("groq/gpt-4",)),
        ("groq/whatever/with/slashes", ("groq/whatever/with/slashes",)),
        ("local/fast", ("local/fast",)),  # aliases have no provider
        ("demo/demo", ("demo/demo",)),
        ("llama-3.1-8b", ("groq/llama-3.1-8b",)),
        ("qwen3", ("local/qwen3",)),
        ("demo-slow", ("demo/demo-slow",)),
        ("openai/gpt-oss", ("groq/openai/gpt-oss",)),  # a catalogue's own slash, while `openai` is off
    ],
)
def test_the_first_step_that_knows_the_name_decides(name, expected):
    assert targets(name) == expected


def test_an_alias_may_look_like_a_target():
    of = directory("groq", aliases={"groq/x": Route((Target("groq", "y"),))})
    assert targets("groq/x", of) == ("groq/y",)
    assert targets("groq/z", of) == ("groq/z",)


def test_bare_model_with_only_groq_key():
    of = directory("demo", "groq", **DEMO)
    for name in ("gpt-4", "llama-3.3-70b-versatile", "meta-llama/llama-4", "/x", "x/"):
        assert targets(name, of) == (f"groq/{name}",)
    assert targets("demo", of) == ("demo/demo",)


def test_a_name_in_several_catalogues_is_ambiguous():
    found = refusal("shared")
    assert found.why == "several providers serve it: write one of groq/shared, local/shared."
    assert found.near == ("groq/shared", "local/shared")


@pytest.mark.parametrize("of", [FULL, directory("groq"), directory("demo", **DEMO)])
def test_a_preset_that_is_off_says_how_to_switch_it_on(of):
    assert refusal("openai/gpt-5", of).why == "provider 'openai' is off: set OPENAI_API_KEY."


def test_a_provider_that_is_on_is_never_off():
    assert targets("openai/gpt-5", directory("openai", "groq")) == ("openai/gpt-5",)


@pytest.mark.parametrize("name", ["openai/", "openai", "/openai", "groq/", "groq", "/"])
def test_half_a_target_is_a_bare_name(name):
    assert "no enabled provider lists it" in refusal(name).why


def test_nobody_serves_it():
    found = refusal("unheard-of")
    assert found.why == ("no enabled provider lists it: write provider/model with one of groq, local, or add it under models:.")
    assert found.near == ()


def test_the_demo_is_nobodys_fallback():
    found = refusal("gpt-4", directory("demo", **DEMO))
    assert found.why.startswith("no provider is configured but the demo (model 'demo'): set a provider's key")
    assert refusal("gpt-4", directory()).why == found.why


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("fasst", ("fast",)),
        ("llama-3.1-8", ("groq/llama-3.1-8b",)),
        ("nobody/qwen-3", ("local/qwen3",)),
        ("gtp-4", ("gpt-4",)),  # the alias stands before the catalogue's name
        ("demo-slo", ("demo-slow", "demo")),
        ("zzz", ()),
        ("", ()),
    ],
)
def test_near_matches_are_names_that_work(name, expected):
    assert near(name, FULL) == expected
    for match in expected:
        assert isinstance(resolve(match, FULL), Route)


def test_who_asks_again_for_what_nobody_has_has_no_list_made_anew():
    class Shelves(dict[str, frozenset[str]]):
        read = 0

        def get(self, *of):
            self.read += 1
            return super().get(*of)

    shelves = Shelves(groq=frozenset({"llama-3.1-8b"}))
    of = directory("groq", catalogues=shelves)
    assert [near("llama-3.1", of) for _ in range(3)] == [("groq/llama-3.1-8b",)] * 3
    assert shelves.read == 1


def test_only_a_few_near_matches():
    of = directory("groq", "x", catalogues={"groq": frozenset(f"model-{n}" for n in range(9))})
    assert len(near("model-", of)) == NEAR_MATCHES
    assert refusal("model-", of).near == near("model-", of)


def test_a_very_long_name_is_compared_by_its_beginning():
    of = directory("groq", catalogues={"groq": frozenset({"m" * LONGEST, "m" * (LONGEST - 60) + "x" * 60})})
    assert near("m" * LONGEST + "x" * 1_000_000, of)[0] == "groq/" + "m" * LONGEST


def test_every_name_in_order():
    assert names(FULL) == [
        "fast",
        "gpt-4",
        "demo",
        "demo-slow",
        "groq/gpt-4",
        "groq/llama-3.1-8b",
        "groq/openai/gpt-oss",
        "groq/shared",
        "local/qwen3",
        "local/shared",
    ]


WORD = st.text("ab/.:", max_size=4)


@given(
    WORD, st.lists(st.sampled_from("ab"), unique=True), st.dictionaries(st.sampled_from("ab"), st.frozensets(WORD, max_size=3))
)
def test_a_route_leads_to_an_enabled_provider_and_keeps_the_name(name, providers, catalogues):
    found = resolve(name, directory(*providers, catalogues=catalogues, known={"a": "x.", "b": "x."}))
    if isinstance(found, Route):
        (target,) = found.targets
        assert target.provider in providers
        assert str(target) in {name, f"{target.provider}/{name}"}
        assert name.endswith(target.model)
    else:
        assert found.why.endswith(".")


@given(st.sampled_from(names(FULL)))
def test_every_listed_name_can_be_sent(name):
    assert isinstance(resolve(name, FULL), Route)


@pytest.mark.parametrize(
    ("name", "listed"), [("fast", True), ("groq/shared", True), ("shared", True), ("groq/x", False), ("x", False)]
)
def test_a_name_is_listed_as_an_alias_or_in_a_catalogue_with_its_provider_or_without(name, listed):
    assert is_listed(name, FULL) is listed
    assert all(is_listed(one, FULL) for one in names(FULL))
