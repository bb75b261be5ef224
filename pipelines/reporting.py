"""Gathers what a report shows: the summary, the runs' curves, and a dozen looked-at questions."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from cache_schema import FeatureStore, Preprocess, Question
from cache_schema.storage.durable_files import replace_file
from extract.decode_pool import DecodedClip, DecodePool
from extract.frame_request import FrameRequest
from extract.limits import DecodeLimits
from pipelines.datasets.annotations import Annotations, Spans
from pipelines.report.content import Curve, Frame, ReportContent, Strip
from pipelines.report.page import render_page
from pipelines.report.thumbnails import thumbnail_png
from pipelines.summary import Summary, tag_of
from train.curves import read_curves
from train.predictions import Prediction, read_predictions

STRIPS = 12
_SHOWN_SIZE = 128
"""Side in pixels of the pictures in a strip."""
_SMOOTHED_STEPS = 20


def write_report(
    path: Path,
    *,
    title: str,
    about: tuple[str, ...],
    summary: Summary,
    runs: Mapping[str, Path],
    predictions: Path | None,
    annotations: Annotations,
    store: FeatureStore,
) -> None:
    """Write the page.

    Args:
        path: The HTML file.
        title: Its heading.
        about: Paragraphs on the data set.
        summary: The tree of `summary.json`.
        runs: Run name -> folder, for the curves.
        predictions: The main run's predictions; a dozen of them are shown with their frames. None
            where clips were ranked and no question answered.
        annotations: Where questions, evidence and video files come from.
        store: For the presentation times of all frames.
    """
    answered = [] if predictions is None else read_predictions(predictions)
    chosen = _choose(annotations.questions, answered)
    content = ReportContent(
        title=title,
        dataset=about,
        summary=summary,
        loss_curves=_curves(runs, "train", "loss"),
        accuracy_curves=_curves(runs, "validation", "accuracy"),
        strips=_strips(chosen, annotations, store),
    )
    replace_file(path, render_page(content).encode())


def _choose(
    questions: Sequence[Question], predictions: Sequence[Prediction]
) -> list[tuple[Question, Prediction]]:
    """A dozen questions: each type in turn, each from another video, as they come.

    Right and wrong answers appear as they fall; nothing is picked by how well it went.
    """
    by_id = {question.question_id: question for question in questions}
    waiting: dict[str, list[tuple[Question, Prediction]]] = {}
    for prediction in predictions:
        if prediction.frame_index:
            question = by_id[prediction.question_id]
            waiting.setdefault(tag_of(question, "type") or "", []).append((question, prediction))
    chosen, videos = list[tuple[Question, Prediction]](), set[str]()
    while any(waiting.values()) and len(chosen) < STRIPS:
        for queue in waiting.values():
            fresh = next((pair for pair in queue if _looked_at(*pair) not in videos), None)
            queue[:] = queue[queue.index(fresh) + 1 :] if fresh else []
            if fresh and len(chosen) < STRIPS:
                chosen.append(fresh)
                videos.add(_looked_at(*fresh))
    return chosen


def _strips(
    chosen: Sequence[tuple[Question, Prediction]], annotations: Annotations, store: FeatureStore
) -> tuple[Strip, ...]:
    """Decode the chosen questions' videos once more, in processes that may be killed."""
    clips = {clip.clip_id: clip for clip in annotations.clips}
    limits = DecodeLimits()
    shown = Preprocess(
        image_size=_SHOWN_SIZE,
        resize_mode="shortest",
        interpolation="bicubic",
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
    )
    with DecodePool(2, limits) as pool:
        waiting = [
            pool.submit(
                FrameRequest(
                    path=clip.path,
                    root=None,
                    start_s=clip.start_s,
                    end_s=clip.end_s,
                    frames=store.identity.frames,
                    preprocess=shown,
                    limits=limits,
                    backend="pyav",
                )
            )
            for clip in (clips[_looked_at(*pair)] for pair in chosen)
        ]
        return tuple(
            _strip(question, prediction, future.result(), store, annotations.evidence)
            for (question, prediction), future in zip(chosen, waiting, strict=True)
        )


def _looked_at(question: Question, prediction: Prediction) -> str:
    """The clip whose frames were selected: the one asked about, or the one of several that was chosen."""
    return prediction.predicted if question.choices == question.clip_ids != () else question.clip_id


def _strip(
    question: Question,
    prediction: Prediction,
    decoded: DecodedClip,
    store: FeatureStore,
    evidence: Mapping[str, Spans],
) -> Strip:
    clip_id = _looked_at(question, prediction)
    times = store.frame_times(clip_id)
    # An imported store may not know when its frames are; none can be shown then.
    timed = all(map(math.isfinite, times))
    spans = tuple(evidence.get(question.question_id, ()))
    frames = []
    # Independent draws may pick one frame several times; the page shows it once, in time order.
    for index in sorted(set(prediction.frame_index)):
        if decoded.pixels is None or decoded.slot is None or not timed:
            break
        time = float(times[index])
        inside = any(start <= time <= end for start, end in spans)
        picture = thumbnail_png(decoded.pixels[decoded.slot[index]])
        frames.append(Frame(time_s=time, inside=inside, png=picture))
    # The N frames are the mid-points of N equal parts, so half a part is left after the last.
    duration = (float(times[-1] + times[0]) if timed else 0.0) or 1.0
    return Strip(
        question=question.question,
        answer=prediction.answer,
        predicted=prediction.predicted,
        type=tag_of(question, "type") or "",
        video_id=clip_id,
        duration_s=max([duration, *(end for _, end in spans)]),
        spans=spans,
        frames=tuple(frames),
    )


def _curves(runs: Mapping[str, Path], kind: str, number: str) -> tuple[Curve, ...]:
    """One curve per run; noisy training numbers are averaged over a few steps."""
    curves = []
    for name, folder in runs.items():
        points = [(e["step"], e[number]) for e in read_curves(folder) if e["kind"] == kind]
        width = _SMOOTHED_STEPS if kind == "train" else 1
        blocks = [points[i : i + width] for i in range(0, len(points), width)]
        mean = tuple((block[-1][0], sum(v for _, v in block) / len(block)) for block in blocks)
        curves.append(Curve(run=name, points=mean))
    return tuple(curves)
