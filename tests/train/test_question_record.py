"""A run goes on with the questions and answer classes that it was started with, or not at all."""

from dataclasses import replace

import pytest

from cache_schema import open_questions, write_questions
from cache_schema.errors import InputError
from cache_schema.tables.question_table import tabled
from tests.train.conftest import make_needle
from train.checkpoint import read_checkpoint, write_checkpoint
from train.question_record import record_of
from train.run import train_run
from train.run_state import LAST
from train.vocabulary import Vocabulary


@pytest.fixture
def questions():
    return make_needle({"train": 2, "val": 1}).questions


def record(training, validation=()):
    return record_of(tabled(training), tabled(validation))


def moved_letter(questions):
    first, second, *rest = questions
    text = first.question + second.question[0]
    return [
        replace(first, question=text),
        replace(second, question=second.question[1:]),
        *rest,
    ]


OTHERS = {
    "order": lambda asked: asked[::-1],
    "fewer": lambda asked: asked[1:],
    "id": lambda asked: [replace(asked[0], question_id="other"), *asked[1:]],
    "answer": lambda asked: [replace(asked[0], answer="other"), *asked[1:]],
    "clip": lambda asked: [replace(asked[0], clip_id="other"), *asked[1:]],
    "choices": lambda asked: [
        replace(asked[0], candidates=(asked[0].answer, "other"), answer_index=0),
        *asked[1:],
    ],
    "a letter that moved into the next text": moved_letter,
}


@pytest.mark.parametrize("change", OTHERS.values(), ids=OTHERS)
def test_a_record_tells_other_questions(questions, change):
    assert record(change(questions)).digest != record(questions).digest
    assert record(questions, change(questions)).digest != record(questions, questions).digest


def test_a_record_is_that_of_the_questions_wherever_they_lie(questions, tmp_path):
    write_questions(tmp_path / "q.parquet", questions)
    opened = open_questions(tmp_path / "q.parquet")
    assert record_of(opened, opened[:4]) == record(questions, questions[:4])
    tagged = [replace(question, tags=("type:other",)) for question in questions]
    assert record(tagged) == record(questions)


class Interrupted(Exception):  # noqa: N818
    pass


def stop(report):
    if report.step == 5:
        raise Interrupted


@pytest.fixture
def half_covered():
    """A store that lacks every second training clip, and what it lacks."""
    needle = make_needle({"train": 24, "val": 4})
    missing = {f"train-{number:03d}" for number in range(0, 24, 2)}
    return needle, {clip: needle.store.cls.pop(clip) for clip in missing}


def interrupted(needle, config, run_dir):
    asked = (needle.store, needle.questions, needle.sentences)
    with pytest.raises(Interrupted):
        train_run(config, *asked, run_dir, on_step=stop)


def test_a_store_that_grew_does_not_go_on_with_the_run(half_covered, short_config, tmp_path):
    needle, missing = half_covered
    config = replace(short_config, min_coverage=0.0)
    interrupted(needle, config, tmp_path)
    needle.store.cls |= missing
    with pytest.raises(InputError, match=r"48 to train on.* then, 96 to train on") as caught:
        train_run(config, needle.store, needle.questions, needle.sentences, tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert read_checkpoint(tmp_path / LAST).progress.step == 4


def forget_questions(run_dir, **changes):
    """Make the last checkpoint one of before there were records."""
    state = read_checkpoint(run_dir / LAST)
    write_checkpoint(run_dir / LAST, replace(state, questions=None, **changes))


def test_an_older_checkpoint_is_held_to_its_answer_classes(small_needle, short_config, tmp_path):
    interrupted(small_needle, short_config, tmp_path)
    asked = (small_needle.store, small_needle.questions, small_needle.sentences, tmp_path)
    permuted = Vocabulary(read_checkpoint(tmp_path / LAST).vocabulary.answers[::-1])
    own = read_checkpoint(tmp_path / LAST).vocabulary
    forget_questions(tmp_path, vocabulary=permuted)
    with pytest.raises(InputError, match="other answer classes: 4 then, 4 now"):
        train_run(short_config, *asked)
    forget_questions(tmp_path, vocabulary=own)
    assert train_run(short_config, *asked).steps == 8
