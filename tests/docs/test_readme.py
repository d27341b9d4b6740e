"""The README's own lines, run as a newcomer runs them."""

import html
import re
import subprocess
import sys
import time
from pathlib import Path

from tests.process.conftest import serve

__all__ = ["serve"]

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, re.DOTALL)


def shell(line: str) -> str:
    ran = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=30, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def but_for_time(value: str) -> str:
    """What it is within the first minute, however long a machine takes from one question to the next."""
    return re.sub(r"ttl=(2[4-9]\d|300)\b", "ttl=...", value)


CURLS = [text for kind, text in BLOCKS if kind == "sh" and "curl -i" in text]
PROMISED = [text.strip().splitlines() for kind, text in BLOCKS if kind == "" and text.startswith("x-cache:")]
SAVED = [text for kind, text in BLOCKS if kind == "sh" and "/v1/metrics" in text]
"""Two questions, the answers to the first, to the same again and to the second, and what that saved."""


def test_a_miss_an_exact_hit_a_semantic_hit_and_what_they_saved(serve) -> None:
    base_url = serve().base_url
    question, reworded = [curl.replace("http://127.0.0.1:8080", base_url) for curl in CURLS]
    for line, expected in zip((question, question, reworded), PROMISED, strict=True):
        answer = shell(line)
        for header in expected:
            name, _, value = header.partition(": ")
            found = re.search(rf"^{name}: (.*)\r?$", answer, re.MULTILINE)
            assert found, f"{name} is missing"
            assert name == "age" or but_for_time(found[1].strip()) == but_for_time(value)
    (saved,) = SAVED
    (shown,) = [text for kind, text in BLOCKS if kind == "json" and "hit_rate_percent" in text]
    assert shell(saved.replace("http://127.0.0.1:8080", base_url)).strip() == shown.strip()


def test_the_picture_shows_what_the_readme_says() -> None:
    picture = html.unescape((ROOT / "docs" / "images" / "first-minute.svg").read_text())
    shown = re.findall(r"<text [^>]*>(.*)</text>", picture)
    lines = [line for command in (*CURLS, *SAVED) for line in command.strip().splitlines()]
    lines += [line for answer in PROMISED for line in answer if not line.startswith("age:")]
    for line in lines:
        assert any(seen.removeprefix("$ ") == line or line.startswith(seen.removesuffix("\u2026")) for seen in shown), line


def test_the_greeting_shows_lines_that_work(serve) -> None:
    program = serve()
    question, reworded = re.findall(r"^  (curl .*?}')$", program.errors.read_text(), re.MULTILINE | re.DOTALL)
    seen = [re.search(r"x-cache: (\w+)", shell(line))[1] for line in (question, question, reworded)]
    assert seen == ["miss", "exact", "semantic"]


def test_the_first_key_closes_the_door(serve, tmp_path) -> None:
    program = serve()
    assert program.request("GET", "/v1/models").status == 200
    [line] = [text for kind, text in BLOCKS if kind == "sh" and "keys create" in text]
    line = line.replace(".venv/bin/sentinel", f"HOME={tmp_path} {sys.executable} -m sentinel_gateway")
    key = re.search(r"sk-sn-\S+", shell(line))[0]
    end = time.monotonic() + 60
    while program.request("GET", "/v1/models").status != 401:
        assert time.monotonic() < end, "it stayed open"
        time.sleep(0.05)
    assert program.request("GET", "/v1/models", Authorization=f"Bearer {key}").status == 200


def test_every_link_leads_somewhere() -> None:
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *(ROOT / "docs").rglob("*.md")]
    for page in pages:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
