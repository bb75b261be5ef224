"""Pure numbers about predictions: accuracy, accuracy by tag, and frames that hit the evidence."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from cache_schema.question_table import Question
from train.predictions import Prediction

Span = tuple[float, float]


def accuracy(predictions: Sequence[Prediction]) -> float:
    """Share of right answers; NaN of none."""
    return _mean([float(prediction.correct) for prediction in predictions])


def accuracy_by_tag(
    predictions: Sequence[Prediction], questions: Sequence[Question]
) -> dict[str, tuple[float, int]]:
    """Accuracy and number of questions of every tag, in tag order.

    A question counts in each of its tags, as AGQA and EgoTaskQA report their categories.
    """
    tags = {question.question_id: question.tags for question in questions}
    right: defaultdict[str, list[float]] = defaultdict(list)
    for prediction in predictions:
        for tag in tags[prediction.question_id]:
            right[tag].append(float(prediction.correct))
    return {tag: (_mean(right[tag]), len(right[tag])) for tag in sorted(right)}


def frame_hit(frame_times: Sequence[float], spans: Sequence[Span]) -> float:
    """Share of frames presented inside any span, both ends included; NaN without frames."""
    return _mean([float(any(a <= time <= b for a, b in spans)) for time in frame_times])


def mean_frame_hit(
    predictions: Sequence[Prediction], evidence: Mapping[str, Sequence[Span]]
) -> float:
    """Mean of `frame_hit` over the questions that have evidence and selected frames."""
    return _mean(
        [
            frame_hit(prediction.frame_time, evidence[prediction.question_id])
            for prediction in predictions
            if prediction.frame_time and evidence.get(prediction.question_id)
        ]
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("nan")
