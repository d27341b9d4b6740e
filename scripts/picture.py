"""The README's picture: its own commands, run against a gateway that has just been started, drawn as a terminal.

Usage: python scripts/picture.py (writes docs/images/first-minute.svg)
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
PICTURE: Final = ROOT / "docs" / "images" / "first-minute.svg"
SHOWN: Final = "http://127.0.0.1:8080"
COLUMNS: Final = 114
CELL, LINE, MARGIN = 8.0, 19, 18
COLOURS: Final = {"$": "#7ee787", "x-cache: miss": "#ffa657", "x-cache: exact": "#79c0ff", "x-cache: semantic": "#d2a8ff"}
PLAIN: Final = "#c9d1d9"
FONTS: Final = "ui-monospace, SFMono-Regular, Menlo, Consolas, DejaVu Sans Mono, monospace"
DEADLINE: Final = 60.0


def blocks() -> list[tuple[str, str]]:
    """The README's fenced blocks: what kind they are, and what stands in them."""
    return re.findall(r"```(\w*)\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


def session(base_url: str) -> Iterator[str]:
    """What a newcomer types and the part of the answers that the README shows, line by line."""
    first, reworded = [text for kind, text in blocks() if kind == "sh" and "curl -i" in text]
    (saved,) = [text for kind, text in blocks() if kind == "sh" and "/v1/metrics" in text]
    wanted = [text for kind, text in blocks() if kind == "" and text.startswith("x-cache:")]
    yield from ("$ make run", f"Sentinel answers on {SHOWN} (OpenAI base URL: {SHOWN}/v1)", "")
    for command, promise in zip((first, first, reworded), wanted, strict=True):
        yield from _typed(command)
        headers = [line.partition(":")[0] for line in promise.splitlines()]
        answer = _run(command, base_url)
        yield from (line for name in headers for line in answer.splitlines() if line.startswith(f"{name}: "))
        yield ""
    yield from _typed(saved)
    yield _run(saved, base_url).strip()


def _typed(command: str) -> Iterator[str]:
    first, *rest = command.strip().splitlines()
    yield f"$ {first}"
    yield from rest


def _run(command: str, base_url: str) -> str:
    return subprocess.run(  # noqa: S603 - the README's own lines
        ["/bin/sh", "-c", command.replace(SHOWN, base_url)], capture_output=True, text=True, timeout=DEADLINE, check=True
    ).stdout.replace("\r", "")


def drawn(lines: list[str]) -> str:
    """The lines as a terminal window, in SVG."""
    cut = [line if len(line) <= COLUMNS else line[: COLUMNS - 1] + "\N{HORIZONTAL ELLIPSIS}" for line in lines]
    width, height = 2 * MARGIN + COLUMNS * CELL, 3 * MARGIN + LINE * len(cut)
    rows = "\n".join(
        f'<text x="{MARGIN}" y="{2.5 * MARGIN + LINE * number:g}" fill="{_colour(line)}">{escape(line)}</text>'
        for number, line in enumerate(cut)
        if line
    )
    dots = "".join(
        f'<circle cx="{MARGIN + 16 * number}" cy="{MARGIN}" r="5" fill="{colour}"/>'
        for number, colour in enumerate(("#ff5f57", "#febc2e", "#28c840"))
    )
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height}" font-family="{FONTS}" \
font-size="13" xml:space="preserve">
<rect width="100%" height="100%" rx="8" fill="#0d1117"/>
{dots}
{rows}
</svg>
"""


def _colour(line: str) -> str:
    return next((colour for start, colour in COLOURS.items() if line.startswith(start)), PLAIN)


def main() -> None:
    """Start a gateway of its own, ask it, draw."""
    with tempfile.TemporaryDirectory() as home:
        errors = Path(home) / "stderr"
        environment = {"PATH": os.environ["PATH"], "HOME": home, "PORT": "0"}
        with errors.open("wb") as told:
            command = [sys.executable, "-m", "sentinel_gateway", "serve"]
            program = subprocess.Popen(  # noqa: S603 - ourselves
                command, cwd=home, env=environment, stdout=subprocess.DEVNULL, stderr=told
            )
        try:
            end = time.monotonic() + DEADLINE
            while not (listening := re.search(r"answers on (http://\S+) ", errors.read_text())):
                if program.poll() is not None or time.monotonic() > end:
                    sys.exit(errors.read_text())
                time.sleep(0.05)
            PICTURE.parent.mkdir(exist_ok=True)
            PICTURE.write_text(drawn(list(session(listening[1]))))
        finally:
            program.terminate()
            program.wait()


if __name__ == "__main__":
    main()
