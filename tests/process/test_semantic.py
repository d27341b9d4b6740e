"""Reworded questions, by a program that is killed, that lacks its model, and that is watched for what it leaves behind."""

import json
import shutil
import time
from pathlib import Path
from typing import Any

import sentinel_gateway
from tests.process.conftest import DEADLINE, Program, committed

FRANCE = "What is the capital of France?"
REWORDED = "What's the capital of France?"
PACKAGE = Path(sentinel_gateway.__file__).parent


def seen(program: Program, text: str) -> str:
    return program.ask(text).headers["x-cache"]


def events(program: Program) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in program.lines.read_text().splitlines()]
    return [line for line in lines if line["event"] != "request"]


def asked_until(program: Program, text: str, wanted: str) -> None:
    """What is restored comes back beside the start, and what is written is written soon."""
    end = time.monotonic() + DEADLINE
    while seen(program, text) != wanted:
        assert time.monotonic() < end, f"never {wanted}"
        time.sleep(0.05)


def test_a_semantic_hit_survives_kill_9(serve, tmp_path) -> None:
    program = serve()
    assert [seen(program, text) for text in (FRANCE, FRANCE, REWORDED)] == ["miss", "exact", "semantic"]
    committed(tmp_path, "questions WHERE vector IS NOT NULL", 1)
    program.kill()

    program = serve()
    end = time.monotonic() + DEADLINE
    while (answer := program.ask(REWORDED, **{"Cache-Control": "only-if-cached"})).status == 504:
        assert time.monotonic() < end, "never restored"
        time.sleep(0.05)
    assert (answer.headers["x-cache"], answer.headers["x-cache-similarity"]) == ("semantic", "0.987")
    assert seen(program, FRANCE) == "exact"
    program.stop()


def test_without_its_model_it_answers_as_before_and_says_so_once(serve, tmp_path) -> None:
    shutil.copytree(PACKAGE, tmp_path / "src" / "sentinel_gateway", ignore=shutil.ignore_patterns("*.onnx", "__pycache__"))
    program = serve(PYTHONPATH=str(tmp_path / "src"))
    assert [seen(program, text) for text in (FRANCE, FRANCE, REWORDED, REWORDED)] == ["miss", "exact", "miss", "exact"]
    assert program.ask("Something else?").headers["cache-status"].startswith('sentinel-vector;fwd=miss;detail="tier-down"')
    health = program.request("GET", "/health")
    assert (health.status, health.json["services"]["embeddings"]) == (503, {"status": "down"})
    assert program.request("GET", "/ready").status == 200
    program.stop()
    (event,) = [event for event in events(program) if event["event"] == "embedder_down"]
    assert "model.int8.onnx" in event["reason"]
    assert event["level"] == "warning"
    assert "semantic" not in program.errors.read_text(), "the greeting promises what can't be"


def test_it_leaves_nothing_in_the_home_folder_but_its_data(serve, tmp_path) -> None:
    """The runtime of the model would keep a device id there, and send it home."""
    program = serve()
    assert [seen(program, text) for text in (FRANCE, REWORDED)] == ["miss", "semantic"]
    own = {program.errors.name, program.lines.name}
    folders = {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*")} - own
    assert folders <= {".local", "data"}
    opened = [fd.readlink() for fd in Path(f"/proc/{program.process.pid}/fd").iterdir() if fd.exists()]
    assert not [path for path in opened if "onnxruntime" in str(path)]
    program.stop()
