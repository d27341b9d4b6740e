"""`POST /v1/predict` where DSPy is not installed, as in the environment of these tests. With it: `tests/programs`."""

import importlib.util
import subprocess
import sys

import pytest

from tests.gateway import running_gateway

pytestmark = pytest.mark.anyio

PREDICT = "/v1/predict"
ASKED = {"model": "demo", "variant": "baseline", "input": "What is the capital of France?"}


@pytest.fixture
async def gateway(chaos, tmp_path):
    assert importlib.util.find_spec("dspy") is None, "this environment must lack it"
    async with running_gateway(tmp_path, config="programs: {qa: {signature: 'question -> answer'}}") as gateway:
        yield gateway


async def test_without_dspy_it_says_what_to_install(gateway):
    for variant in ("baseline", "qa", "made-up"):
        answer = await gateway.ask(ASKED | {"variant": variant}, PREDICT)
        assert (answer.status, answer.headers["content-type"]) == (501, "application/problem+json")
        assert "pip install 'sentinel-gateway[dspy]'" in answer.json["error"]
        assert answer.json["code"] == "not_installed"
        assert answer.headers["x-should-retry"] == "false"
    assert gateway.metric('dspy_errors_total{error_type="not_installed"}') == 3
    assert gateway.metric('sentinel_events_total{event="programs_missing"}') == 1, "the operator has been told at the start"
    assert gateway.places() == 0


async def test_its_other_errors_need_no_dspy(gateway):
    assert (await gateway.get(PREDICT)).status == 405
    assert (await gateway.ask(ASKED, f"{PREDICT}/cot")).status == 404
    assert (await gateway.ask(ASKED, f"{PREDICT}s")).status == 404
    assert (await gateway.ask(ASKED, PREDICT, origin="https://evil.example")).status == 403
    assert (await gateway.get(PREDICT)).headers["allow"] == "POST"


async def test_config_is_for_readers(gateway):
    shown = await gateway.get("/config")
    assert shown.status == 200
    assert shown.json["programs"]["qa"]["signature"] == "question -> answer"
    await gateway.key()
    assert (await gateway.get("/config")).status == 401
    assert (await gateway.get("/config", headers=gateway.admin)).status == 200


def test_nothing_of_dspy_is_imported_by_the_rest():
    """Nor what it brings: start time and memory are as they were without it."""
    brought = {"dspy", "litellm", "openai", "orjson", "requests", "diskcache"}
    code = f"import sys, sentinel_gateway.cli, sentinel_gateway.app; print(sorted({brought} & sys.modules.keys()))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
