"""docs/sdks.md shows what the clients' programs in tests/sdks contain; `make test-sdks` runs those."""

import json
import re
from pathlib import Path

import pytest

from tests.shape import hygiene

ROOT = Path(__file__).parents[2]
SDKS = ROOT / "tests" / "sdks"
PAGE = (ROOT / "docs" / "sdks.md").read_text()
SECTIONS = {
    "OpenAI for Python": "openai-python",
    "OpenAI for JavaScript": "openai-js",
    "Anthropic for Python": "anthropic-python",
    "Anthropic for JavaScript": "anthropic-js",
    "Vercel AI SDK": "vercel-ai",
    "Vercel AI SDK, OpenAI's client": "vercel-ai-openai",
    "Vercel AI SDK, Anthropic's client": "vercel-ai-anthropic",
    "LangChain for Python": "langchain-python",
    "LangChain for JavaScript": "langchain-js",
    "LlamaIndex": "llama-index",
    "instructor": "instructor",
    "pydantic-ai": "pydantic-ai",
    "DSPy": "dspy",
    "`llm`": "llm",
}
SUFFIX = {"python": ".py", "js": ".mjs", "yaml": ".py"}


def test_each_client_has_its_section_and_no_other():
    assert re.findall(r"^## (.*)$", PAGE, re.MULTILINE) == list(SECTIONS)
    assert {path.parent.name for path in SDKS.glob("*/program.*")} == set(SECTIONS.values())


@pytest.mark.parametrize("heading", SECTIONS)
def test_the_program_holds_the_lines_of_the_page(heading):
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    ((kind, block),) = re.findall(r"```(\w+)\n(.*?)```", section, re.DOTALL)
    program = (SDKS / SECTIONS[heading] / f"program{SUFFIX[kind]}").read_text()
    assert f"\n{block}" in program.replace('"""\\\n', "\n")


@pytest.mark.parametrize("lock", sorted(SDKS.glob("*/requirements.lock")), ids=lambda path: path.parent.name)
def test_python_is_locked_by_hash(lock):
    lines = (lock.parent / "requirements.in").read_text().splitlines()
    asked = [line for line in lines if not line.startswith("#")]
    assert hygiene.unhashed(lock.read_text()) == []
    assert hygiene.out_of_step(asked, lock.read_text()) == []


@pytest.mark.parametrize("lock", sorted(SDKS.glob("*/package-lock.json")), ids=lambda path: path.parent.name)
def test_javascript_is_locked_by_hash_and_bound_to_no_registry(lock):
    asked = json.loads((lock.parent / "package.json").read_text())["dependencies"]
    packages = json.loads(lock.read_text())["packages"]
    assert packages.pop("")["dependencies"] == asked
    assert {name for name, package in packages.items() if not package["integrity"].startswith("sha512-")} == set()
    assert {name for name, package in packages.items() if "resolved" in package} == set()
