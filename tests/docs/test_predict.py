"""docs/predict.md says what the code says, and what stands there works; so does seed 001's quick start."""

import json
import re
import subprocess
from pathlib import Path

import yaml

from sentinel_gateway.api.wire.predict import Metadata, Parameters, PredictAnswer, PredictBody
from sentinel_gateway.programs.definition import BUILT_IN
from sentinel_gateway.programs.tools import TOOLS
from sentinel_gateway.settings.programs import ProgramSettings
from tests.process.conftest import serve
from tests.programs.conftest import dspy, provider, start, upstream
from tests.shape.test_make import make

__all__ = ["dspy", "provider", "serve", "start", "upstream"]

PAGE = (Path(__file__).parents[2] / "docs" / "predict.md").read_text()
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", PAGE, re.DOTALL)


def below(heading: str) -> str:
    return PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def firsts(heading: str) -> list[str]:
    """The words in the first column of the table below a heading."""
    cells = [line.split("|")[1] for line in below(heading).splitlines() if line.startswith("| `")]
    return re.findall(r"`([^`]+)`", " ".join(cells))


def test_every_member_is_explained_and_no_other():
    assert firsts("What you send") == list(PredictBody.model_fields)
    got = [name for name in PredictAnswer.__struct_fields__ if name != "metadata"]
    assert firsts("What you get") == [*got, *Metadata.__struct_fields__]
    (told,) = [line for line in below("What you send").splitlines() if line.startswith("| `parameters`")]
    assert re.findall(r"`(\w+)`", told)[1:] == list(Parameters.model_fields)


def test_every_program_and_setting_of_one_is_explained():
    assert firsts("The programs")[1:] == [one.name for one in BUILT_IN]
    explained = re.findall(r"^- `(\w+)`", below("The programs"), re.MULTILINE)
    told = explained + re.findall(r"`(\w+): true`", PAGE)
    assert {*told, *re.findall(r"`(instructions)` what", PAGE)} == set(ProgramSettings.model_fields)
    assert f"{['no', 'one', 'two', 'three'][len(TOOLS)]} tools" in PAGE
    (example,) = [text for kind, text in BLOCKS if kind == "yaml"]
    for program in yaml.safe_load(example)["programs"].values():
        ProgramSettings.model_validate(program)


def shell(line: str) -> str:
    ran = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_its_lines_work(start):
    gateway = start(OPENAI_API_KEY="")
    asked, costs = [text.replace("http://127.0.0.1:8080", gateway.base_url) for kind, text in BLOCKS if "curl" in text]
    shown, told = [json.loads(text) for kind, text in BLOCKS if kind == "json"]
    answer = json.loads(shell(asked))
    assert answer.keys() == shown.keys()
    assert answer["metadata"].keys() == shown["metadata"].keys()
    assert answer["output"].startswith(shown["output"].removesuffix(" ..."))
    same = ("input_tokens", "output_tokens", "cost_usd", "cached", "cache_level")
    assert {name: answer["metadata"][name] for name in same} == {name: shown["metadata"][name] for name in same}
    spent = json.loads(shell(costs))
    assert [{**one, "last_updated": ""} for one in spent.values()] == [{**one, "last_updated": ""} for one in told.values()]
    assert spent.keys() == told.keys()


def test_the_quick_start_of_seed_001(start):
    """Its four lines, against a gateway that `make run-dspy` would start; the provider's key is set, as there."""
    gateway = start()
    for target in ("test-health", "test-predict", "test-metrics", "test-costs"):
        ran = make(target, f"PORT={gateway.port}", "MODEL=gpt-3.5-turbo")
        assert ran.returncode == 0, ran.stderr
        if target == "test-predict":
            assert json.loads(ran.stdout)["output"] == "Paris"
        if target == "test-costs":
            assert json.loads(ran.stdout)["gpt-3.5-turbo:baseline"]["total_requests"] == 1


def test_without_dspy_make_says_what_lacks(serve):
    program = serve()
    ran = make("test-predict", f"PORT={program.port}")
    assert ran.returncode == 2
    assert "answered 501" in ran.stderr
    assert "pip install 'sentinel-gateway[dspy]'" in ran.stderr
