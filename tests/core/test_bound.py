"""Which questions are bound to their moment or to who asks, and what becomes of them."""

import csv
import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel_gateway.core.bound import LONGEST, MOST_QUESTIONS, BoundRules, Restriction, bounds, restriction
from sentinel_gateway.core.guards.moments import NOW
from tests.guards.near_misses import rewordings

CAST = Path(__file__).parents[1] / "semantic" / "data" / "cast_2019_2022.tsv.gz"

TIME_BOUND = [
    "What happened in Berlin today?",
    "what is today's date",
    "Who is the current president of Peru?",
    "What are the latest trends in nursing?",
    "What's the most recent version of Blender?",
    "Which bridges are closed right now?",
    "How old is the Pope now?",
    "Is now a good time to buy a house?",
    "Who plays tonight?",
    "Which films start next Friday?",
    "What was decided at the summit last week?",
    "Who resigned two days ago?",
    "Will the shops be open tomorrow?",
    "What should I wear tomorrow?",
    "What does the museum currently show?",
    "how's the weather",
    "What is the weather like in Oslo?",
    "weather in Oslo",
    "Is it raining in Bergen?",
    "will it snow",
    "How hot is it outside?",
    "What's the stock price of Siemens?",
    "what is siemens' stock price",
    "How much is bitcoin worth?",
    "What is the price of gold?",
    "What is the exchange rate between the euro and the dollar?",
    "How many yen are in a dollar?",
    "convert 100 usd to eur",
    "What's the score?",
    "Who is winning?",
    "How is the traffic on the A4?",
    "Is there traffic on the bridge?",
    "What is the status of flight LH 123?",
    "Is flight LH 123 on time?",
    "Is the harbour still closed?",
    "What's in the news?",
    "Any news about the strike?",
    "what time is it in Lima",
    "What's the time?",
    "What day is it?",
    "Hello! Could you please tell me what the weather is like today?",
    "I am in Rome. What is open right now?",
    "Can you list all tournaments of this month",
    "What\u2019s the weather like in Oslo?",
]
PERSONAL = [
    "Where is my order?",
    "Has our invoice been paid?",
    "What is my balance?",
    "what's my savings account balance",
    "When will my package arrive?",
    "How much do I owe?",
    "how much did we spend on travel",
    "How many points are on my card? How many are my reward points?",
    "Show me our open invoices.",
    "Track my parcel",
    "Do I have any meetings?",
    "What is on my calendar for the 3rd of March?",
    "Is my appointment confirmed?",
    "Did I get an email from Ana?",
    "Who am I?",
    "What is my name?",
    "Could you check my order, please?",
]
BOTH = ["What meetings are on my calendar today?", "Which invoices of our company are due this week? Are our invoices paid?"]
FREE = [
    "What is the capital of France?",
    "How do I track an order?",
    "How do I cancel my order?",
    "Where can I find my invoices?",
    "Can I change my delivery address?",
    "What happens if my payment is declined?",
    "Why was my payment declined?",
    "What is the best way to check my balance?",
    "What does my name mean?",
    "My card was stolen yesterday, what should I do?",
    "I ordered a lamp last week and it broke. How do I return it?",
    "Why did my card get declined today?",
    "How do I replace my card before it expires next month?",
    "What is alternating current?",
    "What is the current in a series circuit?",
    "What does the current account cost?",
    "Is current a vector?",
    "Would a zeppelin be safe today?",
    "If it rains tomorrow, what will the snails do?",
    "What do today's kids read?",
    "What are the best sources for news?",
    "How are the exchange rates for transfers calculated?",
    "How does weather differ from climate?",
    "What is the weather like in Oslo in March?",
    "Why does it rain?",
    "What is a stock price?",
    "How are exchange rates determined?",
    "What is an exchange rate?",
    "What is a good GRE score?",
    "Who wrote the score of Jaws?",
    "How do traffic lights work?",
    "What is the time complexity of quicksort?",
    "What time is it when both hands point up?",
    "What should I learn now that I know Python?",
    "From now on, should a function be pure?",
    "How long does milk last?",
    "What comes next after the letter b?",
    'How do you say "today" in Danish?',
    "What does `datetime.now today` do?",
    "The weather is nice today.",
    "",
    "?!?",
]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        *((text, {"time-bound"}) for text in TIME_BOUND),
        *((text, {"personal"}) for text in PERSONAL),
        *((text, {"time-bound", "personal"}) for text in BOTH),
        *((text, set()) for text in FREE),
    ],
)
def test_what_a_question_is_bound_to(text, found):
    assert bounds(text) == found
    assert bounds(text.upper().replace("\u2019S", "'S")) == found
    assert bounds(f"  {text}\n") == found


@pytest.mark.parametrize("word", sorted(NOW - {"nowadays", "ongoing", "current", "latest", "newest", "currently"}))
def test_the_guard_and_the_rule_know_the_same_words(word):
    assert bounds(f"What happens {word}?") == {"time-bound"}


@pytest.mark.parametrize("word", ["current", "latest", "newest"])
def test_as_adjectives_as_well(word):
    assert bounds(f"What is the {word} model?") == {"time-bound"}


def test_what_is_long_is_a_text_and_no_question():
    assert bounds("What is open today? " + "x" * (LONGEST - 20)) == {"time-bound"}
    assert bounds("What is open today? " + "x" * (LONGEST - 19)) == frozenset()
    assert bounds("What is " + "very " * 40 + "new today?") == frozenset()
    assert bounds("Why? " * (MOST_QUESTIONS - 1) + "What is open today?") == {"time-bound"}
    assert bounds("Why? " * MOST_QUESTIONS + "What is open today?") == frozenset()


def test_ordinary_questions_are_hardly_ever_caught():
    """Of the turns of real conversations, and of questions from templates, none of which asks for what changes by the hour."""
    with gzip.open(CAST, "rt", encoding="utf-8", newline="") as file:
        turns = [row["raw_utterance"] for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)]
    caught = [text for text in turns if bounds(text)]
    assert len(turns) > 600
    assert len(caught) <= 0.01 * len(turns), caught
    pairs = list(rewordings())
    assert sum(1 for pair in pairs if bounds(pair.question)) <= 0.01 * len(pairs)


# -- what becomes of them

TREATMENTS = ["usual", "exact", "brief", "never"]
STRICTNESS = {"usual": -1, "exact": 0, "brief": 1, "never": 2}
RULES = st.builds(BoundRules, personal=st.sampled_from(TREATMENTS), time=st.sampled_from(TREATMENTS), brief=st.floats(0.1, 1e6))


@given(st.sampled_from([TIME_BOUND[0], PERSONAL[0], *BOTH, FREE[0]]), RULES)
def test_the_strictest_treatment_holds(text, rules):
    treatments = {"personal": rules.personal, "time-bound": rules.time}
    strictest = max((treatments[why] for why in bounds(text)), key=STRICTNESS.__getitem__, default="usual")
    held = restriction(text, rules)
    if strictest == "usual":
        assert held is None
    else:
        assert held.most == {"exact": None, "brief": rules.brief, "never": 0.0}[strictest]
        assert held.why in bounds(text)
        assert treatments[held.why] == strictest


def test_by_default_both_are_brief():
    assert restriction("Where is my order?", BoundRules()) == Restriction("personal", 300.0)
    assert restriction("What's the score?", BoundRules()) == Restriction("time-bound", 300.0)


@given(st.text(max_size=2 * LONGEST))
def test_any_text_is_read(text):
    assert bounds(text) <= {"time-bound", "personal"}
