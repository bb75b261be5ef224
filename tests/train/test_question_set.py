from dataclasses import replace

import numpy as np
import pytest

from cache_schema import Question, open_questions, write_questions
from cache_schema.errors import InputError
from train.question_set import QuestionSet
from train.vocabulary import UNKNOWN, Vocabulary

VOCABULARY = Vocabulary(("one", "two"))


def build(needle, questions=None) -> QuestionSet:
    return QuestionSet(questions or needle.questions, needle.sentences, VOCABULARY)


def test_numbers_clips_answers_and_sentences(small_needle):
    questions = build(small_needle)
    for row in (0, 7, len(questions) - 1):
        asked = small_needle.questions[row]
        assert questions.clip_ids[questions.clip_of_question[row]] == asked.clip_id
        known = asked.answer in VOCABULARY.answers
        assert questions.answer[row] == (
            VOCABULARY.answers.index(asked.answer) if known else UNKNOWN
        )
        np.testing.assert_array_equal(
            questions.text_features(questions.pairs(np.array([row])).texts)[0],
            small_needle.sentences.lookup([asked.question])[0],
        )


def test_a_prepared_table_gives_the_same_without_making_its_questions(
    small_needle, tmp_path, monkeypatch
):
    write_questions(tmp_path / "q.parquet", small_needle.questions)
    in_memory = build(small_needle)
    table = open_questions(tmp_path / "q.parquet")
    made = []
    monkeypatch.setattr(Question, "__post_init__", made.append)
    opened = build(small_needle, table)
    rows = np.array([5, 0, 5, len(table) - 1])
    assert opened.clip_ids == in_memory.clip_ids
    np.testing.assert_array_equal(opened.clip_of_question, in_memory.clip_of_question)
    np.testing.assert_array_equal(opened.answer, in_memory.answer)
    assert opened.pairs(rows).texts == in_memory.pairs(rows).texts
    asked = [small_needle.questions[row] for row in rows]
    assert opened.ids(rows) == tuple(q.question_id for q in asked)
    assert opened.names(opened.pairs(rows).clip) == [q.clip_id for q in asked]
    assert made == []


def test_refuses_no_questions(small_needle):
    with pytest.raises(InputError, match="no questions to make batches of"):
        QuestionSet([], small_needle.sentences, VOCABULARY)


def test_refuses_questions_about_several_clips(small_needle):
    first = small_needle.questions[0]
    several = replace(first, clip_ids=(first.clip_id, "other"))
    with pytest.raises(InputError, match="1 questions ask about several clips"):
        build(small_needle, [several, *small_needle.questions[1:]])


def test_refuses_sentences_of_another_width(small_needle, make_identity):
    small_needle.store.identity = make_identity(dim=48)
    with pytest.raises(InputError, match="width 32, clip features 48"):
        build(small_needle).require_width(small_needle.store)
