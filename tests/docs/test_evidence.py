"""docs/evidence.md says what the code says."""

import json
import re
import subprocess
from pathlib import Path

from sentinel_gateway.core.calibration import PACE
from sentinel_gateway.core.confidence.features import NAMES
from sentinel_gateway.core.confidence.learner import Prior
from sentinel_gateway.core.judging import ALIKE, LEAD, SHARED
from sentinel_gateway.core.tightening import OFF, least_similarity
from sentinel_gateway.pipeline import exchange
from sentinel_gateway.pipeline.evidence import STUDIES
from sentinel_gateway.pipeline.evidence_log import FOLLOW, NOTHING, PAUSE, SCOPES, WAITING, WINDOW
from sentinel_gateway.pipeline.wards import IDLE, MEMORY, REALMS
from sentinel_gateway.settings.cache import Cache, Semantic
from sentinel_gateway.settings.load import load
from sentinel_gateway.stores import lessons
from sentinel_gateway.stores.evidence import DAY, USUAL
from sentinel_gateway.stores.learners import MOST
from sentinel_gateway.telemetry.evidence import EvidenceFigures, evidence_families
from tests.process.conftest import Program, serve

__all__ = ["serve"]

ADMIN = "an-admin-key-of-the-tests-that-is-long-enough"

PAGE = (Path(__file__).parents[2] / "docs" / "evidence.md").read_text()


def run(script: str, server: Program) -> str:
    script = f"SENTINEL_ADMIN_KEY={ADMIN}\n" + script.replace("http://127.0.0.1:8080", server.base_url)
    return subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=30, check=True).stdout


def test_the_curls_work(serve) -> None:
    feedback, administration = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    (promised,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    server = serve(SENTINEL_ADMIN_KEY=ADMIN)
    said = run(feedback, server)
    assert re.findall(r"^x-cache: (\w+)", said, re.MULTILINE) == ["miss", "semantic"]
    _, hit = re.findall(r"^x-sentinel-id: (\w+)", said, re.MULTILINE)
    told = json.loads(said[said.rindex("{") :])
    assert told == json.loads(promised) | {"sentinel_id": hit}
    said = run(administration.replace("8f0c...", hit), server)
    label, standing = said[: said.index("}") + 1], said[said.index("}") + 1 :]
    assert json.loads(label) == {"sentinel_id": hit, "kind": "served", "correct": True, "evicted": False}
    overall = json.loads(standing)["overall"]
    assert (overall["reached"], overall["hits"], overall["reported"]) == (1, 1, 1)
    assert (overall["wrong"]["observations"], overall["wrong"]["high"]) == (0, 1.0)


def test_the_example_is_a_configuration(tmp_path) -> None:
    [example] = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "sentinel.yaml").write_text(example)
    settings = load({"HOME": "/h"}, cwd=tmp_path).settings
    semantic, usual = settings.cache.semantic, Semantic()
    assert semantic.judge == "openai/gpt-4o-mini"
    assert semantic.model_copy(update={"judge": None}) == usual, "the others are the defaults"
    assert settings.cache.max_wrong_hit_rate == Cache().max_wrong_hit_rate


def test_every_metric_is_told() -> None:
    families = {family.name for family in evidence_families(EvidenceFigures({True: 0, False: 0}, {None: 0}, NOTHING))}
    assert len(families) == 8
    assert {name for name in families if f"`{name}" not in PAGE} == set()


def test_what_is_said_of_learning_is_what_it_does() -> None:
    prior = Prior()
    assert f"anew after {PACE.least} comparisons, later after {PACE.most}, from the last {PACE.window:,} requests" in PAGE
    assert f"{MOST} namespaces are kept, and those used last are in memory, as many as go into {MEMORY >> 20} MB" in PAGE
    assert "until another has not been asked for a minute" in PAGE
    assert (REALMS, IDLE) == (MOST, 60)
    assert f"Below {prior.least} comparisons" in PAGE
    assert f"the {len(NAMES)} numbers that it was told from" in PAGE
    assert STUDIES == 1
    assert exchange.PAUSE == 0.5, "told, and heard: within a second"
    assert FOLLOW == 1.0, "and asked: within two"
    assert f"comparisons wait ({exchange.WAITING:,} at most)" in PAGE
    assert "it goes an hour after" in PAGE
    assert lessons.LEARNED == 3_600
    assert lessons.KEPT == 30 * 86_400, "or after 30 days"
    assert f"about {lessons.OF_REALM:,} are kept at most" in PAGE
    semantic = (Path(__file__).parents[2] / "docs" / "semantic.md").read_text()
    for row in (f"fewer than {PACE.least}", f"{PACE.least} to {prior.least - 1}", f"{prior.least} and more"):
        assert f"| {row} |" in semantic


def test_the_bounds_are_those_that_are_told() -> None:
    assert PAUSE == 0.5
    assert f"up to {WAITING:,} rows wait" in PAGE
    assert f"they go after {USUAL.seconds / DAY:.0f} days, or when there are {USUAL.decisions:,}" in PAGE
    assert f"of the last {WINDOW / DAY:.0f} days, for all together and for the {SCOPES} busiest scopes" in PAGE
    assert f"(2) The beginnings ({LEAD} characters): alike in meaning (cosine {ALIKE} and more)" in PAGE
    assert SHARED == 0.5
    first, second = (round(least_similarity(0.95, level), 4) for level in range(1, OFF))
    assert f"from 0.95 to {first}, then to {second}, then nothing serves" in PAGE
