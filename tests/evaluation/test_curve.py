"""AUC, curve and hit rates are what counting every pair and every threshold by hand gives."""

import math

from hypothesis import given
from hypothesis import strategies as st

from sentinel_gateway.evaluation.curve import NEVER, Scored, auc, curve, most_hits, quantile, thinned

scores = st.sampled_from([NEVER, 0.0, 0.25, 0.5, 0.75, 1.0])
trials = st.lists(st.builds(Scored, scores, st.booleans()), min_size=1, max_size=30)


def at(some: list[Scored], threshold: float) -> tuple[float, float]:
    """Hits and wrong hits by trials, if everything from the threshold on served."""
    served = [trial for trial in some if trial.score >= threshold]
    return len(served) / len(some), sum(not trial.right for trial in served) / len(some)


@given(trials)
def test_auc_is_the_share_of_pairs_that_stand_in_order(some):
    right = [trial.score for trial in some if trial.right]
    wrong = [trial.score for trial in some if not trial.right]
    pairs = [1.0 if good > bad else 0.5 if good == bad else 0.0 for good in right for bad in wrong]
    found = auc(some)
    assert found is None if not pairs else math.isclose(found, sum(pairs) / len(pairs))


@given(trials)
def test_the_curve_has_each_threshold_with_what_it_would_serve(some):
    points = curve(some)
    assert [point.threshold for point in points] == sorted({trial.score for trial in some} - {NEVER}, reverse=True)
    assert [(point.hit_rate, point.wrong_hit_rate) for point in points] == [at(some, point.threshold) for point in points]


@given(trials, st.sampled_from([0.0, 0.005, 0.1, 0.3, 1.0]))
def test_most_hits_is_the_best_of_all_thresholds_within_the_rate(some, rate):
    allowed = [at(some, score)[0] for score, _ in some if score != NEVER and at(some, score)[1] <= rate]
    found = most_hits(curve(some), rate)
    assert (None if found is None else found.hit_rate) == max(allowed, default=None)
    assert found is None or at(some, found.threshold) == (found.hit_rate, found.wrong_hit_rate)


@given(trials, st.integers(2, 10))
def test_a_thinned_curve_keeps_its_ends(some, most):
    points = curve(some)
    kept = thinned(points, most)
    assert len(kept) == min(len(points), most)
    assert (kept[:1], kept[-1:]) == (points[:1], points[-1:])
    assert kept == sorted(kept, key=lambda point: -point.threshold)


@given(st.lists(st.integers(0, 20), min_size=1), st.floats(0.01, 1.0))
def test_a_quantile_is_the_least_value_that_covers_the_share(values, share):
    found = quantile(values, share)
    assert sum(value <= found for value in values) >= share * len(values)
    assert sum(value < found for value in values) < share * len(values)


def test_of_nothing_there_is_no_quantile():
    assert quantile([], 0.5) == 0.0
