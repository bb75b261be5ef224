"""The summary's numbers against counts made by hand."""

import pytest

from cache_schema import Question
from pipelines.scores.reruns import rerun_note
from pipelines.summary import Evaluated, summarise, summary_table
from train.predictions import Prediction


def _question(number: int, kind: str, level: str | None) -> Question:
    tags = (f"type:{kind}",) + ((f"level:{level}",) if level else ())
    return Question(
        question_id=f"q{number}", clip_id="c", question="?", answer="a", split="test", tags=tags
    )


def _answer(number: int, *, right: bool, times: tuple[float, ...] = ()) -> Prediction:
    return Prediction(
        question_id=f"q{number}",
        predicted="a" if right else "b",
        answer="a",
        frame_index=tuple(range(len(times))),
        frame_time=times,
    )


QUESTIONS = [
    _question(0, "color", "core"),
    _question(1, "color", "core"),
    _question(2, "order", "hard"),
]
EVIDENCE = {"q0": [(1.0, 2.0)], "q1": [], "q2": [(5.0, 6.0), (8.0, 9.0)]}


@pytest.fixture
def summary():
    main = [
        _answer(0, right=True, times=(1.5, 3.0)),
        _answer(1, right=False, times=(1.5, 3.0)),
        _answer(2, right=True, times=(5.5, 8.5, 7.0, 7.5)),
    ]
    blind = [_answer(i, right=False) for i in range(3)]
    start = [_answer(i, right=False, times=(1.5,)) for i in range(3)]
    return summarise(
        Evaluated(
            questions=QUESTIONS,
            evidence=EVIDENCE,
            answers={"videodistill": main, "majority": blind},
            at_init=start,
        )
    )


def test_levels_are_counted_apart(summary):
    assert summary["accuracy"] == {"videodistill": 0.5, "majority": 0.0}
    assert summary["hard"]["accuracy"] == {"videodistill": 1.0, "majority": 0.0}
    assert summary["questions"] == {"core": 2, "hard": 1}


def test_frame_hit_leaves_out_questions_without_evidence_and_runs_without_frames(summary):
    assert summary["frame_hit"] == {"videodistill": 0.5, "at_init": 1.0}
    assert summary["hard"]["frame_hit"] == {"videodistill": 0.5, "at_init": 0.0}


def test_types_know_their_level(summary):
    kinds = {name: (t["level"], t["questions"]) for name, t in summary["per_type"].items()}
    assert kinds == {"color": ("core", 2), "order": ("hard", 1)}


def test_a_question_counts_in_each_of_its_types():
    both = Question(
        question_id="q0",
        clip_id="c",
        question="?",
        answer="a",
        split="test",
        tags=("type:exists", "type:sequencing"),
    )
    found = summarise(
        Evaluated(
            questions=[both],
            evidence={},
            answers={"main": [_answer(0, right=True)]},
            at_init=None,
        )
    )
    assert {name: t["questions"] for name, t in found["per_type"].items()} == {
        "exists": 1,
        "sequencing": 1,
    }
    assert found["questions"]["core"] == 1


def test_without_levels_everything_is_core_and_nothing_is_not_a_number():
    found = summarise(
        Evaluated(
            questions=[_question(0, "who", None)],
            evidence={},
            answers={"main": [_answer(0, right=True, times=(1.0,))]},
            at_init=None,
        )
    )
    assert found["accuracy"] == {"main": 1.0}
    assert found["hard"]["accuracy"] == {"main": None}
    assert found["frame_hit"] == {"main": None}


def test_the_majority_of_all_types_is_counted_and_left_to_the_page():
    answers = [_answer(i, right=i == 0) for i in range(3)]
    found = summarise(
        Evaluated(
            questions=QUESTIONS,
            evidence={},
            answers={"main": answers, "majority": answers, "majority_all": answers},
            at_init=None,
        )
    )
    assert found["accuracy"]["majority_all"] == 0.5
    assert found["per_type"]["order"]["accuracy"]["majority_all"] == 0.0
    table = summary_table(found | {"dataset": "custom", "split": "test", "seed": 1})
    assert [column.header for column in table.columns] == [
        "questions", "n", "main", "major-\nity", "hit"
    ]  # fmt: skip


def test_the_table_says_what_was_left_out_and_what_cannot_be_answered(summary):
    summary |= {"dataset": "custom", "split": "test", "seed": 1}
    summary["clip_cache_reruns"] = []
    assert summary_table(summary).caption is None
    summary["clip_cache_reruns"] = ["hcrn", "mist"]
    summary["coverage"] = {
        "train": {"questions": 9, "covered_questions": 9},
        "test": {"questions": 2000, "covered_questions": 500},
    }
    summary["unknown_answers"] = {"videodistill": 0.25, "uniform": 0.25, "small": 0.5, "all": 0.0}
    assert summary_table(summary).caption.splitlines() == [
        rerun_note(["hcrn", "mist"]),
        "test: 1,500 of 2,000 questions are left out: their clips have no features",
        "25.0% of the test answers are none of the classes of videodistill, uniform: they count as wrong",
        "50.0% of the test answers are none of the classes of small: they count as wrong",
    ]
