import math

import pytest

from train.metrics import accuracy, frame_hit, mean_frame_hit
from train.predictions import Prediction


def said(name: str, right: bool, times: tuple[float, ...] = ()) -> Prediction:
    return Prediction(
        question_id=name, predicted="yes" if right else "no", answer="yes", frame_time=times
    )


def test_accuracy_is_the_share_of_right_answers():
    assert accuracy([said("a", True), said("b", False), said("c", True)]) == pytest.approx(2 / 3)
    assert math.isnan(accuracy([]))


@pytest.mark.parametrize(
    ("times", "spans", "expected"),
    [
        pytest.param([1.0, 2.0, 3.0, 4.0], [(2.0, 3.0)], 0.5, id="both ends included"),
        pytest.param([1.0, 9.0], [(0.0, 1.5), (8.0, 10.0)], 1.0, id="several spans"),
        pytest.param([1.0, 1.0], [(0.0, 2.0), (0.5, 1.5)], 1.0, id="overlaps count once"),
        pytest.param([1.0], [], 0.0, id="no spans"),
        pytest.param([], [(0.0, 1.0)], math.nan, id="no frames"),
    ],
)
def test_frame_hit(times, spans, expected):
    assert frame_hit(times, spans) == pytest.approx(expected, nan_ok=True)


def test_mean_frame_hit_leaves_out_questions_without_evidence_or_frames():
    predictions = [
        said("a", True, (1.0, 5.0)),
        said("b", True, (1.0,)),
        said("no evidence", True, (1.0,)),
        said("empty evidence", True, (1.0,)),
        said("no frames", True),
    ]
    evidence = {
        "a": [(0.0, 2.0)],
        "b": [(0.0, 2.0)],
        "empty evidence": [],
        "no frames": [(0.0, 2.0)],
    }
    assert mean_frame_hit(predictions, evidence) == pytest.approx(0.75)
