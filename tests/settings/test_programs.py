"""Programs as an operator writes them: what is wrong is told, with what would be right."""

import pytest

from sentinel_gateway.settings.programs import FACES
from sentinel_gateway.telemetry.costs import FACES as NAMES
from sentinel_gateway.telemetry.costs import face


def program(text: str) -> str:
    return f"programs: {{{text}}}"


def test_what_is_right_is_read(configure):
    written = (
        'score: {signature: "question -> score: float", kind: cot, semantic: true}, shop: {module: "shop.programs:Shop.one"}'
    )
    programs = configure(program(written)).settings.programs
    assert (programs["score"].kind, programs["score"].semantic, programs["shop"].module) == (
        "cot",
        True,
        "shop.programs:Shop.one",
    )


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        ("qa: {}", "needs a module, or a signature"),
        ('qa: {module: "shop:one", kind: cot}', "for a program without a module"),
        ('qa: {module: "shop:one", instructions: Be brief.}', "for a program without a module"),
        ("qa: {module: shop}", "package.module:attribute"),
        ('qa: {module: "os; import x:y"}', "package.module:attribute"),
        ('qa: {signature: "a -> b", state: qa.pkl}', "must be JSON"),
        ('qa: {signature: "a -> b", state: qa}', "must be JSON"),
        ('Qa: {signature: "a -> b"}', "lower-case letters"),
        ('"a/b": {signature: "a -> b"}', "lower-case letters"),
        ('chat: {signature: "a -> b"}', "give the program another name"),
    ],
)
def test_what_is_wrong_is_told(faults, written, sentence):
    assert sentence in repr(faults(program(written)))


def test_no_program_is_named_as_costs_name_a_face():
    routes = ("/v1/completions", "/v1/responses", "/v1/embeddings", "/v1/messages", "/v1/query", "/v1/predict", "/v1/feedback")
    assert {*map(face, routes), *NAMES.values()} == set(FACES)
