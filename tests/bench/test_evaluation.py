"""The report says what was measured: on a small made-up world, all rules, and a few pairs."""

import pytest

from bench import evaluation
from sentinel_gateway.evaluation.policies import Guards, Sentinel
from sentinel_gateway.evaluation.traps import Pair
from tests.evaluation.worlds import world


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.fixture(scope="module")
def runs():
    corpus, stream = world(20, 30)
    scene = evaluation.Scene("S1", corpus, lambda seed: stream[seed:] + stream[:seed])
    return evaluation.measure(scene, seeds=[0, 1], noises=[0.0, 0.05])


def test_each_rule_has_a_line_with_its_mean_and_range(runs):
    header, _, *lines = evaluation.table(runs)
    found = {tuple(cells(line)[:2]): cells(line) for line in lines}
    assert all(len(line) == len(cells(header)) for line in found.values())
    assert {noise for rule, noise in found if rule == "Sentinel at 1 %"} == {"0%", "5%"}
    ideal = found["ideal", ""]
    assert ideal[2] == f"{100 * 580 / 599:.1f} %"
    assert found["cosine 0.60 (GPTCache)", ""][2] != ideal[2]
    assert any(rule.startswith("second half: best cosine with hindsight (") for rule, _ in found)
    assert " to " in found["vCache at 1 %", "5%"][2]


def test_bars_compare_with_vcache_and_hindsight(runs):
    said = list(evaluation.bars("S1", runs))
    assert said[0].startswith("- S1: error within 1 % in ")
    assert sum("times vCache's hits" in line for line in said) == 2
    assert "best cosine with hindsight" in said[-1]


def test_pairs_are_told_by_kind_and_truth(tmp_path):
    pairs = [
        Pair("number", "What is 2+2?", "What is 2+3?", same=False),
        Pair("wording", "How do I pay my bill?", "How do I pay my bill please?", same=True),
    ]
    learned = Sentinel([], Guards([]), budget=0.01)
    lines = list(evaluation.trap_tables({"made up": pairs}, tmp_path, learned))
    assert lines[1] == "### made up"
    assert "| number (must not) | 1 | 0.0 % | 0.0 % | 0.0 % | 0.0 % |" in lines
    assert "| wording (may serve) | 1 | 100.0 % | 100.0 % | 100.0 % | 100.0 % |" in lines
    assert lines[-1].startswith("| **all that may serve** | 1 | 1 (100.00 %)")
