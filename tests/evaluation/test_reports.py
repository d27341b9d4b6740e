"""What people read of a measurement: all of it that matters, and not a page for each category of a large file."""

import time

import msgspec

from sentinel_gateway.evaluation.document import page, text
from sentinel_gateway.evaluation.measured import Evaluation, Trial, rule
from sentinel_gateway.evaluation.reports import CATEGORIES, evaluation_report


def evaluation(trials: list[Trial], **counts: int) -> Evaluation:
    return Evaluation(
        file="f",
        kind="stream",
        rows=len(trials),
        may_serve=0,
        rules=[rule("Sentinel", "s", trials)],
        latency=[],
        bad_lines=0,
        bad=[],
        notes=[],
        **counts,
    )


def test_of_many_categories_those_with_most_questions_are_listed():
    trials = [Trial(f"c{number:03}", 0.5, True, True) for number in range(CATEGORIES + 20) for _ in range(1 + number)]
    said = text(evaluation_report([evaluation(trials)], "now"))
    listed = [line.split()[0] for line in said.splitlines() if line.startswith("c0")]
    assert listed == [f"c{number:03}" for number in range(20, CATEGORIES + 20)]
    assert "20 more categories with fewer questions are not listed here; --json has all." in " ".join(said.split())
    few = text(evaluation_report([evaluation(trials[:6])], "now"))
    assert "not listed" not in few
    assert "c002" in few


def test_a_category_for_each_question_takes_no_longer_than_the_questions():
    started = time.process_time()
    found = rule("r", "s", [Trial(str(number), 0.5, True, True) for number in range(30_000)])
    assert len(found.categories) == 30_000
    assert time.process_time() - started < 10, "some hundred seconds where each is looked for among all"


def test_what_is_in_no_rate_is_told():
    said = page(evaluation_report([evaluation([], exact=3, alone=1_234)], "now"))
    assert "3 had been asked before to the letter, and are in no rate." in said
    assert "1,234 are answered by the very same request alone (bound to a moment or to who asks, long, or foreign)" in said


def test_rules_that_rank_alike_are_one_line_of_the_chart():
    trials = [Trial("", 0.9, True, True), Trial("", 0.8, False, True)]
    others = [Trial("", 0.9, False, True)]
    rules = [rule("one", "s", trials), rule("two", "s", trials), rule("three", "s", others)]
    said = page(evaluation_report([msgspec.structs.replace(evaluation(trials), rules=rules)], "now"))
    assert said.count("<polyline") == 2
    assert "one, two</li>" in said
