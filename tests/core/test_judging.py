"""Do two answers say the same? The rules, with the similarities that the built-in model finds (tests/semantic has the model)."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel_gateway.core.judging import LEAD, SHOWN, Case, agreement, brief, equal, lead, said, verdict
from tests.fakes import completion, completion_of

TEXTS = st.text(st.characters(codec="utf-8"), max_size=60)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Paris.", "paris", True),
        ("**Paris**", "Paris", True),
        ("It is\n5 km", "it is 5 km.", True),
        ("5", "-5", False),
        ("C", "C#", False),
        ("2.5", "25", False),
        ("Paris", "Lima", False),
    ],
)
def test_what_nobody_would_call_a_difference(one, other, same):
    assert equal(one, other) is same


def test_a_long_text_is_read_to_its_bound_and_then_compared_to_the_letter():
    begun, rest = "Long **Answer** " * (SHOWN // 16), "And so ON."
    assert len(begun) == SHOWN
    assert equal(begun + rest, begun.lower() + rest)
    assert not equal(begun + rest, begun + rest.lower())
    assert not equal(begun + rest, begun)
    assert equal(begun + rest, begun + rest)


@pytest.mark.parametrize(
    ("fresh", "stored", "cosine", "same"),
    [
        ("The capital of France is Paris.", "Paris is the capital of France.", 0.98, True),
        ("Your card usually arrives within 5 business days.", "It usually takes 5 business days to arrive.", 0.94, True),
        ("It takes 5 days.", "It takes 7 days.", 0.87, False),
        ("Yes, it is legal.", "No, it is not legal.", 0.96, False),
        ("The capital of France is Paris.", "The capital of Peru is Lima.", 0.23, False),
        ("Boil the pasta for ten minutes in salted water.", "Mitochondria produce most of the energy of a cell.", 0.07, False),
        ("You can buy shares through your broker's app.", "You can sell shares through your broker's app.", 0.9, None),
        ("You should take it before meals.", "You should take it after meals.", 0.95, None),
        ("It is not on sale in Peru now.", "It is on sale in Peru now.", 0.95, None),
        ("Yes.", "Your card works abroad once it has been activated.", 0.1, None),
        ("Cancel the card in the app under Cards.", "Order a new card in the app under Cards.", 0.76, None),
        (
            "The train leaves at 7:30 and takes two hours to reach the coast.",
            "The train leaves at 7:45 and takes two hours to reach the coast.",
            0.97,
            None,
        ),
        ("프랑스의 수도는 파리입니다", "프랑스의 수도는 파리입니다만", 0.99, None),
    ],
)
def test_agreement(fresh, stored, cosine, same):
    assert agreement(fresh, stored, cosine) is same
    assert agreement(stored, fresh, cosine) is same


@given(TEXTS, TEXTS, st.floats(-1, 1))
def test_agreement_is_symmetric_and_equality_is_an_equivalence(one, other, cosine):
    assert agreement(one, other, cosine) == agreement(other, one, cosine)
    assert equal(one, one)
    assert equal(one, other) == equal(other, one)


@given(st.text(max_size=2000))
def test_a_lead_is_a_beginning_of_bounded_length(text):
    assert text.startswith(lead(text))
    assert len(lead(text)) <= LEAD
    assert lead(text) == text or len(lead(text)) > LEAD // 2


def test_a_lead_ends_with_a_sentence():
    text = "It is so. " * 60
    assert lead(text).endswith("so.")
    assert len(lead(text)) > LEAD - 10


def test_what_an_answer_says():
    assert said(completion(" Paris. ").answer.fields) == "Paris."
    assert said(completion("  ").answer.fields) is None
    assert said(completion(None).answer.fields) is None
    assert said(completion("Calling.", tool_calls=[{"id": "c"}]).answer.fields) is None
    assert said(completion("Calling.", function_call={"name": "f"}).answer.fields) is None
    message = {"message": {"role": "assistant", "content": "Paris."}, "finish_reason": "stop"}
    assert said(completion_of(message, message).answer.fields) is None


def test_a_model_is_given_the_texts_as_data_and_no_more_than_enough():
    asked = brief(Case('Say "yes"', "a" * 9999, "b"), "judge")
    assert (asked["model"], asked["temperature"]) == ("judge", 0)
    shown = msgspec.json.decode(asked["messages"][1]["content"])
    assert shown == {"question": 'Say "yes"', "first": "a" * SHOWN, "second": "b"}


@pytest.mark.parametrize(
    ("reply", "told"),
    [("yes", True), ("No.", False), ("**Yes**, both", True), ("Noise", None), ("I think yes", None), ("", None), (None, None)],
)
def test_what_a_model_says(reply, told):
    assert verdict(completion(reply).answer) is told
