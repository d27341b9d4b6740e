"""The room `alerts`: what may be written, and what is said of what may not."""

from typing import get_args

import pytest

from sentinel_gateway.alarms import make_rules
from sentinel_gateway.core.alerting import rules
from sentinel_gateway.core.alerting.conditions import PAIRS
from sentinel_gateway.settings.alerts import KINDS, SLOWEST_BURN, Metric
from sentinel_gateway.settings.model import is_key, is_secret

SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
HOOK = f"{{webhook: 'https://hooks.example.com/x', secret: {SECRET}}}"


def test_its_metrics_and_kinds_are_those_of_the_rules():
    assert set(get_args(Metric)) == rules.UNITS.keys()
    assert KINDS["change"] == rules.CALL_METRICS | rules.SERVED_METRICS
    assert KINDS["burn_rate"] == rules.BURNT
    assert min(factor for _, _, factor in PAIRS) == SLOWEST_BURN
    assert KINDS["forecast"] == rules.FORECAST


def test_nobody_looks_until_there_is_a_channel_or_a_rule(configure):
    assert not configure().settings.alerts.on
    assert configure(f"alerts: {{channels: {{ops: {HOOK}}}}}").settings.alerts.on
    assert configure("alerts: {rules: {a: {metric: hit_rate, below: 0.1}}}").settings.alerts.on
    assert configure("alerts: {enabled: true}").settings.alerts.on
    assert not configure(f"alerts: {{enabled: false, channels: {{ops: {HOOK}}}}}").settings.alerts.on


def test_rules_of_yours_stand_beside_the_default_ones_or_in_their_place(configure):
    written = """
    alerts:
      rules:
        slow: {metric: latency_p95_ms, above: 5000, by: provider, after: 600, severity: page}
        circuit-open: {enabled: false}
        hit-rate-dropped: {kind: change, metric: hit_rate, below: 0.8, against: 3600}
        budget: {kind: burn_rate, metric: error_rate, allowed: 0.02}
    """
    settings = configure(written, env={"SENTINEL_CACHE__MAX_WRONG_HIT_RATE": "0.03"}).settings
    made = {rule.name: rule for rule in make_rules(settings)}
    assert made["slow"] == rules.Rule(name="slow", metric="latency_p95_ms", limit=5000, by="provider", after=600, severity="page")
    assert "circuit-open" not in made
    assert (made["hit-rate-dropped"].limit, made["hit-rate-dropped"].below, made["hit-rate-dropped"].against) == (0.8, True, 3600)
    assert made["budget"].limit == 0.02
    assert made["wrong-answers"].limit == 0.03
    assert len(made) == len(rules.default_rules(most_wrong=0.01)) + 1
    alone = configure("alerts: {defaults: false, rules: {a: {metric: hit_rate, below: 0.1}}}").settings
    assert [rule.name for rule in make_rules(alone)] == ["a"]


@pytest.mark.parametrize(
    ("yaml", "place", "remedy"),
    [
        ("{every: 0.5}", "every", "at least 1"),
        ("{chanels: {}}", "chanels", "did you mean 'channels'?"),
        ("{channels: {Ops: {}}}", "channels.Ops", "lower-case letters"),
        ("{channels: {ops: {}}}", "channels.ops", "needs either webhook, with its secret, or apprise"),
        ("{channels: {ops: {webhook: 'https://a/b'}}}", "channels.ops", "openssl rand -base64 32"),
        (f"{{channels: {{ops: {{apprise: 'json://a', secret: {SECRET}}}}}}}", "channels.ops", "leave it out"),
        (f"{{channels: {{ops: {{webhook: 'ftp://a', secret: {SECRET}}}}}}}", "channels.ops.webhook", "http or https"),
        (f"{{channels: {{ops: {{webhook: 'https://u:p@a/', secret: {SECRET}}}}}}}", "channels.ops.webhook", "no credentials"),
        ("{channels: {ops: {webhook: 'https://a/', secret: ''}}}", "channels.ops.secret", "24 to 64 random bytes"),
        ("{channels: {ops: {webhook: 'https://a/', secret: whsec_YWJj}}}", "channels.ops.secret", "24 to 64 random bytes"),
        ("{channels: {ops: {webhook: 'https://a/', secret: abcdefghijklmnopqrstuvwxyz012345}}}", "channels.ops.secret", "whsec_"),
        ("{channels: {ops: {apprise: nothing}}}", "channels.ops.apprise", "a URL of Apprise's"),
        ("{rules: {a: {}}}", "rules.a", "needs a metric"),
        ("{rules: {a: {metric: hit_rat, below: 1}}}", "rules.a.metric", "'hit_rate'"),
        ("{rules: {a: {metric: hit_rate}}}", "rules.a", "either above or below"),
        ("{rules: {a: {metric: hit_rate, above: 1, below: 1}}}", "rules.a", "either above or below"),
        ("{rules: {a: {metric: hit_rate, belov: 1}}}", "rules.a.belov", "did you mean 'below'?"),
        ("{rules: {a: {kind: change, metric: budget_used, above: 1}}}", "rules.a", "which there is of cost_per_request"),
        ("{rules: {a: {kind: burn_rate, metric: error_rate}}}", "rules.a", "needs 'allowed'"),
        ("{rules: {a: {kind: burn_rate, metric: error_rate, allowed: 0.1, above: 1}}}", "rules.a", "has 'above'"),
        ("{rules: {a: {kind: burn_rate, metric: error_rate, allowed: 0.2}}}", "rules.a", "can't come 6 times faster"),
        ("{rules: {a: {metric: error_rate, allowed: 0.1, above: 1}}}", "rules.a", "has 'allowed'"),
        ("{rules: {a: {kind: anomaly, metric: error_rate}}}", "rules.a", "has 'metric'"),
        ("{rules: {a: {metric: hit_rate, below: 1, channels: [ops]}}}", "rules.a.channels.0", "none is configured"),
    ],
)
def test_one_fault(faults, yaml, place, remedy):
    [(found, sentence)] = faults(f"alerts: {yaml}")
    assert found == f"sentinel.yaml:1 alerts.{place}"
    assert remedy in sentence


def test_a_channel_that_is_not_there_is_looked_for(faults):
    yaml = f"alerts: {{channels: {{ops: {HOOK}}}, rules: {{a: {{metric: hit_rate, below: 1, channels: [opps]}}}}}}"
    [(_, sentence)] = faults(yaml)
    assert "did you mean 'ops'?" in sentence


@pytest.mark.parametrize("field", ["webhook", "secret", "apprise"])
def test_what_is_secret_of_a_channel_is_never_shown(field, faults, configure):
    place = ("alerts", "channels", "ops", field)
    assert is_secret(place)
    assert is_key(place) is (field != "webhook")
    canary = "s3cret-canary-of-a-channel"
    for _, sentence in faults(f"alerts: {{channels: {{ops: {{{field}: '{canary}'}}}}}}"):
        assert canary not in sentence
    settings = configure(f"alerts: {{channels: {{ops: {HOOK}, chat: {{apprise: 'slack://{canary}'}}}}}}").settings
    assert canary not in repr(settings)
    assert SECRET not in repr(settings)
    assert "hooks.example.com" not in repr(settings)


def test_a_secret_that_every_user_can_read_is_a_fault(faults):
    [(place, sentence)] = faults(f"alerts: {{channels: {{ops: {HOOK}}}}}", mode=0o644)
    assert place == "sentinel.yaml:1 alerts.channels.ops.secret"
    assert "chmod 600" in sentence


def test_without_a_ledger_it_is_said_what_rules_can_not_know(configure):
    loaded = configure("alerts: {enabled: true}\nledger: {enabled: false}")
    assert any("from the ledger, which is off" in note for note in loaded.notes)
