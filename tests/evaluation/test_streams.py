"""Streams are drawn from data sets as they lie in their folders; here from small ones of the same form."""

import gzip
from collections import Counter
from pathlib import Path

import pytest

from sentinel_gateway.evaluation import streams
from sentinel_gateway.evaluation.streams import Questions, Talk


@pytest.fixture
def data(tmp_path) -> Path:
    return tmp_path


def put(data: Path, name: str, *lines: str) -> None:
    (data / name).mkdir()
    with gzip.open(data / name / f"{name}.tsv.gz", "wt", encoding="utf-8") as file:
        file.write("\n".join(line.replace("|", "\t") for line in lines) + "\n")


QUESTIONS = Questions([f"q{n}" for n in range(60)], [f"a{n % 20}" for n in range(60)])


def test_intents_are_answers_and_out_of_scope_has_none(data):
    put(data, "clinc150", "split|intent|text", "train|pay|how to pay", "train|oos|who am i", "test|pay|how to pay")
    assert streams.intents(data, "clinc150") == Questions(["how to pay", "who am i"], ["pay", None])


def test_duplicates_of_duplicates_share_an_answer(data):
    put(data, "qqp80k", "label|text_a|text_b", "1|a|b", "1|c|b", "0|c|d", "1|e|f")
    found = dict(zip(*streams.duplicates(data), strict=True))
    assert found["a"] == found["b"] == found["c"]
    assert len({found[text] for text in "adef"}) == 3
    assert list(found)[-1] == "d", "those that stand alone come last"


def test_a_set_that_is_not_there_is_named(data):
    with pytest.raises(OSError, match="banking77"):
        streams.rows(data, "banking77")


def test_the_same_seed_draws_the_same_stream():
    for draw in (streams.shuffled, streams.drifting, streams.clashing):
        assert draw(QUESTIONS, 1) == draw(QUESTIONS, 1) != draw(QUESTIONS, 2)
    assert sorted(request.text for request in streams.shuffled(QUESTIONS, 1)) == list(range(60))


def test_popular_questions_come_again_among_other_traffic():
    background = list(range(60, 120))
    stream = streams.repeated(QUESTIONS, background, 0)
    others = [request for request in stream if request.answer is None]
    assert len(stream) == 60
    assert 8 < len(others) < 30
    assert len({request.text for request in others}) == len(others)
    assert Counter(request.text for request in stream).most_common(1)[0][1] > 1


def test_what_is_asked_for_changes_from_block_to_block():
    stream = streams.drifting(QUESTIONS, 0)
    first, last = ({request.answer for request in part} for part in (stream[:24], stream[-12:]))
    assert len(first) == 8
    assert not first & last


def test_tenants_share_no_scope_and_no_answer():
    stream = streams.clashing(QUESTIONS, 0)
    scopes = {request.answer[0]: request.scope for request in stream}
    assert len(stream) == 120
    assert scopes["a"] != scopes["b"]
    assert all(request.scope == scopes[request.answer[0]] for request in stream)
    assert all(request.realm == request.answer[0] for request in stream), "what one tenant teaches is nothing to the other"


def test_searches_come_in_the_order_of_their_days_and_by_popularity(data):
    put(
        data,
        "bing-coronavirus-2020-01",
        "Date|Query|IsImplicitIntent|Country|PopularityScore",
        "2020-01-02|late|True|Chile|99",
        "2020-01-01|early|True|Chile|100",
        "2020-01-02|rare|True|Peru|1",
    )
    found = streams.searches(data)
    assert [search.text for search in found] == ["early", "late", "rare"]
    many = streams.popular(found * 100, {"early": 0, "late": 1, "rare": 2}, 0)
    assert len(many) == 300
    assert Counter(request.text for request in many)[2] < 10
    assert {request.answer for request in many} == {None}
    once = [request.text for request in streams.popular(found, {"early": 0, "late": 1, "rare": 2}, 0)]
    assert once == sorted(once), "day by day"


def test_a_turn_belongs_to_its_conversation(data):
    put(
        data,
        "trec-cast-multiturn",
        "year|conversation|turn|raw_utterance|resolved_utterance|response_head",
        "1|1|1|What is a cat?|What is a cat?|",
        "1|1|2|How old?|How old is a cat?|",
        "1|2|1|What is a dog?|What is a dog?|",
        "1|2|2|How old?|How old is a dog?|",
    )
    talks = streams.talks(data)
    assert talks[0] == Talk(["What is a cat?", "How old?"], ["What is a cat?", "How old is a cat?"])
    number = {"What is a cat?": 0, "How old?": 1, "What is a dog?": 2}
    stream = streams.conversations(talks, number, 0, scoped=True)
    assert len({request.scope for request in stream}) == 3, "first turns share theirs"
    assert len({request.answer for request in stream}) == 4
    assert {request.scope for request in streams.conversations(talks, number, 0, scoped=False)} == {""}
