"""docs/query.md says what the code says."""

import json
import re
import subprocess
from pathlib import Path

from sentinel_gateway.api import batch
from sentinel_gateway.api.wire import query
from sentinel_gateway.api.wire.batch import ID_LENGTH, Result, Summary
from sentinel_gateway.settings.batch import Batch
from sentinel_gateway.settings.presets import PRESETS
from tests.process.conftest import serve

__all__ = ["serve"]

PAGE = (Path(__file__).parents[2] / "docs" / "query.md").read_text()


def firsts(heading: str) -> list[str]:
    """The words in the first column of the table below a heading."""
    table = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    return re.findall(r"`([^`]+)`", " ".join(cells))


def test_every_member_is_explained_and_no_other():
    assert firsts("What you send") == list(query.QueryBody.model_fields)
    assert firsts("What you get") == list(query.QueryAnswer.__struct_fields__)


def test_the_default_models_are_the_presets():
    told = re.findall(r"`(\w+/[\w.-]+)`", PAGE.partition("Unset, it is")[2].partition("## Errors")[0])
    assert told == [f"{preset.name}/{preset.default_model}" for preset in PRESETS.values() if preset.default_model]


TOGETHER = PAGE.partition("## Many at once\n")[2].partition("\n## ")[0]


def said(command: str, base_url: str) -> str:
    ran = ["sh", "-c", command.replace("http://127.0.0.1:8080", base_url)]
    return subprocess.run(ran, capture_output=True, text=True, timeout=30, check=True).stdout


def test_the_batch_on_the_page_is_answered_as_it_says(serve):
    whole, streamed = re.findall(r"```sh\n(.*?)```", TOGETHER, re.DOTALL)
    [shown] = map(json.loads, re.findall(r"```json\n(.*?)```", TOGETHER, re.DOTALL))
    program = serve()
    base_url = program.base_url
    answer = json.loads(said(whole, base_url))
    for told, one in zip(shown["results"], answer["results"], strict=True):
        assert told.keys() == one.keys()
        for name in ("index", "id", "status", "duplicate_of"):
            assert told.get(name) == one.get(name)
        for name in told.keys() & {"answer", "problem"}:
            members = {member: value for member, value in told[name].items() if value != "..." and member != "similarity_score"}
            assert members.items() <= one[name].items()
    counts = {name: value for name, value in shown["summary"].items() if name not in {"cost_usd", "saved_usd", "latency_ms"}}
    assert answer["summary"] | counts == answer["summary"]
    assert list(answer["summary"]) == list(shown["summary"])
    *results, last = map(json.loads, said(streamed, base_url).splitlines())
    assert sorted(one["index"] for one in results) == [0, 1]
    assert last["summary"]["exact_hits"] == 2
    program.stop()
    logged = [json.loads(line) for line in program.lines.read_text().splitlines()]
    of_the_batch = [line for line in logged if line.get("request_id") in {one["request_id"] for one in answer["results"]}]
    assert [(line["route"], line["status"]) for line in of_the_batch].count(("/v1/query", 200)) == 4
    assert len(of_the_batch) == len(answer["results"])


def test_what_a_batch_says_is_explained_and_its_figures_are_the_code_s():
    assert sorted(firsts("Many at once")) == sorted([*Result.__struct_fields__, *Summary.__struct_fields__])
    usual = Batch()
    for figure in (
        f"up to {usual.queries:,} queries",
        f"{usual.concurrency} queries of a batch",
        f"on {usual.in_flight} batches",
        f"{batch.MOST_HELD >> 20} MiB long",
        f"up to {ID_LENGTH} characters",
    ):
        assert figure in TOGETHER
