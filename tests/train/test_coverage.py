"""Coverage against a count by hand, question by question."""

import random
from dataclasses import replace

import pytest

from cache_schema.errors import ClipMissing
from cache_schema.tables.question_table import Question, tabled
from train.coverage import coverage_by_split, coverage_of, usable
from train.evaluation import evaluate_run
from train.run import train_run


def _question(number, *clips):
    several = clips if len(clips) > 1 else ()
    return Question(
        question_id=f"q{number}",
        clip_id=clips[0],
        clip_ids=several,
        question="?",
        answer=clips[0] if several else "a",
        answer_index=0 if several else -1,
        split="train",
    )


QUESTIONS = [
    _question(0, "a"),
    _question(1, "a"),
    _question(2, "b"),
    _question(3, "a", "b"),
    _question(4, "c", "a"),
]


def test_a_question_counts_if_all_its_clips_are_there():
    found = coverage_of(tabled(QUESTIONS), ["a", "c", "never-asked"])
    assert (found.covered_questions, found.questions) == (3, 5)
    assert (found.covered_clips, found.clips) == (2, 3)
    assert (found.first_missing, found.share) == ("b", 0.6)
    assert str(found) == "3 of 5 questions and 2 of 3 clips have features"


def test_as_a_loop_counts():
    rng = random.Random(3)
    names = [f"clip{n}" for n in range(30)]
    asked = [_question(n, *rng.sample(names, rng.choice([1, 1, 5]))) for n in range(200)]
    there = set(rng.sample(names, 20))
    kept = [question for question in asked if set(question.clips) <= there]
    found = coverage_of(tabled(asked), there)
    clips = {clip for question in asked for clip in question.clips}
    assert found.covered_questions == len(kept)
    assert (found.clips, found.covered_clips) == (len(clips), len(clips & there))
    assert list(usable(tabled(asked), there, 0.0, "train")) == kept


def test_whole_coverage_leaves_the_table_as_it_is():
    table = tabled(QUESTIONS)
    assert usable(table, ["a", "b", "c"], 1.0, "train") is table
    assert coverage_of(table, ["a", "b", "c"]).first_missing is None


@pytest.mark.parametrize("least", [0.61, 1.0])
def test_less_than_was_asked_for_is_refused(least):
    with pytest.raises(ClipMissing, match=r"train: 3 of 5 questions .* 'b'.*--skip-missing"):
        usable(tabled(QUESTIONS), ["a", "c"], least, "train")


def test_exactly_what_was_asked_for_is_enough():
    left = usable(tabled(QUESTIONS), ["a", "c"], 0.6, "train")
    assert [question.question_id for question in left] == ["q0", "q1", "q4"]


def test_nothing_usable_is_an_error_whatever_is_asked_for():
    with pytest.raises(
        ClipMissing, match="of none of the 5 questions are all clips among the 1 that"
    ):
        usable(tabled(QUESTIONS), ["other"], 0.0, "train")


def test_each_split_is_counted_apart():
    asked = [*QUESTIONS, replace(QUESTIONS[0], question_id="q9", split="test")]
    found = coverage_by_split(tabled(asked), ["a"])
    assert {split: (c.covered_questions, c.questions) for split, c in found.items()} == {
        "train": (2, 5),
        "test": (1, 1),
    }


def test_no_questions_are_covered():
    found = coverage_of(tabled([]), ["a"])
    assert (found.share, found.clips) == (1.0, 0)


@pytest.fixture
def gaps(small_needle):
    """The small needle, whose store lacks a training clip and a test clip."""
    for clip in ("train-001", "test-000"):
        assert any(question.clip_id == clip for question in small_needle.questions)
        del small_needle.store.cls[clip]
    return small_needle


def test_a_run_refuses_gaps_unless_they_are_accepted(gaps, short_config, tmp_path):
    asked = (gaps.store, gaps.questions, gaps.sentences)
    with pytest.raises(ClipMissing, match=r"train: .* 'train-001'"):
        train_run(short_config, *asked, tmp_path / "strict")
    assert not (tmp_path / "strict").exists()
    whole = replace(short_config, min_coverage=0.5)
    train_run(whole, *asked, tmp_path / "lenient")
    predictions = evaluate_run(tmp_path / "lenient", *asked)
    left = {q.question_id for q in gaps.questions if q.split == "test" and q.clip_id != "test-000"}
    assert {prediction.question_id for prediction in predictions} == left


def test_a_test_split_with_gaps_is_accepted_when_it_is_evaluated(
    small_needle, short_config, tmp_path
):
    asked = (small_needle.store, small_needle.questions, small_needle.sentences)
    train_run(short_config, *asked, tmp_path)
    del small_needle.store.cls["test-000"]
    with pytest.raises(ClipMissing, match=r"test: .* 'test-000'"):
        evaluate_run(tmp_path, *asked)
    assert evaluate_run(tmp_path, *asked, min_coverage=0.0)
