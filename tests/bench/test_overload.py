"""The bench of overload: what it makes of what came, and what it draws. A whole run takes minutes: `make load`."""

import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from bench.client import Exchange
from bench.load import Quantiles, Turn
from bench.overload import LEISURE, SENT, STEP, Plan, bars_of, bars_of_storm, find_knee, point
from bench.overload_report import Curve, Point, Recovery
from bench.plots import picture
from sentinel_gateway.evaluation.chart import Chart, Series

ROOT = Path(__file__).parents[2]


def took(seconds: float) -> Quantiles:
    return Quantiles(seconds, seconds, seconds, seconds)


def at(rate: float, *, goodput: float = 0.0, p99: float = 0.1, refused: float = 0.0, problems=None, **more) -> Point:
    given = {"sent": 1.0, "told": took(0.01), "waits": took(2.0), "distinct_waits": 64, "without_wait": 0, "lateness": took(0.0)}
    return Point(rate=rate, goodput=goodput, accepted=took(p99), refused=refused, problems=problems or {}, **{**given, **more})


class Rig:
    """Serves up to a rate; beyond it, it is slow."""

    def __init__(self, capacity: float, *, mood: int = 0) -> None:
        self.capacity = capacity
        self.mood = mood
        self.asked: list[float] = []

    def measure(self, _make, rate: float, _plan: Plan) -> Point:
        self.asked.append(rate)
        moody = self.mood and len(self.asked) % self.mood == 0
        return at(rate, goodput=rate, p99=0.9 if moody or rate > self.capacity else 0.1)


def test_a_point_is_made_of_what_was_planned():
    turns = [Turn(number, 10.0 + number) for number in range(7)]
    done = [
        (turns[0], Exchange("", 10.0, 10.1, 10.2)),
        (turns[1], Exchange("", 11.0, 12.1, 12.1)),
        (turns[2], Exchange("", 12.0, 12.1, 12.2)),
        (turns[3], Exchange("503", 13.5, 0.0, 13.51, wait=1.5)),
        (turns[4], Exchange("503", 14.0, 0.0, 14.03)),
        (turns[5], Exchange("timeout", 16.0, 0.0, 24.0)),
        (turns[6], Exchange("", 17.1, 0.0, 17.2)),
    ]
    found = point(done, 1.0, Plan(seconds=5.0, warm_up=2.0))
    assert found.goodput == 0.4, "what came in those seconds: also who asked before, but not who was answered later"
    assert (found.refused, found.problems) == (0.4, {"503": 2, "timeout": 1})
    assert found.accepted.max == pytest.approx(1.2), "from the planned moment"
    assert found.told.max == pytest.approx(0.03), "from when it was sent"
    assert (found.distinct_waits, found.without_wait) == (1, 1)
    assert found.sent == 0.8, "one was sent after all were planned to be"
    assert found.lateness.max == pytest.approx(1.1)


def test_the_knee_is_the_last_rate_that_was_sane():
    rig = Rig(2000)
    knee, tried = find_knee(rig, None, Plan())
    assert knee <= 2000 < knee * STEP
    assert [one.rate for one in tried] == rig.asked
    assert rig.asked[0] == LEISURE
    assert rig.asked[-1] == rig.asked[-2] == pytest.approx(knee * STEP), "one look alone is not believed"


def test_a_moody_machine_does_not_move_the_knee():
    assert find_knee(Rig(2000, mood=3), None, Plan())[0] == find_knee(Rig(2000), None, Plan())[0]


def held(found: Curve) -> dict[str, bool]:
    return {bar.name.partition(": ")[2]: bar.holds for bar in bars_of(found)}


GOOD = (at(500, goodput=500), at(1000, goodput=1000), at(3000, goodput=950, refused=0.7, problems={"503": 9}))


def test_a_curve_is_held_to_its_bars():
    assert all(held(Curve("misses", 1000, [], list(GOOD))).values())


@pytest.mark.parametrize(
    ("change", "missed"),
    [
        ({"goodput": 890}, "goodput of the peak"),
        ({"p99": 0.21}, "p99 of the accepted, ms"),
        ({"told": took(0.021)}, "p99 of refusals, ms"),
        ({"without_wait": 1}, "refusals without Retry-After"),
        ({"distinct_waits": 3}, "different waits"),
        ({"sent": SENT - 0.01}, "sent of what was planned"),
        ({"problems": {"503": 9, "timeout": 1}}, "neither served nor refused"),
    ],
)
def test_each_bar_can_be_missed(change, missed):
    last = at(3000, **{"goodput": 950, "refused": 0.7, "problems": {"503": 9}, **change})
    found = held(Curve("misses", 1000, [], [*GOOD[:2], last]))
    assert [name for name, holds in found.items() if not holds] == [missed]


@pytest.mark.parametrize(
    ("attempts", "after", "holds"),
    [
        (2.5, [0.2] * 9 + [0.9] + [1.0] * 5, True),
        (2.5, [0.2] * 9 + [0.9] + [1.0] * 4 + [0.9], False),
        (1.0, [1.0] * 15, False),
    ],
    ids=["recovers", "does not", "was no storm"],
)
def test_a_storm_is_to_be_over_ten_seconds_later(attempts, after, holds):
    assert all(bar.holds for bar in bars_of_storm(Recovery(2.0, 30, attempts, [0.5] * 30 + after))) == holds


def test_a_picture_stands_by_itself():
    lines = [Series("misses & more", [(0.5, 0.5), (5.0, 1.0)]), Series("hits", [(0.5, 0.4), (2.5, 1.0)])]
    drawn = picture(Chart("Served <all>", "times", "share", lines, x_start=0.5, x_top=5.0, x_plain=True))
    root = ET.fromstring(drawn)
    words = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"Served <all>", "misses & more", "hits", "times", "share"} <= set(words)
    assert "prefers-color-scheme:dark" in drawn
    assert not {"href", "script", "import", "url("} & set(drawn.split())


@pytest.mark.long
def test_a_quick_run_writes_its_report(tmp_path):
    """Whether bars hold in it depends on the machine, and is not asked."""
    command = [sys.executable, "-m", "bench.overload", "--quick", "--out", tmp_path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode in {0, 1}, done.stderr
    [report] = tmp_path.glob("*-overload-quick.md")
    assert report.read_text() == done.stdout.rstrip("\n") + "\n"
    assert report.with_suffix(".json").exists()
