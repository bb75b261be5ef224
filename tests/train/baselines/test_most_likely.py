import pytest

from cache_schema.errors import InputError
from cache_schema.tables.question_table import Question
from train.baselines.most_likely import majority_predictions


def question(name: str, answer: str, *tags: str) -> Question:
    return Question(
        question_id=name, clip_id="c", question="?", answer=answer, split="train", tags=tags
    )


def test_majority_answers_by_type():
    training = [
        question("1", "red", "type:color"),
        question("2", "blue", "type:color"),
        question("3", "blue", "type:color"),
        question("4", "yes", "level:x", "type:exist"),
        question("5", "no", "type:exist"),
        question("6", "no"),
        question("7", "no"),
    ]
    asked = [
        question("a", "red", "type:color"),
        question("b", "no", "type:exist"),
        question("c", "no", "type:never seen"),
        question("d", "no"),
    ]
    answers = {row.question_id: row.predicted for row in majority_predictions(training, asked)}
    assert answers == {"a": "blue", "b": "no", "c": "no", "d": "no"}
    of_all = majority_predictions(training, asked, over="all")
    assert {row.predicted for row in of_all} == {"no"}


def test_majority_needs_training_questions():
    with pytest.raises(InputError, match="no training questions"):
        majority_predictions([], [question("a", "b")])
