"""Simon Willison's `llm`, as a command."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

MODELS = """\
- model_id: sentinel
  model_name: demo
  api_base: http://127.0.0.1:8080/v1
  supports_schema: true
  supports_tools: true
"""

LOOK_UP = '''
def look_up(river: str) -> str:
    """The length of a river."""
    return "2,850 km"
'''

COMMAND = [Path(sys.executable).with_name("llm"), "-m", "sentinel"]
FOLDER = Path(__file__).with_suffix("")
SETTINGS = os.environ | {"LLM_USER_PATH": str(FOLDER)}

FOLDER.mkdir()
(FOLDER / "extra-openai-models.yaml").write_text(MODELS)


class Failed(Exception):
    """It ended with another status than 0."""


def llm(*arguments):
    """What it says on its two outputs."""
    done = subprocess.run(
        [*COMMAND, *arguments], env=SETTINGS, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise Failed(done.stderr)
    return done.stdout.removesuffix("\n"), done.stderr


def pieces(text):
    """What it writes, as it comes. Whoever leaves ends it."""
    with subprocess.Popen([*COMMAND, text], env=SETTINGS, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        try:
            while piece := process.stdout.read1():
                yield piece.decode()
        except GeneratorExit:
            process.terminate()
            raise
    if process.returncode:
        raise Failed(process.returncode)


def whole(text):
    said, usage = llm("--no-stream", "--usage", text)
    return {"text": said, "tokens": sum(map(int, re.findall(r"\d+", usage)))}


def stream(text):
    *said, end = pieces(text)
    return {"pieces": [*said, end.removesuffix("\n")]}


def tools(text):
    said, calls = llm("--functions", LOOK_UP, "--tools-debug", text)
    return {"called": re.findall(r"Tool call: look_up\((.*)\)", calls), "text": said}


def structured(text):
    return json.loads(llm("--schema", "name, people int", text)[0])


def leave(text):
    said = pieces(text)
    first = next(said)
    said.close()
    return first
