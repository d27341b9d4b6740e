"""Figures of windows, trends, advice, and the funnel of trials."""

import itertools

import pytest
from msgspec.structs import replace

from sentinel_gateway.core.analytics import FIGURES, STAGES, Use, advise, funnel, group, trend, trials
from sentinel_gateway.core.windows import Window, bucket_of
from tests.core.keys import minted

HOUR = 3600
_NUMBERS = itertools.count()


def window(start: int = 0, *, ms: int = 1000, good: int = 10, **more) -> Window:
    buckets = {bucket_of(ms * 1000): good} if good else {}
    latency = good * ms * 1000
    names = {"provider": "mock", "model": "small"} | {name: more.pop(name) for name in ("provider", "model") if name in more}
    return Window(start, **names, requests=good, latency=latency, buckets=buckets, endings={"answered": good}, **more)


def test_figures_of_nothing_are_none_or_nothing():
    told = {name: figure(Window(0, "", "")) for name, figure in FIGURES.items()}
    assert {name for name, value in told.items() if value == 0} == {
        *("total_requests", "successful_requests", "failed_requests", "refused_requests", "total_cost"),
        *("tokens_input", "tokens_output", "tokens_cached", "tokens_reasoning"),
    }
    assert {value for value in told.values() if value} == set()


def test_figures():
    took = {"prompt_tokens": 4000, "cached_tokens": 1000, "completion_tokens": 1000, "reasoning_tokens": 250, "cost": 24_000_000}
    one = window(**took, answered_tokens=800, first_token=2_000_000, streamed=5)
    one.requests += 10
    one.endings |= {"timeout": 2, "refused": 4, "left": 4}
    told = {name: figure(one) for name, figure in FIGURES.items()}
    assert (told["total_requests"], told["successful_requests"], told["failed_requests"]) == (12, 10, 2)
    assert (told["error_rate"], told["refused_requests"]) == (2 / 12, 4)
    assert (told["total_cost"], told["cost_per_request"], told["cost_per_million_tokens"]) == (0.024, 0.002, 4.8)
    assert (told["latency_avg_ms"], told["first_token_avg_ms"], told["tokens_per_second"]) == (1000, 400, 80)
    assert told["latency_p50_ms"] == pytest.approx(1000, rel=0.1)


def test_grouping_adds_up_and_changes_nothing():
    windows = [window(0, cost=1), window(0, cost=2, model="large"), window(HOUR, cost=4)]
    grouped = group(windows, lambda one: (one.model,))
    assert {key: one.cost for key, one in grouped.items()} == {("small",): 5, ("large",): 2}
    assert [one.cost for one in windows] == [1, 2, 4]


@pytest.mark.parametrize(
    ("latencies", "direction"),
    [
        ((800, 800, 1600, 1600), "rising"),
        ((1600, 1600, 800, 800), "falling"),
        ((800, 810, 820, 800), "steady"),
        ((800,), "unknown"),
    ],
)
def test_trends(latencies, direction):
    told = trend([window(HOUR * hour, ms=ms) for hour, ms in enumerate(latencies)])
    assert told.direction == direction
    expected = {"rising": 1.0, "falling": -0.5, "steady": 0.0, "unknown": None}[direction]
    assert told.change == (expected if expected is None else pytest.approx(expected, abs=0.2))


# --- advice ---

CHEAP = ("groq", "llama")
DEAR = ("openai", "gpt-4o")


def totals(**dear) -> dict:
    usual = {"prompt_tokens": 5000, "completion_tokens": 1000, "cost": 10**9}
    cheap = window(provider="groq", model="llama", good=100, prompt_tokens=50_000, completion_tokens=10_000, cost=10**9)
    return {CHEAP: cheap, DEAR: window(provider="openai", model="gpt-4o", **(usual | dear))}


def test_a_model_that_takes_several_times_as_much_for_a_token():
    (advice,) = advise(totals())
    assert (advice.kind, advice.provider, advice.model, advice.at_stake) == ("cheaper_model", "openai", "gpt-4o", 1.0)
    assert advice.message.startswith("openai/gpt-4o takes 10 times what groq/llama takes for a token")
    assert advise(totals(cost=10**8)) == []


def test_no_chat_is_told_to_go_to_embeddings():
    """They take a hundredth for a token, and answer nothing."""
    found = totals()
    found[CHEAP] = window(provider="openai", model="embed", good=100, prompt_tokens=50_000, cost=10**7)
    assert advise(found) == []
    found["openai", "embed-large"] = window(provider="openai", model="embed-large", good=9, prompt_tokens=500, cost=10**8)
    assert [(one.kind, one.model) for one in advise(found)] == [("cheaper_model", "embed-large")]


@pytest.mark.parametrize(("cached", "told"), [(1000, True), (9000, False)])
def test_long_prompts_that_no_prompt_cache_has(cached, told):
    found = advise(totals(prompt_tokens=30_000, cached_tokens=cached, cost=2 * 10**8))
    assert [advice.kind for advice in found] == (["prompt_cache"] if told else [])


def test_answers_that_are_mostly_reasoning():
    assert [one.kind for one in advise(totals(reasoning_tokens=600, cost=10**8))] == ["reasoning"]


def test_what_is_little_of_the_bill_is_not_worth_a_word():
    assert advise(totals(prompt_tokens=5, completion_tokens=1, reasoning_tokens=1, cost=10**6)) == []
    assert advise({}) == []


# --- trials ---


def make_key(name: str, *, created: float = 20.0, **fields):
    return replace(minted(next(_NUMBERS), name=name, **fields)[0], created=created)


def trial(name: str, **fields):
    return make_key(name, trial=True, **fields)


def test_each_stage_of_a_trial():
    keys = {stage: trial(stage, tenant=stage) for stage in STAGES}
    full = make_key("full", tenant="converted", created=keys["converted"].created + 1)
    used = Use(3, 0, 1, 5.0, 6.0)
    uses = {
        keys["first_request"].id: used,
        keys["active"].id: replace(used, days=2),
        keys["limit_reached"].id: replace(used, limited=1),
        keys["converted"].id: replace(used),
    }
    found = trials([*keys.values(), full], uses, since=0)
    assert {one.key.name: one.stage for one in found} == {stage: stage for stage in STAGES}
    assert funnel(found) == {"created": 5, "first_request": 4, "active": 3, "limit_reached": 2, "converted": 1}


def test_only_trials_that_began_in_time_count():
    old, new = trial("old", created=10.0), trial("new", created=20.0)
    assert [one.key.name for one in trials([old, new], {}, since=15)] == ["new"]


def test_a_rotated_trial_is_one_trial():
    second = trial("x", created=30.0)
    first = replace(trial("x", created=20.0), successor=second.id)
    (one,) = trials([first, second], {first.id: Use(2, 0, 1, 21.0, 22.0), second.id: Use(3, 1, 2, 31.0, 40.0)}, since=0)
    assert (one.key, one.use) == (first, Use(5, 1, 3, 21.0, 40.0))


@pytest.mark.parametrize(
    ("fields", "stage"),
    [
        ({"tenant": "acme"}, "converted"),
        ({"tenant": "other"}, "created"),
        ({"tenant": "acme", "trial": True}, "created"),
        ({"tenant": "acme", "created": 5.0}, "created"),
        ({"tenant": "acme", "scopes": frozenset({"read", "admin"})}, "created"),
    ],
)
def test_a_full_key_of_the_same_tenant_made_later_is_a_conversion(fields, stage):
    first = trial("x", tenant="acme", created=20.0)
    found = trials([first, make_key("other", **({"created": 30.0} | fields))], {}, since=0)
    assert next(one.stage for one in found if one.key is first) == stage


@pytest.mark.parametrize(("name", "stage"), [("x", "converted"), ("y", "created")])
def test_where_tenants_are_not_told_apart_it_goes_by_the_name(name, stage):
    first = trial("x", tenant="default", created=20.0)
    assert trials([first, make_key(name, tenant="default", created=30.0)], {}, since=0)[0].stage == stage


def test_a_full_key_that_is_rotated_is_no_conversion():
    """The tenant had it before it tried anything; one that takes the place of a trial key is another matter."""
    first, second = make_key("full", tenant="acme", created=10.0), make_key("full", tenant="acme", created=30.0)
    tried = trial("x", tenant="acme", created=20.0)
    (one,) = trials([replace(first, successor=second.id), second, tried], {}, since=0)
    assert one.stage == "created"
    (one,) = trials([first, replace(tried, successor=second.id), second], {}, since=0)
    assert one.stage == "converted"


class Walked(list):
    """Counts how often somebody walks over it."""

    walks = 0

    def __iter__(self):
        self.walks += 1
        return super().__iter__()


def test_many_trials_take_no_more_walks_over_the_keys_than_one():
    walks = []
    for count in (1, 50):
        keys = Walked(trial(f"x{number}", tenant=f"t{number}", created=20.0) for number in range(count))
        assert len(trials(keys, {}, since=0)) == count
        walks.append(keys.walks)
    assert walks[0] == walks[1]


def test_nobody_tried():
    assert funnel([]) == dict.fromkeys(STAGES, 0)
