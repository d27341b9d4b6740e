"""What programs do: those that come with the gateway, and an operator's."""

import pytest

from tests.programs.conftest import QUESTION, agent, fields
from tests.programs.test_predict import level, predicted, problem


def test_cot_thinks_before_it_answers(gateway, upstream):
    upstream.say = lambda body: fields(reasoning="France is a country.", answer="Paris")
    assert predicted(gateway.predict(variant="cot"))["output"] == "Paris", "how it came to it is not what was asked for"
    assert "`[[ ## reasoning ## ]]`" in upstream.calls[0].asked


def test_react_uses_its_tools(gateway, upstream):
    upstream.say = agent(("calculator", {"expression": "(17 + 3) * 2.5"}), ("today", {}))
    predicted(gateway.predict("What is (17 + 3) * 2.5, and what day is it?", variant="react"))
    seen = upstream.calls[-1].asked
    assert "[[ ## observation_0 ## ]]\n50" in seen
    assert "[[ ## observation_1 ## ]]\n20" in seen, "the year"
    assert "[[ ## observation_2 ## ]]\nCompleted." in seen
    assert upstream.count == 4


def test_an_agent_s_tools_can_do_no_harm(gateway, upstream):
    upstream.say = agent(
        ("calculator", {"expression": "__import__('os').system('id')"}),
        ("calculator", {"expression": "9**9**9**9"}),
        ("days_between", {"first": "2026-01-31", "last": "soon"}),
    )
    predicted(gateway.predict(variant="react"))
    seen = upstream.calls[-1].asked
    assert "[[ ## observation_0 ## ]]\nThis is no arithmetic" in seen
    assert "[[ ## observation_1 ## ]]\nIt has no value, or one too large." in seen
    assert "[[ ## observation_2 ## ]]\nThis is no date" in seen


def test_typed_inputs_and_outputs(gateway, upstream):
    upstream.say = lambda body: fields(score="0.5")
    given = {"question": "Is it so?", "context": "It is."}
    assert predicted(gateway.predict(given, variant="score"))["output"] == "0.5"
    assert "[[ ## context ## ]]\nIt is." in upstream.calls[0].asked
    upstream.say = lambda body: fields(reasoning="-", title="A title", words='["a", "b"]')
    assert predicted(gateway.predict("a b", variant="several"))["output"] == {"title": "A title", "words": ["a", "b"]}
    upstream.say = lambda body: fields(total="2.5", currency="EUR")
    given = {"thing": "nail", "amount": "100"}
    assert predicted(gateway.predict(given, variant="price"))["output"] == {"total": 2.5, "currency": "EUR"}
    assert predicted(gateway.predict(given, variant="price"))["output"] == {"total": 2.5, "currency": "EUR"}, "also when stored"
    upstream.say = lambda body: fields(score="a lot")
    problem(gateway.predict({"question": "Is it?", "context": "No."}, variant="score"), 502, "answer_unfit")


def test_an_operator_s_module(gateway, upstream):
    assert predicted(gateway.predict(variant="upper"))["output"] == "PARIS "
    assert predicted(gateway.predict({"question": QUESTION, "times": 2}, variant="upper"))["output"] == "PARIS PARIS "
    assert upstream.count == 1, "what it asks is stored as well"


def test_a_saved_state_brings_its_instructions_and_examples_but_no_model(gateway, upstream):
    assert predicted(gateway.predict(variant="pirate"))["output"] == "Paris"
    (call,) = upstream.calls
    assert "Answer as a pirate does." in call.system
    assert any("AYE" in message["content"] for message in call.body["messages"])
    assert call.body["model"] == "gpt-3.5-turbo"


def test_a_program_s_own_model_is_not_asked(gateway, upstream):
    assert predicted(gateway.predict(variant="own"))["output"] == "Paris"
    assert upstream.calls[0].body["model"] == "gpt-3.5-turbo"


def test_what_is_asked_side_by_side_is_told_apart(gateway, upstream):
    upstream.delay = 0.5
    answer = predicted(gateway.predict(variant="three"))
    assert answer["output"] == "Paris Paris Paris"
    assert upstream.most == 3
    assert answer["metadata"]["input_tokens"] == 21


def test_rollouts_are_asked_apart(gateway, upstream):
    answers = iter(["one", "three", "seventeen"])
    upstream.say = lambda body: fields(answer=next(answers))
    assert predicted(gateway.predict(variant="best"))["output"] == "seventeen"
    assert upstream.count == 3


def test_a_program_that_fails(gateway, upstream):
    for variant, error in (("fails", "LookupError"), ("leaves", "SystemExit")):
        answer = gateway.predict("canary-of-the-question", variant=variant)
        assert variant in problem(answer, 500, "program_failed")["error"]
        note = gateway.noted("program_failed", variant)
        assert (note["error"], note["at"].partition(":")[0]) == (error, "shop.py")
        assert "canary" not in answer.body.decode()
    assert "canary" not in gateway.lines.read_text()
    assert predicted(gateway.predict())["output"] == "Paris", "the others go on"


def test_a_program_that_cannot_be_loaded(gateway, upstream):
    for variant, error in (("absent", "ModuleNotFoundError"), ("wrong", "ValueError")):
        assert variant in problem(gateway.predict(variant=variant), 500, "program_failed")["error"]
        assert gateway.noted("program_unusable", variant)["error"] == error
    assert upstream.count == 0


def test_another_version_answers_anew(start, upstream):
    config = "programs: {{qa: {{signature: 'question -> answer', version: '{}'}}}}"
    gateway = start(config.format("1"))
    assert [level(gateway.predict(variant="qa")) for _ in range(2)] == [None, "memory"]
    (gateway.home / "sentinel.yaml").write_text(config.format("2"))
    assert gateway.admin("POST", "/admin/reload").status == 200
    asked = gateway.predict(variant="qa")
    assert level(asked) is None
    assert upstream.count == 1, "what it asks of models is the same"
    (gateway.home / "sentinel.yaml").write_text("")
    assert gateway.admin("POST", "/admin/reload").status == 200
    problem(gateway.predict(variant="qa"), 422, "invalid_value")


def test_reworded_questions_answer_what_a_program_asks_only_if_it_says_so(start, upstream):
    gateway = start("programs: {open: {signature: 'question -> answer', semantic: true}}")
    reworded = f"Please tell me: {QUESTION[0].lower()}{QUESTION[1:]}"
    asked = [("open", QUESTION), ("open", reworded), ("baseline", reworded)]
    counts = []
    for variant, question in asked:
        assert level(gateway.predict(question, variant=variant)) is None, "no prediction is answered in other words"
        counts.append(upstream.count)
    assert counts == [1, 1, 2]


@pytest.mark.parametrize("variant", ["baseline", "cot", "react"])
def test_a_setting_can_stand_in_for_a_program_that_comes_with_the_gateway(start, upstream, variant):
    gateway = start(f"programs: {{{variant}: {{signature: 'question -> answer', instructions: 'Be brief.'}}}}")
    predicted(gateway.predict(variant=variant))
    assert "Be brief." in upstream.calls[0].system
