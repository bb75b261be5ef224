"""The needle asked in every way that a run can be: in words, by choices, by captions."""

from dataclasses import replace

import numpy as np

from cache_schema import Caption
from cache_schema.tables.question_table import Question, QuestionTable, choice_text
from cache_schema.tables.sentence_table import SentenceTable
from tests.train.conftest import ANSWERS, Needle
from train.caption_pairs import caption_questions
from train.config import Task


def sentences_with_candidates(needle: Needle) -> SentenceTable:
    """The needle's sentences, with those that stand for the candidates."""
    random = np.random.default_rng(5)
    word = {answer: random.standard_normal(needle.sentences.dim) * 4 for answer in ANSWERS}
    rows = {
        choice_text(text, answer): feature + word[answer]
        for text, feature in zip(needle.sentences.texts, needle.sentences.features, strict=True)
        for answer in ANSWERS
    }
    return replace(
        needle.sentences,
        texts=(*needle.sentences.texts, *rows),
        features=np.concatenate([needle.sentences.features, np.stack(list(rows.values()))]).astype(
            np.float32
        ),
    )


def with_candidates(question: Question) -> Question:
    return replace(question, candidates=ANSWERS, answer_index=ANSWERS.index(question.answer))


def captions_of(needle: Needle) -> QuestionTable:
    """Captions that say which answer a clip's frames of a kind show."""
    return caption_questions(
        [
            Caption(
                caption_id=q.question_id,
                clip_id=q.clip_id,
                text=f"{q.question} {q.answer}",
                split=q.split,
            )
            for q in needle.questions
        ]
    )


def asked_as(task: Task, needle: Needle) -> Needle:
    """The needle with questions as a task has them, and the sentences that these need."""
    if task == "answer":
        return needle
    questions = (
        captions_of(needle)
        if task == "pretrain"
        else [with_candidates(question) for question in needle.questions]
    )
    return replace(needle, questions=questions, sentences=sentences_with_candidates(needle))
