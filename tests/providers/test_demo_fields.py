"""The demo answers what DSPy's programs ask: every field that is wanted, with what its type allows."""

import json

import pytest

from sentinel_gateway.providers._demo_fields import COMPLETED, fill, first_input
from sentinel_gateway.providers._instances import NoInstance

ASKED = """[[ ## question ## ]]
What is the capital
of France?

[[ ## context ## ]]
None.

Respond with the corresponding output fields, starting with the field `[[ ## answer ## ]]`, then `[[ ## score ## ]]` (must be \
formatted as a valid Python float), and then ending with the marker for `[[ ## completed ## ]]`."""


def filled(note: str) -> str:
    system = (
        f"[[ ## answer ## ]]\n{{answer}}\n\n[[ ## score ## ]]\n{{score}}{' ' * 8}# note: the value you produce {note}\n\nMore."
    )
    text = fill(system, ASKED, text="as asked")
    start, answer, score, end = text.replace("\n\n", "\n").split("[[ ## ")
    assert (start, answer, end) == ("", "answer ## ]]\nas asked\n", f"{COMPLETED} ## ]]")
    return score.removeprefix("score ## ]]\n").strip()


def test_the_first_input_is_the_question():
    assert first_input(ASKED) == "What is the capital\nof France?"
    assert first_input("What is the capital of France?") is None
    assert first_input("[[ ## question ## ]]\nWhat is it?") is None, "nothing is wanted"


@pytest.mark.parametrize(
    ("note", "value"),
    [
        ("must be a single float value", "1.0"),
        ("must be a single int value", "1"),
        ("must be True or False", "True"),
        ("must exactly match (no extra characters) one of: calculator; today; finish", "finish"),
        ("must be one of: red; green", "green"),
        ('must adhere to the JSON schema: {"type": "object", "additionalProperties": true}', "{}"),
        ("must be something new", "as asked"),
    ],
)
def test_a_field_has_what_its_type_allows(note, value):
    assert filled(note) == value


def test_a_schema_is_held():
    schema = {"type": "array", "items": {"type": "string"}, "minItems": 2}
    assert len(json.loads(filled(f"must adhere to the JSON schema: {json.dumps(schema)}"))) == 2
    for broken in ("{", '{"type": "nothing"}'):
        with pytest.raises(NoInstance):
            filled(f"must adhere to the JSON schema: {broken}")
