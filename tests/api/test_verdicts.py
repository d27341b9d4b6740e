"""What is said of the arms of an experiment: by all of it from its start, and of none that differ otherwise."""

import pytest

from sentinel_gateway.api.experiments import DAY, ExperimentAdmin, verdict
from sentinel_gateway.core.experiments import Arm, Experiment, Sums, Tally
from sentinel_gateway.ports.ledger import Tried

pytestmark = pytest.mark.anyio

NOW = 1_000 * DAY


def tally(arm: str, hits: int, units: int = 1000) -> Tally:
    return Tally(arm=arm, units=units, requests=units, size=float(units), hits=Sums(float(hits), float(hits), float(hits)))


class History:
    """Of an experiment that began so many days ago; its arms differ in the last days alone."""

    def __init__(self, began: float) -> None:
        self.first = int(NOW - began * DAY)
        self.asked: list[int] = []
        self.walks = 0

    async def tried(self, since: int, until: int) -> list[Tried]:
        self.walks += 1
        return [Tried("cheaper", 2000, max(since, self.first), until - 1)]

    async def tallies(self, experiment: str, since: int, until: int) -> list[Tally]:
        self.asked.append(since)
        return [tally("usual", 300), tally("small", 310 if since <= self.first else 600)]


def admin(history: History, *, retention: float = 90.0, weight: float = 1.0) -> ExperimentAdmin:
    under_way = [Experiment("cheaper", (Arm("usual"), Arm("small", weight=weight)))]
    return ExperimentAdmin(under_way, history, None, guard=None, clock=lambda: float(NOW), retention=retention)


@pytest.mark.parametrize("days", [1, 7, 20])
async def test_what_is_shown_goes_by_all_of_it_whatever_the_days(days):
    """Whoever may choose the stretch finds one in which something differs."""
    told = await admin(History(began=30)).results("cheaper", days=days)
    assert told["arms"][1]["hit_rate"]["value"] == 0.6, "the figures are those of the days"
    hits = next(one for one in told["compared"] if one["metric"] == "hit_rate")
    assert (hits["shown"], hits["difference"]) == (False, pytest.approx(0.01))
    assert told["verdict"].startswith("No difference shown yet")


async def test_what_the_days_hold_anyway_is_asked_for_once():
    history = History(began=3)
    await admin(history).results("cheaper", days=7)
    assert len(history.asked) == 1


@pytest.mark.parametrize(("began", "retention", "is_said"), [(88, 90, True), (89.5, 90, False), (5, 3, False), (500, 0, True)])
async def test_nothing_is_said_of_one_whose_start_is_kept_no_more(began, retention, is_said):
    told = await admin(History(began=began), retention=retention).results("cheaper", days=1)
    assert bool(told["compared"]) is is_said
    assert ("ledger.retention" not in told["verdict"]) is is_said


async def test_a_page_of_several_asks_once_for_what_concerns_all():
    history = History(began=3)
    arms = (Arm("usual"), Arm("small"))
    under_way = [Experiment(name, arms) for name in ("cheaper", "second", "third")]
    page = ExperimentAdmin(under_way, history, None, guard=None, clock=lambda: float(NOW), retention=90.0)
    told = await page.latest(2)
    assert [one["name"] for one in told] == ["cheaper", "second"]
    assert told[0] == await page.results("cheaper")
    assert history.walks == 2, "one for the page"


async def test_one_that_was_over_long_ago_is_on_no_page():
    history = History(began=40)
    page = ExperimentAdmin([], history, None, guard=None, clock=lambda: float(NOW + 50 * DAY), retention=0.0)
    history.tried = lambda *_: once([Tried("cheaper", 2000, history.first, NOW)])
    assert await page.latest(5) == []


async def once(found: list[Tried]) -> list[Tried]:
    return found


async def test_arms_of_unlike_weights_are_told_and_not_judged():
    told = await admin(History(began=3), weight=2.0).results("cheaper", days=7)
    assert told["compared"] == []
    assert told["verdict"].startswith("Nothing is judged: arms of unlike size")
    assert [one["requests"] for one in told["arms"]] == [1000, 1000]


def test_a_verdict_says_who_is_left_out():
    three = [tally("usual", 300), tally("small", 300), tally("few", 300, 400)]
    assert verdict(three, [], {"few"}).endswith("Not judged, being of another size than usual: few.")
