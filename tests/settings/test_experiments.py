"""What a configuration may say of experiments, and what it is told where that is no good."""

import pytest

from sentinel_gateway import rules
from sentinel_gateway.core.experiments import Arm, Experiment
from tests.settings.test_faults import FREE

TWO = "arms: {usual: {}, small: {model: local/small}}"


def test_all_that_may_be_said(configure):
    written = (
        FREE
        + "experiments:\n  cheaper: {by: key, share: 0.5, models: [m], keys: [key_1], tenants: [acme], namespaces: [n], "
        + "arms: {usual: , small: {weight: 3, model: local/small, ttl: 60, threshold: 0.9, "
        + "max_wrong_hit_rate: 0.005, shadow: true}}}\n"
        + f"  over: {{enabled: false, {TWO}}}\n"
    )
    arms = Arm("usual"), Arm("small", 3.0, "local/small", True, True, 0.9, 0.005, 60.0, True)
    about = (frozenset({one}) for one in ("m", "key_1", "acme", "n"))
    assert rules.experiments(configure(written).settings) == (Experiment("cheaper", arms, "key", 0.5, *about),)


@pytest.mark.parametrize(
    ("written", "place", "sentence"),
    [
        ("one: {arms: {usual: {}}}", "experiments.one.arms", "needs 2 to 10 of them"),
        ("one: {}", "experiments.one.arms", "lacks 'arms'"),
        ("One: {" + TWO + "}", "experiments.One", "a name here has up to 40 lower-case letters"),
        ("one: {arms: {usual: {}, 'a=b': {}}}", "experiments.one.arms.a=b", "a name here has up to 40 lower-case letters"),
        ("one: {share: 0, " + TWO + "}", "experiments.one.share", "more than 0"),
        ("one: {by: hour, " + TWO + "}", "experiments.one.by", "conversation"),
        ("one: {arms: {usual: {}, small: {model: nobody/small}}}", "experiments.one.arms.small.model", "no provider 'nobody'"),
        ("one: {arms: {usual: {}, small: {model: small}}}", "experiments.one.arms.small.model", "provider/model"),
        ("one: {arms: {usual: {}, off: {cache: false, ttl: 5}}}", "experiments.one.arms.off", "keeps nothing"),
        ("one: {arms: {usual: {}, off: {semantic: false, shadow: true}}}", "experiments.one.arms.off", "leave out the one"),
        ("one: {arms: {usual: {weight: 0}, off: {}}}", "experiments.one.arms.usual.weight", "more than 0"),
    ],
)
def test_one_fault(faults, written, place, sentence):
    [(where, said)] = faults(f"{FREE}experiments: {{{written}}}")
    assert where.endswith(place)
    assert sentence in said


def test_an_arm_that_answers_in_other_words_needs_a_tier_that_does(faults):
    written = f"{FREE}cache: {{semantic: {{enabled: false}}}}\nexperiments: {{one: {{arms: {{a: {{}}, b: {{threshold: 0.9}}}}}}}}"
    [(_, said)] = faults(written)
    assert "cache.semantic.enabled switches off" in said


def test_without_a_ledger_it_is_said_that_nobody_will_know(configure):
    written = f"{FREE}ledger: {{enabled: false}}\nexperiments: {{one: {{{TWO}}}}}"
    assert any("nobody will know what came of it" in note for note in configure(written).notes)


@pytest.mark.parametrize(
    ("arms", "is_noted"),
    [
        ("{usual: {}, few: {weight: 0.1}}", True),
        ("{usual: {weight: 2}, small: {weight: 2}}", False),
        ("{usual: {cache: false}, few: {weight: 0.1, cache: false}}", False),
    ],
)
def test_unlike_weights_are_said_not_to_be_judged(configure, arms, is_noted):
    notes = configure(f"{FREE}experiments: {{one: {{arms: {arms}}}}}").notes
    assert any("unlike weights" in note and "lower its share" in note for note in notes) is is_noted
