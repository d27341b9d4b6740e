"""In which order the targets of a route are asked."""

import random
from collections import Counter
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel_gateway.core.chat import ChatRequest
from sentinel_gateway.core.choosing import choose, conversation, unable
from sentinel_gateway.core.routing import Ability, Route, Target
from sentinel_gateway.core.standing import StandingRules, Standings

A, B, C = Target("a", "m"), Target("b", "m"), Target("c", "m")
TOOLS = [{"type": "function", "function": {"name": "f"}}]
PICTURE = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": "data:,"}}]


def request(content="Hello", *, stream=False, **fields):
    messages = fields.pop("messages", [{"role": "user", "content": content}])
    return ChatRequest({"model": "x", "messages": messages, **fields}, "x", stream=stream)


@pytest.fixture
def standings():
    return Standings(StandingRules())


def ordered(route, asked=None, standings=None, *, now=0.0, chance=lambda: 0.5):
    return choose(route, asked or request(), standings or Standings(StandingRules()), now=now, chance=chance)


def test_priority_is_the_order_as_written():
    assert ordered(Route((B, A, C))) == (B, A, C)


def test_weights_are_how_often_a_target_comes_first():
    route, draw = Route((A, B, C), "weighted", (6.0, 3.0, 1.0)), random.Random(7)
    firsts = Counter(ordered(route, chance=draw.random) for _ in range(20_000))
    share = {target: sum(n for order, n in firsts.items() if order[0] == target) / 20_000 for target in (A, B, C)}
    assert share == pytest.approx({A: 0.6, B: 0.3, C: 0.1}, abs=0.015)
    assert set(firsts) == set(permutations((A, B, C))), "the others follow, in any order"


def test_without_weights_all_are_alike_and_a_draw_of_0_is_one():
    assert len(ordered(Route((A, B), "weighted"), chance=lambda: 0.0)) == 2


def test_a_conversation_stays_with_its_target():
    route = Route((A, B, C), "weighted", (1.0, 1.0, 1.0), sticky=True)
    opening = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    turns = [*opening, {"role": "assistant", "content": "Hi"}, {"role": "user", "content": "More"}]
    assert ordered(route, request(messages=opening)) == ordered(route, request(messages=turns))
    firsts = Counter(ordered(route, request(f"Question {number}"))[0] for number in range(3000))
    assert all(800 < firsts[target] < 1200 for target in (A, B, C))


@given(st.text())
def test_when_a_target_goes_only_its_conversations_move(text):
    asked = request(text)
    all_three = ordered(Route((A, B, C), "weighted", (5.0, 1.0, 2.0), sticky=True), asked)
    two = ordered(Route((A, C), "weighted", (5.0, 2.0), sticky=True), asked)
    assert two == tuple(target for target in all_three if target != B)


def test_who_names_the_conversation_decides_what_it_is():
    assert conversation(request(prompt_cache_key="mine").fields) == "mine"
    assert conversation(request("one").fields) != conversation(request("two").fields)
    assert conversation(request(messages=[{"role": "system", "content": "S"}]).fields) == "system: S"


def test_the_quickest_first_word_comes_first(standings):
    route = Route((A, B, C), "least_latency")
    for name, seconds in (("a/m", 0.5), ("b/m", 0.2), ("c/m", 0.3)):
        known = standings.of(name)
        known.succeeded(known.enter(0.0, stream=True, again=False), stream=True, seconds=seconds)
    assert ordered(route, request(stream=True), standings, now=1.0) == (B, C, A)
    assert ordered(route, request(), standings, now=1.0) == (A, B, C), "streams say nothing of whole answers"
    assert ordered(route, request(stream=True), standings, now=99.0) == (A, B, C), "what is long ago is not known"


def test_one_that_is_not_known_is_tried(standings):
    known = standings.of("a/m")
    known.succeeded(known.enter(0.0, stream=False, again=False), stream=False, seconds=0.1)
    assert ordered(Route((A, B), "least_latency"), None, standings, now=1.0) == (B, A)


def test_the_least_busy_comes_first(standings):
    route = Route((A, B), "least_busy")
    standings.of("a/m").enter(0.0, stream=False, again=False)
    assert ordered(route, None, standings) == (B, A)
    standings.of("b/m").enter(0.0, stream=False, again=False)
    assert ordered(route, None, standings) == (A, B)


@pytest.mark.parametrize("fields", [{"tools": TOOLS}, {"functions": [{"name": "f"}]}])
def test_tools_go_to_those_that_take_them(fields):
    route = Route((A, B), abilities=(Ability(tools=False), Ability()))
    assert ordered(route, request(**fields)) == (B,)
    assert ordered(route, request(tools=[])) == (A, B)


def test_pictures_go_to_those_that_see():
    route = Route((A, B), abilities=(Ability(vision=False), Ability()))
    assert ordered(route, request(PICTURE)) == (B,)
    assert ordered(route, request([{"type": "text", "text": "x"}, "odd"])) == (A, B)


def test_nobody_takes_it():
    route = Route((A, B), abilities=(Ability(tools=False), Ability(vision=False)))
    assert ordered(route, request(PICTURE, tools=TOOLS)) == ()
    assert unable(request(PICTURE, tools=TOOLS).fields) == ("tools and pictures", "tools")
    assert unable(request(PICTURE).fields) == ("pictures", "messages")


def test_what_is_long_goes_to_those_with_room_and_to_all_where_none_has():
    route = Route((A, B, C), abilities=(Ability(context=100), Ability(context=1000), Ability(tools=False)))
    assert ordered(route, request("word " * 20)) == (A, B, C)
    assert ordered(route, request("word " * 200)) == (B, C)
    assert ordered(route, request("word " * 2000)) == (C,)
    assert ordered(route, request("word " * 2000, tools=TOOLS)) == (A, B), "the provider may know better"


@pytest.mark.parametrize("kind", [["x"], {}])
def test_a_part_of_no_type_is_no_picture(kind):
    route = Route((A, B), abilities=(Ability(vision=False), Ability()))
    assert ordered(route, request([{"type": kind}])) == (A, B)
