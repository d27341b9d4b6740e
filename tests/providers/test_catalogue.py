"""Which names are known for a provider, when, and what a failure changes."""

import subprocess
import sys

import pytest

from sentinel_gateway.errors import UpstreamUnreachable
from sentinel_gateway.providers.catalogue import SHELVES, Catalogue
from sentinel_gateway.providers.demo import MODELS, DemoProvider

pytestmark = pytest.mark.anyio


class Listing:
    """A provider that can only list: `answers` one after the other, errors raised."""

    def __init__(self, name, *answers):
        self.name = name
        self.answers = list(answers)
        self.asked = 0

    async def list_models(self):
        self.asked += 1
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return frozenset(answer)


class Notes:
    def __init__(self):
        self.notes = []

    def finished(self, record):
        raise AssertionError

    def note(self, event, **fields):
        self.notes.append((event, fields))


@pytest.fixture
def notes():
    return Notes()


def catalogue(notes, *providers, **listed):
    return Catalogue(providers, listed={name: frozenset(names) for name, names in listed.items()}, events=notes)


async def test_the_price_library_knows_common_models(notes):
    known = catalogue(notes, *(Listing(name) for name in (*SHELVES, "ollama")))
    assert known.names("groq") == frozenset()
    assert await known.load() is True
    assert "llama-3.3-70b-versatile" in known.names("groq")
    assert {"gpt-4", "gpt-4o-2024-08-06"} <= known.names("openai")
    assert "gemini-2.5-flash" in known.names("gemini")
    assert not any("claude" in name for name in known.names("gemini"))
    assert all(name.startswith("accounts/") for name in known.names("fireworks"))
    assert "grok-4" in known.names("xai")
    for name in SHELVES:
        assert len(known.names(name)) > 3, name
    assert known.names("ollama") == frozenset()
    assert await known.load() is False


async def test_what_a_provider_lists_is_added(notes):
    known = catalogue(notes, Listing("groq", {"new-model"}, {"new-model"}, {"newer-model"}), DemoProvider(lambda: 0.0))
    await known.load()
    library = known.names("groq")
    assert await known.refresh() is True
    assert known.names("groq") == library | {"new-model"}
    assert known.names("demo") == MODELS
    assert await known.refresh() is False
    assert await known.refresh() is True
    assert known.names("groq") == library | {"newer-model"}
    assert notes.notes == []


async def test_the_operators_list_is_all_there_is(notes):
    groq = Listing("groq", {"new-model"})
    known = catalogue(notes, groq, groq=["mine"])
    assert await known.load() is False
    assert await known.refresh() is False
    assert known.names("groq") == {"mine"}
    assert groq.asked == 0


async def test_a_failure_keeps_what_was_known_and_is_told_once(notes):
    down = UpstreamUnreachable("vllm can't be reached")
    known = catalogue(notes, Listing("vllm", {"a"}, down, down, {"b"}, down), Listing("ollama", {"x"}, *[{"x"}] * 4))
    await known.refresh()
    for _ in range(2):
        assert await known.refresh() is False
        assert known.names("vllm") == {"a"}
        assert known.names("ollama") == {"x"}
    assert notes.notes == [("models_unlisted", {"provider": "vllm", "reason": "vllm can't be reached"})]
    assert await known.refresh() is True
    assert known.names("vllm") == {"b"}
    await known.refresh()
    assert len(notes.notes) == 2


async def test_state_shows_in_the_repr(notes):
    known = catalogue(notes, Listing("groq"), groq=["a", "b"])
    assert repr(known) == "<Catalogue groq 2>"
    assert repr(catalogue(notes)) == "<Catalogue empty>"


def test_the_price_library_is_not_read_before_it_is_needed():
    code = "import sys, sentinel_gateway.providers.catalogue; sys.exit('genai_prices' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
