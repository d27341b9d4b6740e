"""The report says what was measured: on a small made-up world, all rules, and a few pairs."""

import pytest

from bench import evaluation, pairs
from sentinel_gateway.evaluation.policies import Guards, Sentinel, Terms
from sentinel_gateway.evaluation.tally import Tally
from sentinel_gateway.evaluation.traps import Pair
from sentinel_gateway.settings.model import Settings
from tests.evaluation.worlds import world


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.fixture(scope="module")
def runs():
    corpus, stream = world(20, 30)
    scene = evaluation.Scene("S1", corpus, lambda seed: stream[seed:] + stream[:seed], full=True)
    return evaluation.measure(scene, seeds=[0, 1], noises=[0.0, 0.05])[0]


def test_each_rule_has_a_line_with_its_mean_and_range(runs):
    header, _, *lines = evaluation.table(runs)
    found = {tuple(cells(line)[:2]): cells(line) for line in lines}
    assert all(len(line) == len(cells(header)) for line in found.values())
    assert {noise for rule, noise in found if rule == "Sentinel at 1 %"} == {
        "errs in 0%",
        "errs in 5%",
        "errs in 0%, silent in 50%",
    }
    ideal = found["ideal", ""]
    assert ideal[2] == f"{100 * 580 / 599:.1f} %"
    assert found["cosine 0.60 (GPTCache)", ""][2] != ideal[2]
    for where in ("", "second half: "):
        assert any(rule.startswith(f"{where}best cosine with hindsight (") for rule, _ in found)
    assert " to " in found["vCache at 1 %", "errs in 5%"][2]


def test_bars_compare_with_vcache_and_hindsight(runs):
    said = list(evaluation.bars("S1", runs))
    assert said[0].startswith("- S1: error within 1 % in ")
    assert sum("times vCache's hits" in line for line in said) == 2
    assert "best cosine with hindsight" in said[-1]


def test_hindsight_takes_most_hits_within_the_budget():
    def tally(*wrong: bool) -> Tally:
        return Tally([(True, was) for was in wrong] + [(False, False)] * 2)

    strict, middle, lax = tally(False), tally(False, False), tally(False, False, True)
    assert evaluation.best([(0.9, strict), (0.8, middle), (0.7, lax)]) == (0.8, middle)
    assert evaluation.best([(0.7, lax)]) == (1.0, Tally())


def test_whoever_knew_the_best_threshold_has_its_share_of_vcaches_hits(runs):
    known = [run.tally.hit_rate for run in runs if run.rule.startswith("best cosine with hindsight")]
    theirs = [run.tally.hit_rate for run in runs if (run.rule, run.judge.errs) == ("vCache at 1 %", 0.0)]
    assert len(known) == len(theirs) == 2
    (line,) = (line for line in evaluation.bars("S1", runs) if "errs in 0%" in line)
    assert line.endswith(f"(bar: 3; best cosine with hindsight: {sum(known) / sum(theirs):.1f}).")


def test_a_stream_that_nobody_has_labelled_tells_hits_alone():
    corpus, stream = world(20, 30)
    scene = evaluation.Scene("S4", corpus, lambda _: stream + stream[:60], unlabelled=True)
    runs, left = evaluation.measure(scene, seeds=[0], noises=[0.0])
    assert left == 0
    lines = list(evaluation.hits_alone(runs))
    assert {len(cells(line)) for line in lines} == {3}
    assert any(line.startswith("| cosine 0.60 (GPTCache) | ") for line in lines)
    assert not any("Sentinel at" in line for line in lines), "there is nothing to learn from"


def test_pairs_are_told_by_kind_and_truth(tmp_path):
    some = [
        Pair("number", "What is 2+2?", "What is 2+3?", same=False),
        Pair("personal", "Where is my order?", "Where is my order please?", same=False),
        Pair("wording", "How do I pay my bill?", "How do I pay my bill please?", same=True),
    ]
    learned = Sentinel([], Guards([]), Terms.of(Settings(), budget=0.01))
    lines = list(pairs.tables({"generated": some}, tmp_path, learned))
    assert lines[1] == "### generated"
    assert cells(lines[3])[2:] == ["cosine 0.85", "cosine 0.95", "guards, cosine 0.7", "Sentinel, new", "Sentinel after S1"]
    assert "| number (must not) | 1 | 100.0 % | 0.0 % | 0.0 % | 0.0 % | 0.0 % |" in lines
    assert "| personal (must not) | 1 | 0.0 % | 0.0 % | 0.0 % | 0.0 % | 0.0 % |" in lines, "answered by the very same alone"
    assert any(line.startswith("| wording (may serve) | 1 | 100.0 %") for line in lines)
    assert lines[-1] == "Bar: 0 of 1 number and negation pairs served wrongly at worst (0.00 %; bar: 1 %)."


def test_every_part_has_its_section_in_order(tmp_path, monkeypatch):
    corpus, stream = world(20, 30)
    scene = evaluation.Scene("a scene", corpus, lambda _: stream)
    monkeypatch.setattr(evaluation, "scenes", lambda *_: [scene])
    task = evaluation.Task(tmp_path, tmp_path, [0], [0.0])
    section, said = evaluation.reported("S6", task)
    assert section[1] == "## a scene"
    assert said == [f"- a scene: 0 wrong hits in {len(stream) - 1} requests."]


def test_a_set_that_is_not_there_is_named_and_the_rest_measured(tmp_path):
    task = evaluation.Task(tmp_path, tmp_path, seeds=[0], noises=[0.0])
    section, bars = evaluation.reported("S2", task)
    assert section[1] == "## S2"
    assert section[3].startswith(f"Left out: there is no {tmp_path}/clinc150/*.tsv.gz. Which sets there are,")
    assert bars == []


def test_without_a_folder_of_sets_it_says_what_to_do(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["bench.evaluation", "--data", str(tmp_path / "none")])
    with pytest.raises(SystemExit) as ended:
        evaluation.main()
    assert ended.value.code == 2
    assert "none: make eval DATA=FOLDER. Which sets there are" in capsys.readouterr().err
