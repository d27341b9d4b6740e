"""Who is in which arm, and what may be said of the arms."""

import random
from collections import Counter

import pytest

from sentinel_gateway.core.experiments import (
    ERROR,
    LEAST_UNITS,
    METRICS,
    NORMAL,
    Arm,
    Asking,
    Experiment,
    Figure,
    Sums,
    Tally,
    certain,
    compare,
    mean,
    place,
    proportion,
    quantile,
    unlike,
)
from sentinel_gateway.core.windows import percentile

SECRET = b"a secret of the tests, 32 bytes "
ARMS = (Arm("usual"), Arm("small", weight=3.0, model="mock/mock-small"))


def experiment(name="cheaper", **fields) -> Experiment:
    return Experiment(name, fields.pop("arms", ARMS), **fields)


def asking(key="key_1", tenant="acme", model="large", namespace="") -> Asking:
    return Asking(model, key, tenant, namespace)


def arm_of(conversation: str, *experiments: Experiment, who: Asking | None = None, secret: bytes = SECRET) -> str | None:
    found = place(experiments or [experiment()], who or asking(), lambda: conversation, secret)
    return None if found is None else found.name


def tally(arm: str, units: list[list[tuple[bool, float]]]) -> Tally:
    """Of conversations, each a list of requests: was it a hit, and what did it cost?"""
    hits = [float(sum(hit for hit, _ in unit)) for unit in units]
    costs = [sum(cost for _, cost in unit) for unit in units]
    sizes = [len(unit) for unit in units]
    return Tally(
        arm=arm,
        units=len(units),
        requests=sum(sizes),
        size=float(sum(size * size for size in sizes)),
        hits=sums(hits, sizes),
        cost=sums(costs, sizes),
    )


def sums(figures: list[float], sizes: list[int]) -> Sums:
    products = sum(figure * size for figure, size in zip(figures, sizes, strict=True))
    return Sums(sum(figures), sum(figure * figure for figure in figures), float(products))


def conversations(seed: int, count: int, rate: float, *, alike: bool = False) -> list[list[tuple[bool, float]]]:
    """Of 1 to 9 requests each; `alike`: all of a conversation are hits, or none is."""
    chance = random.Random(seed)
    units = []
    for _ in range(count):
        first = chance.random() < rate
        units.append([(first if alike else chance.random() < rate, chance.expovariate(1.0)) for _ in range(chance.randint(1, 9))])
    return units


def test_a_conversation_is_in_the_same_arm_each_time_and_others_by_the_weights():
    drawn = Counter(arm_of(f"question {number}") for number in range(4000))
    assert drawn.keys() == {"cheaper=usual", "cheaper=small"}
    assert 2850 < drawn["cheaper=small"] < 3150
    assert [arm_of("question 7") for _ in range(3)] == [arm_of("question 7")] * 3
    assert arm_of("question 7") in {"cheaper=usual", "cheaper=small"}


def test_another_secret_another_tenant_or_another_experiment_draws_anew():
    asked = [f"question {number}" for number in range(400)]
    usual = [arm_of(one) for one in asked]
    for other in (
        [arm_of(one, secret=SECRET[::-1]) for one in asked],
        [arm_of(one, who=asking(tenant="other")) for one in asked],
        [f"cheaper={(arm_of(one, experiment('dearer')) or '').partition('=')[2]}" for one in asked],
    ):
        assert 80 < sum(one != two for one, two in zip(usual, other, strict=True)) < 220


def test_an_arm_that_comes_moves_no_more_conversations_than_it_has():
    asked = [f"question {number}" for number in range(2000)]
    grown = experiment(arms=(*ARMS, Arm("third")))
    moved = [one for one in asked if arm_of(one) != arm_of(one, grown)]
    assert {arm_of(one, grown) for one in moved} == {"cheaper=third"}
    assert 300 < len(moved) < 500


def test_a_key_or_a_tenant_is_in_one_arm_as_a_whole():
    by_key, by_tenant = experiment(by="key"), experiment(by="tenant")
    assert len({arm_of(f"question {number}", by_key) for number in range(50)}) == 1
    assert len({arm_of("question", by_key, who=asking(f"key_{number}")) for number in range(50)}) == 2
    assert len({arm_of("question", by_tenant, who=asking(f"key_{number}")) for number in range(50)}) == 1
    assert len({arm_of("question", by_tenant, who=asking(tenant=f"t{number}")) for number in range(50)}) == 2


@pytest.mark.parametrize("about", ["models", "keys", "tenants", "namespaces"])
def test_it_is_about_those_that_are_named(about):
    named = experiment(**{about: frozenset({"chosen"})})
    field = about.removesuffix("s")
    assert arm_of("question", named) is None
    assert arm_of("question", named, who=asking(**{field: "chosen"})) is not None


def test_a_share_of_the_units_takes_part_and_the_others_are_free_for_the_next():
    first, second = experiment(share=0.25), experiment("second")
    drawn = Counter((arm_of(f"question {number}", first, second) or "").partition("=")[0] for number in range(4000))
    assert 850 < drawn["cheaper"] < 1150
    assert drawn["cheaper"] + drawn["second"] == 4000
    assert arm_of("question", experiment(share=1e-9)) is None


def test_intervals_cover_the_truth_though_the_requests_of_a_conversation_are_alike():
    covered = 0
    for seed in range(150):
        found = tally("one", conversations(seed, 200, 0.3, alike=True))
        interval = proportion(found.hits, found)
        covered += interval.low <= 0.3 <= interval.high
    assert 134 <= covered <= 149  # by requests, as if each were by itself, it would be some 90


def test_means_have_their_intervals_too():
    covered = 0
    for seed in range(150):
        found = tally("one", conversations(seed, 200, 0.3))
        interval = mean(found.cost, found)
        covered += interval.low <= 1.0 <= interval.high
    assert 134 <= covered <= 149


@pytest.mark.parametrize(("rate", "low", "high"), [(0.0, 0.0, 0.02), (1.0, 0.98, 1.0)])
def test_a_share_of_none_or_all_is_not_certain(rate, low, high):
    found = tally("one", conversations(1, 200, rate))
    interval = proportion(found.hits, found)
    assert interval.value == rate
    assert (interval.low, interval.high) == (pytest.approx(low, abs=0.002), pytest.approx(high, abs=0.002))


def test_nothing_is_known_of_nobody():
    nobody = Tally(arm="one")
    assert proportion(nobody.hits, nobody).high == 1.0
    assert mean(nobody.cost, nobody).value == 0.0
    assert quantile({}, 0.5, nobody).value == 0.0
    assert list(compare([nobody, Tally(arm="two")])) == []
    assert list(compare([])) == []


def test_percentiles_lie_within_the_intervals_of_their_ranks():
    buckets = dict.fromkeys(range(40, 80), 25)
    one = tally("one", [[(True, 1.0)]] * 1000)
    middle, tail = quantile(buckets, 0.5, one), quantile(buckets, 0.95, one)
    assert middle.low < middle.value < middle.high < tail.low < tail.value < tail.high


def test_the_interval_of_a_percentile_covers_the_truth_where_the_requests_of_a_conversation_are_alike():
    chance, covered = random.Random(7), 0
    for _ in range(150):
        each = [(chance.randint(0, 99), chance.randint(1, 9)) for _ in range(200)]  # all of a conversation take as long
        buckets: Counter[int] = Counter()
        for bucket, size in each:
            buckets[bucket] += size
        found = quantile(buckets, 0.5, tally("one", [[(True, 1.0)] * size for _, size in each]))
        covered += found.low <= percentile(dict.fromkeys(range(100), 1), 0.5) <= found.high
    assert covered >= 134  # by requests, as if each were by itself, it would be some 95


def test_of_one_conversation_nothing_is_known_but_what_it_came_to():
    one = tally("one", [[(True, 2.0), (False, 1.0)]])
    assert mean(one.cost, one) == Figure(1.5, 1.5, 1.5)


def test_arms_of_unlike_size_are_not_judged():
    """Of two equal arms the larger one fills its own cache sooner, and hits more often."""
    usual, small, few = (Tally(arm=arm, units=units) for arm, units in (("usual", 1000), ("small", 1000), ("few", 200)))
    assert unlike([]) == unlike([usual]) == unlike([usual, small]) == frozenset()
    assert unlike([usual, small, few]) == {"few"}, "though nobody knows the weights any more"
    weights = [Arm("usual"), Arm("small", weight=2.0)]
    assert unlike([usual, small], weights) == {"small"}
    assert unlike([usual, few], [Arm("usual", cache=False), Arm("few", weight=9.0, cache=False)]) == frozenset()
    tallies = [tally(name, conversations(seed, 800, rate)) for seed, name, rate in ((1, "a", 0.3), (2, "b", 0.6), (3, "c", 0.6))]
    assert {one.arm for one in compare(tallies, {"b"})} == {"c"}


def test_equal_arms_are_hardly_ever_of_unlike_size_by_chance():
    for seed in range(100):
        drawn = Counter(arm_of(f"question {seed} {number}", experiment(arms=(Arm("a"), Arm("b")))) for number in range(200))
        assert not unlike([Tally(arm="a", units=drawn["cheaper=a"]), Tally(arm="b", units=drawn["cheaper=b"])])


def test_an_opening_is_put_together_once_however_many_experiments_there_are():
    asked = []

    def conversation() -> str:
        asked.append(1)
        return "question"

    many = [experiment(f"e{number}", share=1e-9) for number in range(5)]
    assert place(many, asking(), conversation, SECRET) is None
    assert len(asked) == 1


def test_a_difference_that_is_there_is_shown_and_none_that_is_not():
    control, better = tally("usual", conversations(1, 800, 0.3)), tally("better", conversations(2, 800, 0.5))
    found = {one.metric: one for one in compare([control, better])}
    assert found["hit_rate"].shown
    assert found["hit_rate"].low > 0.0
    assert 0.15 < found["hit_rate"].difference < 0.25
    assert not found["cost"].shown
    assert found["cost"].low < 0.0 < found["cost"].high


def test_few_units_say_nothing_however_many_requests_they_make():
    few = [[(True, 1.0)] * 1000 for _ in range(LEAST_UNITS - 1)]
    assert list(compare([tally("usual", few), tally("other", few)])) == []


def test_it_is_told_how_many_more_requests_would_show_a_difference():
    control, better = tally("usual", conversations(1, 100, 0.30)), tally("better", conversations(2, 100, 0.40))
    hits = next(one for one in compare([control, better]) if one.metric == "hit_rate")
    assert not hits.shown
    assert hits.more_requests is not None
    times = 1 + hits.more_requests / (control.requests + better.requests)
    many = [conversations(seed, round(100 * times * 1.3), rate) for seed, rate in ((3, 0.30), (4, 0.30 + hits.difference))]
    assert next(one for one in compare([tally("usual", many[0]), tally("better", many[1])]) if one.metric == "hit_rate").shown


def test_whoever_looks_again_and_again_is_hardly_ever_misled():
    misled = usual = 0
    for seed in range(50):
        one, other = conversations(2 * seed, 600, 0.3), conversations(2 * seed + 1, 600, 0.3)
        hits = []
        for units in range(40, 601, 40):
            found = list(compare([tally("a", one[:units]), tally("b", other[:units])]))
            misled += (shown := any(each.shown for each in found))
            hits.append((found[0], certain(units, ERROR / len(METRICS))))
            if shown:
                break
        usual += any(abs(each.difference) > (each.high - each.difference) / width * NORMAL for each, width in hits)
    assert misled <= 2
    assert usual >= 7  # with the interval that is meant for one look, of the hit rate alone


def test_the_interval_for_all_times_is_wider_than_that_for_one_and_grows_slowly():
    assert 2.5 < certain(1000, 0.05) < 3.2
    assert certain(1_000_000, 0.05) < 4.5
    assert certain(1000, 0.01) > certain(1000, 0.05)
