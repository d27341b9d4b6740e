"""docs/security.md and docs/faq.md name settings, events and limits that there are, and say of them what the code does."""

import re
from pathlib import Path

import pytest

from sentinel_gateway.api.bodies import MOST_PARTS
from sentinel_gateway.api.head import MOST_PARAMETERS
from sentinel_gateway.api.wire.json_body import MAX_FIELDS, MAX_PARTS
from sentinel_gateway.core.alerting.rules import DEFAULTS
from sentinel_gateway.pipeline import decisions, remembered
from sentinel_gateway.settings.load import MOST_OF_DRAFT
from sentinel_gateway.settings.model import Ledger
from sentinel_gateway.settings.schema import fixed_settings
from sentinel_gateway.stores.evidence import EvidenceLimits
from tests.shape.test_hygiene import MAX_DEPENDENCIES

ROOT = Path(__file__).parents[2]
SECURITY = (ROOT / "docs" / "security.md").read_text()
SETTINGS = {".".join(place): field for place, field in fixed_settings()}


@pytest.mark.parametrize("page", ["security", "faq"])
def test_settings_that_are_named_are_there(page):
    text = (ROOT / "docs" / f"{page}.md").read_text()
    spoken = set(re.findall(r"`((?:cache|ledger|server|keys|admin|routing)\.[a-z_.]+)[:`]", text))
    assert {name for name in spoken if not name.endswith(".db")} <= SETTINGS.keys()
    assert spoken


def test_figures_are_those_of_the_code():
    assert f"{MAX_FIELDS:,} fields, {MAX_PARTS:,} keys and values in all ({MOST_PARTS:,} in an administrative body)" in SECURITY
    assert f"{MOST_OF_DRAFT:,} in a draft of a configuration" in SECURITY
    assert f"with {MOST_PARAMETERS} parameters at most" in SECURITY
    assert f"| {Ledger().retention:g} days (`ledger.retention`)" in SECURITY
    assert f"| {EvidenceLimits().seconds / 86_400:g} days |" in SECURITY
    assert f"the last {decisions.KEPT} |" in SECURITY
    assert f"the last {remembered.MOST} of them" in SECURITY
    assert f"those of the last {remembered.MOST} requests" in (ROOT / "docs" / "faq.md").read_text()
    assert (MAX_DEPENDENCIES, "At most eighteen direct dependencies" in SECURITY) == (18, True)
    budget = SETTINGS["cache.max_wrong_hit_rate"].default
    assert f"({100 * budget:g} % of the questions that are compared" in (ROOT / "docs" / "faq.md").read_text()


def test_alerts_that_come_with_a_channel_are_defaults():
    [named] = re.findall(r"a channel for \[alerts\]\(alerts.md\)\. (.*) are on with it", SECURITY)
    assert set(re.findall(r"`([\w-]+)`", named)) <= {rule.name for rule in DEFAULTS}
