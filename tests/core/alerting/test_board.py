"""What becomes of an alert from look to look: pending, firing, resolved; told once, and never in a flood."""

import random

import pytest

from sentinel_gateway.core.alerting.board import MOST, Board, Habits, Step, advance
from sentinel_gateway.core.alerting.figures import Finding
from sentinel_gateway.core.alerting.notices import LISTED, messages
from sentinel_gateway.core.alerting.rules import Rule

HABITS = Habits(group=60.0, cool_down=900.0, repeat=3600.0)
RULE = Rule(name="errors", metric="error_rate", after=120.0)
AT_ONCE = Rule(name="errors", metric="error_rate")


class Story:
    """One board, looked at again and again."""

    def __init__(self, *rules: Rule, habits: Habits = HABITS) -> None:
        self.rules = rules or (RULE,)
        self.habits = habits
        self.board = Board(spoke=-1e9)
        self.silenced: dict[str, float] = {}

    def look(self, now: float, *subjects: str, unknown: bool = False, rules: tuple[Rule, ...] | None = None) -> Step:
        findings = None if unknown else [Finding(subject, 0.5, 0.2, f"{subject} fails") for subject in subjects]
        rules = self.rules if rules is None else rules
        step = advance(
            self.board, rules, {rule.name: findings for rule in rules}, now, habits=self.habits, silenced=self.silenced
        )
        self.board = step.board
        return step

    def phases(self) -> dict[str, str]:
        return {alert.subject: alert.phase for alert in self.board.alerts}


def said(step: Step) -> tuple[list[str], list[str], list[str]] | None:
    """Subjects of what began, lasts and is over; None where nobody is told anything."""
    notice = step.notice
    if notice is None:
        return None
    return tuple([one.subject for one in part] for part in (notice.began, notice.lasting, notice.over))


def test_it_must_last_before_it_fires():
    story = Story()
    assert said(story.look(0, "a")) is None
    assert story.phases() == {"a": "pending"}
    assert said(story.look(119, "a")) is None
    step = story.look(120, "a")
    assert said(step) == (["a"], [], [])
    assert [(turn.change, turn.alert.subject) for turn in step.turns] == [("firing", "a")]
    assert story.phases() == {"a": "firing"}


def test_what_does_not_last_is_forgotten():
    story = Story()
    story.look(0, "a")
    assert story.look(60).board.alerts == ()
    story.look(90, "a")
    assert said(story.look(150, "a")) is None, "it began anew"


def test_it_is_told_once_and_once_when_it_is_over():
    story = Story(AT_ONCE)
    assert said(story.look(0, "a")) == (["a"], [], [])
    assert [said(story.look(now, "a")) for now in range(60, 3600, 60)] == [None] * 59
    step = story.look(3600)
    assert said(step) == ([], [], ["a"])
    assert [turn.change for turn in step.turns] == ["resolved"]
    assert [said(story.look(now)) for now in range(3660, 7200, 60)] == [None] * 59
    assert story.board.alerts == (), "after the cool-down nothing of it is left"


def test_a_reminder_of_what_lasts():
    story = Story(AT_ONCE)
    story.look(0, "a")
    assert said(story.look(3599, "a")) is None
    assert said(story.look(3600, "a")) == ([], ["a"], [])
    assert said(story.look(3700, "a")) is None
    never = Story(AT_ONCE, habits=Habits(repeat=0.0))
    never.look(0, "a")
    assert said(never.look(1e6, "a")) is None


def test_what_flaps_is_told_of_twice_in_a_cool_down():
    story = Story(AT_ONCE)
    told = [now for now in range(0, 900, 30) if said(story.look(now, *(["a"] if now // 30 % 2 == 0 else []))) is not None]
    assert len(told) == 2
    later = [now for now in range(900, 3600, 30) if said(story.look(now, *(["a"] if now // 30 % 2 == 0 else []))) is not None]
    assert len(later) <= 2 * 3


def test_what_fires_again_within_the_cool_down_and_stays_is_told_after_it():
    story = Story(AT_ONCE)
    story.look(0, "a")
    assert said(story.look(60)) == ([], [], ["a"])
    assert said(story.look(120, "a")) is None
    assert story.phases() == {"a": "firing"}
    assert said(story.look(959, "a")) is None
    assert said(story.look(960, "a")) == (["a"], [], [])


def test_a_recovery_that_nobody_was_told_of_yet_is_taken_back():
    story = Story(AT_ONCE)
    story.look(0, "a")
    assert said(story.look(30)) is None, "the last message was 30 seconds ago"
    assert said(story.look(60, "a")) is None, "whoever was told it fires is right"
    assert story.phases() == {"a": "firing"}
    assert said(story.look(120)) == ([], [], ["a"])


def test_what_was_never_told_needs_no_recovery():
    story = Story(AT_ONCE)
    story.look(0, "a")
    story.look(30, "a", "b")
    assert said(story.look(40, "a")) is None
    assert said(story.look(100, "a")) is None


def test_many_are_one_message():
    story = Story(AT_ONCE)
    assert said(story.look(0, "a")) == (["a"], [], [])
    assert said(story.look(20, "a", "b")) is None
    assert said(story.look(40, "a", "b", "c")) is None
    assert said(story.look(60, "a", "b", "c", "d")) == (["b", "c", "d"], [], [])


def test_what_can_not_be_told_stays_as_it_was():
    story = Story(AT_ONCE)
    story.look(0, "a")
    before = story.board
    step = story.look(600, unknown=True)
    assert (step.board.alerts, step.turns, step.notice) == (before.alerts, (), None)


def test_a_silence_keeps_the_alert_quiet_and_its_recovery_is_told_if_it_was():
    story = Story(AT_ONCE)
    story.silenced = {"errors": 500.0}
    assert said(story.look(0, "a")) is None
    assert story.phases() == {"a": "firing"}
    assert said(story.look(499, "a")) is None
    assert said(story.look(500, "a")) == (["a"], [], []), "it still fires when the silence ends"
    story.silenced = {"errors": 1e9}
    assert said(story.look(600)) == ([], [], ["a"])


def test_a_rule_that_was_taken_away_leaves_a_recovery_behind():
    story = Story(AT_ONCE)
    story.look(0, "a")
    assert said(story.look(60, rules=())) == ([], [], ["a"])


def test_a_storm_of_ten_thousand_is_few_messages_of_bounded_length():
    rule = Rule(name="circuit-open", metric="circuit_open")
    story = Story(rule, habits=Habits())
    chance = random.Random(1)
    sent: list[int] = []
    for now in range(0, 3600, 30):
        subjects = [f"provider/model-{number}" for number in range(10_000) if chance.random() < 0.9]
        step = story.look(now, *subjects)
        assert len(step.board.alerts) <= 2 * MOST
        if step.notice is not None:
            told = messages(step.notice, ["ops", "mail"], service="sentinel", stamp=str)
            assert set(told) <= {"ops", "mail"}
            sent += [len(message.text) for message in told.values()]
            assert len(step.turns) <= 2 * MOST
    assert 2 <= len(sent) <= 2 * 60, "at most one message a minute and channel"
    assert max(sent) < 12_000
    assert story.board.beyond["circuit-open"] > 8_000


def test_the_worst_and_the_known_have_the_room():
    rule = Rule(name="r", metric="error_rate")
    board = advance(Board(), [rule], {"r": [Finding("mild", 0.1, 0.0, "")]}, 0, habits=HABITS, silenced={}).board
    many = [Finding("mild", 0.1, 0.0, ""), *(Finding(f"s{number}", number / 1000, 0.0, "") for number in range(1000))]
    after = advance(board, [rule], {"r": many}, 60, habits=HABITS, silenced={}).board
    subjects = {alert.subject for alert in after.alerts}
    assert "mild" in subjects
    assert "s999" in subjects
    assert "s1" not in subjects
    assert after.beyond == {"r": 1001 - MOST}
    lowest = Rule(name="r", metric="provider_health", below=True)
    after = advance(Board(), [lowest], {"r": many}, 60, habits=HABITS, silenced={}).board
    assert {"s0", "s1"} <= {alert.subject for alert in after.alerts}


def test_what_is_neither_bad_nor_well_keeps_an_alert_and_begins_none():
    """A circuit that is half open: it opens again if the next request fails."""

    def step(board: Board, now: float, *begins: bool) -> Board:
        found = {"errors": [Finding("a", 1.0, 1.0, "a", begins=one) for one in begins]}
        return advance(board, [RULE], found, now, habits=HABITS, silenced={}).board

    assert step(Board(), 0, False).alerts == ()
    pending = step(Board(), 0, True)
    firing = step(pending, 120, False)
    assert [(alert.phase, alert.since) for alert in firing.alerts] == [("firing", 120)]
    assert [alert.phase for alert in step(firing, 180, False).alerts] == ["firing"]
    over = step(firing, 180)
    assert [alert.phase for alert in over.alerts] == ["resolved"]
    assert [alert.phase for alert in step(over, 240, False).alerts] == ["resolved"], "it does not begin again"


def test_each_channel_is_told_what_is_its_own():
    rules = Rule(name="errors", metric="error_rate", channels=("ops",)), Rule(name="money", metric="total_cost")
    story = Story(*rules)
    step = story.look(0, "a")
    told = messages(step.notice, ["ops", "mail", "idle"], service="gate", stamp=lambda at: f"t{at:g}")
    assert {name: message.data["counts"]["firing"] for name, message in told.items()} == {"ops": 2, "mail": 1, "idle": 1}
    assert told["mail"].title == "gate: 1 firing (money)"
    assert told["mail"].text == "Firing:\n- money: a fails (since t0)"


def test_a_message_says_how_urgent_it_is_and_lists_so_many():
    rule = Rule(name="errors", metric="error_rate", severity="page")
    story = Story(rule)
    step = story.look(0, *(f"s{number:02}" for number in range(LISTED + 5)))
    [message] = messages(step.notice, ["ops"], service="gate", stamp=str).values()
    assert message.title == f"[page] gate: {LISTED + 5} firing (errors)"
    assert message.text.endswith("and 5 more")
    assert (message.severity, message.good) == ("page", False)
    [over] = messages(story.look(60).notice, ["ops"], service="gate", stamp=str).values()
    assert over.good
    assert over.title == f"gate: {LISTED + 5} recovered (errors)"


@pytest.mark.parametrize("seed", range(20))
def test_whatever_comes_everybody_who_was_told_is_told_that_it_is_over(seed):
    """By chance: alerts come and go; whoever reads the messages alone knows in the end what fires."""
    chance = random.Random(seed)
    story = Story(Rule(name="errors", metric="error_rate", after=chance.choice([0, 45])), habits=Habits(60, 200, 600))
    believed: set[str] = set()
    now, last = 0.0, -1e9
    for _ in range(400):
        now += chance.choice([10, 30, 60])
        step = story.look(now, *chance.sample("abcd", chance.randrange(4)), unknown=chance.random() < 0.1)
        if step.notice is None:
            continue
        assert now - last >= 60
        last = now
        began, lasting, over = (set(part) for part in said(step))
        assert not began & believed
        assert lasting <= believed
        assert over <= believed
        believed = (believed | began) - over
    for _ in range(60):
        now += 60
        step = story.look(now)
        if step.notice is not None:
            believed -= set(said(step)[2])
    assert believed == set()
    assert story.board.alerts == ()
