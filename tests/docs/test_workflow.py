"""The workflows are such by the published schema, and ask for nothing but what `make`, `.ci/run` and docs/deploying.md have."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = ROOT / ".github" / "workflows"
WORKFLOW, DEPLOY = WORKFLOWS / "ci.yml", WORKFLOWS / "deploy.yml"
SHA = re.compile(r"[0-9a-f]{40}")


def checked(workflow: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", workflow]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_these_are_all():
    assert sorted(WORKFLOWS.iterdir()) == [WORKFLOW, DEPLOY]


@pytest.mark.parametrize("workflow", [WORKFLOW, DEPLOY], ids=lambda path: path.stem)
def test_the_workflow_is_one(workflow, tmp_path):
    assert checked(workflow).returncode == 0, checked(workflow).stdout
    wrong = tmp_path / "wrong.yml"
    wrong.write_text(workflow.read_text().replace("runs-on:", "run-on:"))
    assert "run-on" in checked(wrong).stdout


def test_it_runs_what_there_is():
    jobs = yaml.safe_load(WORKFLOW.read_text())["jobs"]
    commands = "\n".join(step.get("run", "") for job in jobs.values() for step in job["steps"])
    targets = set(re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split())
    asked = set(re.findall(r"^make ([a-z-]+)", commands, re.MULTILINE))
    assert "docker-build" in asked, "the image that is looked through is not the one that users build"
    assert asked <= targets
    assert ".ci/run" in commands
    assert {job["timeout-minutes"] for job in jobs.values()} <= set(range(91)), "nothing may run for ever"


def test_the_suite_has_the_rights_that_its_tests_ask_for():
    """Where all is required, a right that is missing is a failure: some tests mount, and some make namespaces."""
    job = yaml.safe_load(WORKFLOW.read_text())["jobs"]["test"]
    assert any(step.get("run", "").rstrip().endswith(".ci/run") for step in job["steps"])
    assert "SENTINEL_TEST_REQUIRE=all" in (ROOT / ".ci" / "run").read_text()
    assert job["container"]["options"] == "--privileged"


def test_a_known_weakness_of_what_is_installed_fails_it():
    """S4. The bill is kept with the run."""
    commands = [step.get("run") for step in yaml.safe_load(WORKFLOW.read_text())["jobs"]["supply"]["steps"]]
    assert {"make audit", "make sbom"} <= set(commands)
    audited = re.search(r"^audit:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)[1]
    assert "--strict" in audited
    assert "|| exit 1" in audited, "the last lock alone would be told of"


def test_nobody_outside_may_write_by_it():
    workflow = yaml.safe_load(WORKFLOW.read_text())
    assert workflow["permissions"] == {"contents": "read"}
    assert "pull_request_target" not in WORKFLOW.read_text()
    assert "secrets." not in WORKFLOW.read_text()


def test_the_image_is_looked_through_for_known_holes():
    """That of the very build, and a hole that could be mended fails."""
    build, scan = yaml.safe_load(WORKFLOW.read_text())["jobs"]["image"]["steps"][1:]
    assert scan["with"]["image"] in build["run"]
    assert scan["with"] | {"severity-cutoff": "high", "only-fixed": True} == scan["with"]


def test_what_was_passed_on_main_is_deployed_and_nothing_else():
    workflow = yaml.safe_load(DEPLOY.read_text())
    assert workflow["permissions"] == {"contents": "read"}
    asked = workflow[True]  # YAML takes `on` for a truth
    assert asked == {"workflow_run": {"workflows": ["ci"], "types": ["completed"], "branches": ["main"]}}
    assert yaml.safe_load(WORKFLOW.read_text())["name"] == "ci"
    [job] = workflow["jobs"].values()
    conditions = job["if"].split(" && ")
    assert "vars.FLY_APP != ''" in conditions, "off until somebody wants it"
    assert "github.event.workflow_run.conclusion == 'success'" in conditions
    assert "github.event.workflow_run.event == 'push'" in conditions, "no request to pull has a say"
    assert job["environment"] == "production"
    assert job["concurrency"]["cancel-in-progress"] is False, "a deployment is not broken off"
    assert "concurrency" not in workflow, "a run that deploys nothing would displace one that waits"
    checkout = next(step for step in job["steps"] if step.get("uses", "").startswith("actions/checkout@"))
    assert checkout["with"]["ref"] == "${{ github.event.workflow_run.head_sha }}"


@pytest.mark.parametrize("workflow", [WORKFLOW, DEPLOY], ids=lambda path: path.stem)
def test_what_others_wrote_can_not_change(workflow):
    """Actions are named by their commits: a tag may be put on others."""
    jobs = yaml.safe_load(workflow.read_text())["jobs"].values()
    used = [step["uses"] for job in jobs for step in job["steps"] if "uses" in step]
    assert used
    assert all(SHA.fullmatch(one.rpartition("@")[2]) for one in used)


def test_the_token_is_said_by_the_environment_alone():
    [job] = yaml.safe_load(DEPLOY.read_text())["jobs"].values()
    assert not any("${{" in step.get("run", "") for step in job["steps"])
    assert [name for step in job["steps"] for name, value in step.get("env", {}).items() if "secrets." in value] == [
        "FLY_API_TOKEN"
    ]


def test_the_page_tells_how_to_switch_it_on():
    page = (ROOT / "docs" / "deploying.md").read_text()
    told = page[page.index("### By itself") : page.index("## Upgrade, and back")]
    text = DEPLOY.read_text()
    for name in ("FLY_APP", "FLY_API_TOKEN", "production"):
        assert f"`{name}`" in told
        assert name in text
    deploys = re.search(r"flyctl (deploy .*) --app", text)[1]
    assert all(flag in deploys for flag in re.search(r"^fly deploy (--ha=false)$", page, re.MULTILINE).groups())
