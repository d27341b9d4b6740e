"""The README's own lines, run as a newcomer runs them."""

import re
import subprocess
from pathlib import Path

from tests.process.conftest import serve

__all__ = ["serve"]

README = (Path(__file__).parents[2] / "README.md").read_text()
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, re.DOTALL)


def shell(line: str) -> str:
    return subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=30, check=True).stdout


def test_the_first_curl_misses_and_the_second_hits(serve) -> None:
    (curl,) = [text for kind, text in BLOCKS if kind == "sh" and "curl -i" in text]
    promised = [text for kind, text in BLOCKS if kind == "" and text.startswith("x-cache:")]
    line = curl.replace("http://127.0.0.1:8080", serve().base_url)
    for expected in promised:
        answer = shell(line)
        for header in expected.strip().splitlines():
            name, _, value = header.partition(": ")
            found = re.search(rf"^{name}: (.*)\r?$", answer, re.MULTILINE)
            assert found, f"{name} is missing"
            assert name == "age" or found[1].strip() == value


def test_the_greeting_shows_lines_that_work(serve) -> None:
    program = serve()
    greeting = program.errors.read_text()
    (line,) = re.findall(r"^  (curl .*?}')$", greeting, re.MULTILINE | re.DOTALL)
    assert [re.search(r"x-cache: (\w+)", shell(line))[1] for _ in range(2)] == ["miss", "exact"]


def test_every_link_leads_somewhere() -> None:
    root = Path(__file__).parents[2]
    pages = [root / "README.md", root / "CONTRIBUTING.md", root / "SECURITY.md", *(root / "docs").rglob("*.md")]
    for page in pages:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
