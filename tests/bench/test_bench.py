"""The bench's own parts: the report's arithmetic, the workloads, the processes; and all of it once, against a stand-in."""

import itertools
import json
import os
import sys
import time
from pathlib import Path

import msgspec
import pytest

from bench.load import Quantiles
from bench.processes import Cores, Process, ProcessFailed, free_port, share_out
from bench.report import Figure, Machine, Results, Slice, figures_table, markdown
from bench.run import PAIRS, SEARCH_BAR, Plan, bench, describe_machine, figures, searched, write
from bench.semantic import SIZES, Cost
from bench.workloads import BY_NAME, CHUNKS, IN_SCOPE, WORKLOADS, asked_before, blanks

STAND_IN = Path(__file__).with_name("stand_in.py")
MACHINE = Machine("a CPU", 2, "Linux 6", "3.11.7", {"uvloop": "1"}, 0.5)
GOOD = Slice("miss", 0, 100, 100, {}, 50.0, 0.002, 0.004, 0.001, 0.0, 0.0002, 1.0, 1)


def results(*, figures=(), slices=(GOOD,)):
    return Results("2026-01-02", "python -m bench.run", "1 round.", MACHINE, list(figures), list(slices))


def test_a_figure_holds_its_bar_with_the_median():
    assert Figure("a", "us", [50.0, 60.0, 90.0], 60.0).verdict == "ok"
    assert Figure("a", "us", [50.0, 60.1, 61.0], 60.0).verdict == "MISSED"
    assert Figure("a", "us", [1e9]).verdict == ""


def test_the_table_of_figures():
    rows = figures_table([Figure("hit", "us", [50.0, 70.0, 60.5], 60.0), Figure("memory", "MB", [10.0])]).splitlines()
    assert rows[2:] == [
        "| hit | us | 60.50 | 50.00 to 70.00 | <= 60 | MISSED |  |  |  |",
        "| memory | MB | 10.00 | 10.00 to 10.00 |  |  |  |  |  |",
    ]


def test_a_bar_is_carried_over_to_this_machine_by_the_floor():
    figure = Figure("miss", "us", [300.0, 330.0, 400.0], 220.0, floor=[200.0, 220.0, 500.0], floor_there=142.5)
    assert (figure.times_floor, figure.bar_here) == (1.5, pytest.approx(339.65, abs=0.01))
    assert (figure.verdict, figure.verdict_here) == ("MISSED", "ok")
    assert msgspec.structs.replace(figure, values=[340.0]).verdict_here == "MISSED"
    assert figures_table([figure]).endswith("| <= 220 | MISSED | 1.50 | <= 340 | ok |")
    assert msgspec.structs.replace(figure, bar=None).bar_here is None


def test_a_bar_without_a_floor_is_carried_over_by_other_work():
    figure = Figure("first byte", "ms", [2.0], 1.0, slowness=2.5)
    assert (figure.times_floor, figure.bar_here, figure.verdict_here) == (None, 2.5, "ok")
    assert figures_table([figure]).endswith("| <= 1 | MISSED |  | <= 2.5 | ok |")


@pytest.mark.parametrize(
    ("change", "failure"),
    [
        ({}, None),
        ({"upstream_calls": 1.005}, None),
        ({"problems": {"503": 2}, "good": 98}, "miss, round 0: 2 x 503"),
        ({"upstream_calls": 0.5}, "miss, round 0: 0.50 upstream calls a request, not 1"),
        ({"requests": 0, "good": 0}, "miss, round 0: no good answer"),
    ],
)
def test_a_run_that_can_not_be_trusted_does_not_hold(change, failure):
    found = results(slices=[msgspec.structs.replace(GOOD, **change)])
    assert found.failures == ([failure] if failure else [])
    assert found.holds is (failure is None)
    assert (f"- {failure}" in markdown(found)) is bool(failure)


def test_a_missed_bar_does_not_hold():
    assert results(figures=[Figure("a", "us", [1.0], 2.0)]).holds
    assert not results(figures=[Figure("a", "us", [3.0], 2.0)]).holds


def test_the_report_shows_machine_command_and_medians():
    text = markdown(results(slices=[GOOD, msgspec.structs.replace(GOOD, round=1, rate=70.0)]))
    assert "`python -m bench.run`" in text
    assert "a CPU, 2 cores, Linux 6, Python 3.11.7; uvloop 1. Load average at the start 0.50. 1 round." in text
    assert "| miss | 60 | 2.00 | 4.00 | 1.00 | 0.00 | 1.00 | 0 |" in text


def test_figures_are_made_of_slices():
    slices = [
        msgspec.structs.replace(
            GOOD, workload=workload.name, round=number, first_byte_p50=0.001 * (1 + number + len(workload.name))
        )
        for number, workload in itertools.product(range(2), WORKLOADS)
    ]
    found = {figure.name: figure for figure in figures(slices, {pair: [3e-6, 5e-6] for pair in PAIRS})}
    for pair in PAIRS:
        assert (found[pair.name].values, found[pair.name].bar) == (pytest.approx([3.0, 5.0]), pair.bar)
        assert {pair.of, pair.without, pair.floor} <= BY_NAME.keys()
    assert found["miss"].values == pytest.approx([200.0, 200.0])
    assert (found["exact hit"].bar, found["miss"].bar, found["stream"].bar, found["stream hit"].bar) == (60, 220, 40, None)
    assert (found["stream, translated"].bar, found["stream, routed, first byte added"].bar) == (40, 1)
    assert found["stream, first byte added"].values == pytest.approx([float(len("stream") - len("direct stream"))] * 2)


def test_the_machine_is_described():
    machine = describe_machine()
    assert (machine.cores, machine.python) == (os.cpu_count(), sys.version.split()[0])
    assert machine.cpu
    assert machine.versions["uvloop"]


def test_cores_are_shared_out():
    assert share_out([3]) == Cores(gateway=3, mock=3, load=3)
    assert share_out([1, 0]) == Cores(gateway=0, mock=1, load=1)
    assert share_out([7, 4, 5, 6]) == Cores(gateway=4, mock=5, load=6)


def test_searches_are_told_for_each_size_and_the_largest_has_a_bar():
    costs = {size: Cost(Quantiles(p50=0.2, p99=0.4), 0.3, 0.1) for size in SIZES}
    found = {(figure.name, figure.unit): figure for figure in searched(costs, slowness=2.0)}
    for size in ("1,000", "10,000", "100,000"):
        assert found[f"search, {size} in scope", "ms CPU"].values == [0.3]
        assert found[f"search, {size} in scope, on the event loop", "ms CPU"].values == [0.1]
        assert found[f"search, {size} in scope", "ms, p50"].values == [0.2]
    barred = {key: figure.bar for key, figure in found.items() if figure.bar is not None}
    assert barred == {("search, 100,000 in scope", "ms, p99"): SEARCH_BAR}


# workloads


def bodies(name, number=200):
    workload = next(workload for workload in WORKLOADS if workload.name == name)
    make = workload.make(itertools.count())
    return [make(0).body for _ in range(number)]


def test_blanks_are_another_spelling_for_each_number():
    assert len({blanks(number) for number in range(5000)}) == 5000


@pytest.mark.parametrize("name", [workload.name for workload in WORKLOADS])
def test_hits_are_one_request_and_misses_are_many(name):
    workload = next(workload for workload in WORKLOADS if workload.name == name)
    asked = bodies(name)
    meant = {json.dumps(json.loads(body), sort_keys=True) for body in asked}
    assert len(meant) == (len(asked) if workload.upstream_calls or name == "semantic hit" else 1)
    assert {len(body) // 500 for body in asked} == {2}
    assert json.loads(asked[0]).get("stream", False) is ("stream" in name)


def test_reworded_questions_are_among_those_asked_before_and_rarely_the_same():
    before = {json.loads(asked_before(number).body)["messages"][1]["content"] for number in range(IN_SCOPE)}
    assert len(before) == IN_SCOPE
    asked = [json.loads(body)["messages"][1]["content"] for body in bodies("semantic hit", 3 * IN_SCOPE)]
    assert len(set(asked)) == len(asked)
    assert {f"How do I {text.partition(' do I ')[2]}" for text in asked} == before


def test_respelled_requests_never_come_in_the_same_bytes():
    assert len(set(bodies("exact hit, respelled", 5000))) == 5000
    assert len({tuple(json.loads(body)) for body in bodies("exact hit, respelled")}) > 10


def test_chunks_are_those_of_the_mock():
    assert {workload.units for workload in WORKLOADS} == {1, CHUNKS}


# processes


def child(tmp_path, code, *, grace=10.0, **environment):
    core = min(os.sched_getaffinity(0))
    return Process("child", [sys.executable, "-c", code], environment=environment, directory=tmp_path, core=core, grace=grace)


def test_a_process_inherits_nothing_but_what_it_is_given(tmp_path, monkeypatch):
    monkeypatch.setenv("GROQ_API_KEY", "gsk-secret")
    monkeypatch.setenv("REDIS_URL", "redis://somewhere")
    own = os.sched_getaffinity(0)
    code = "import json, os; print(json.dumps([dict(os.environ), os.getcwd(), sorted(os.sched_getaffinity(0))]), flush=True)"
    with child(tmp_path, code + "; import time; time.sleep(60)", PORT="1") as process:
        environment, directory, cores = json.loads(process.wait_for_line())
    assert environment.keys() - {"LC_CTYPE"} <= {"PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PORT"}
    assert environment["PORT"] == "1"
    assert (directory, cores) == (str(tmp_path), [min(own)])
    assert os.sched_getaffinity(0) == own


def test_the_cpu_clock_counts_all_threads_also_those_that_ended(tmp_path):
    spin = "import threading, time\ndef spin():\n    end = time.thread_time() + 0.2\n    while time.thread_time() < end: pass\n"
    code = spin + "thread = threading.Thread(target=spin); thread.start(); thread.join(); print(1, flush=True); time.sleep(60)"
    with child(tmp_path, code) as process:
        process.wait_for_line()
        process.wait_until_quiet()
        used = process.cpu_seconds()
        assert 0.2 <= used < 5
        assert process.resident_bytes() > 1e6
        start = time.monotonic()
        process.wait_until_quiet()
        assert time.monotonic() - start < 20
        assert process.cpu_seconds() - used < 0.1


def test_a_process_that_ends_early_says_why(tmp_path):
    with child(tmp_path, "raise SystemExit('no such thing')") as process:
        with pytest.raises(ProcessFailed, match=r"child ended with 1:\nno such thing"):
            process.wait_until_ready(free_port())
        with pytest.raises(ProcessFailed, match="no such thing"):
            process.wait_for_line()


def test_a_process_that_ignores_sigterm_is_killed(tmp_path):
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"
    with child(tmp_path, code, grace=0.2) as process:
        process.wait_for_line()
        start = time.monotonic()
    assert time.monotonic() - start < 30


# all of it


def test_a_whole_run_against_a_stand_in(tmp_path):
    own = os.sched_getaffinity(0)
    found = bench(Plan(rounds=1, seconds=0.1, warm_up=0.05, starts=2, in_scope=9, gateway=(sys.executable, str(STAND_IN))))
    write(found, tmp_path, "test")
    assert found.failures == []
    assert [slice_.workload for slice_ in found.slices] == [workload.name for workload in WORKLOADS]
    measured = {figure.name: figure.median for figure in found.figures}
    assert [len(figure.values) for figure in found.figures if figure.name == "start to ready"] == [2]
    assert 10 < measured["exact hit"] < 5_000
    assert measured["stream"] < measured["miss"]
    assert 0 < measured["start to ready"] < 30
    assert measured["memory, idle"] <= measured["memory, after the load"]
    (report,) = tmp_path.glob("*-test.json")
    assert msgspec.json.decode(report.read_bytes(), type=Results) == found
    assert report.with_suffix(".md").read_text() == markdown(found)
    assert os.sched_getaffinity(0) == own
