"""Pure numbers about predictions: accuracy, and frames that hit the evidence."""

from collections.abc import Mapping, Sequence

from train.predictions import Prediction

Span = tuple[float, float]


def accuracy(predictions: Sequence[Prediction]) -> float:
    """Share of right answers; NaN of none."""
    return _mean([float(prediction.correct) for prediction in predictions])


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
