"""Writes the demo data set to disk: mp4 files, JSON Lines annotations, and a README of the format."""

import json
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from cache_schema.errors import InputError
from pipelines.datasets.demo.captions import video_caption
from pipelines.datasets.demo.drawing import render
from pipelines.datasets.demo.questions import LEVELS, Fact, candidates, facts, word
from pipelines.datasets.demo.scene import FPS, FRAME_SIZE, Event, Scene, sample_scene

GENERATOR_VERSION = 2
"""Raised whenever the same seed would give other videos or questions."""
SHORTCUT_STRENGTH = 0.85
"""Share of `demo-shortcut`'s training questions whose wording is forced to tell on the answer."""
DEFAULT_COUNTS = {"train": 600, "val": 60, "test": 100}
_ENCODING = {"crf": "18", "preset": "veryfast", "x264-params": "cpu-independent=1"}

Row = dict[str, object]


@dataclass(frozen=True, slots=True)
class Generated:
    """What a call to `generate` did."""

    rendered: int
    kept: int


def generate(
    root: Path,
    seed: int,
    counts: dict[str, int] | None = None,
    *,
    workers: int | None = None,
    on_video: Callable[[int, int], None] = lambda _done, _total: None,
) -> Generated:
    """Make the data set, or what is missing of it.

    `dataset.json` is written last: with it the set is complete, without it a rerun renders the
    missing videos only. Equal seeds give equal files on equal encoder versions.

    Args:
        root: Its folder.
        seed: Of every scene and question.
        counts: Videos per split; `DEFAULT_COUNTS` if None.
        workers: Rendering processes; one per core if None.
        on_video: Called with (done, total) after each rendered video.

    Returns:
        How many videos were rendered and how many were already there.

    Raises:
        InputError: The folder holds a demo set of another seed, size or generator version.
    """
    counts = DEFAULT_COUNTS if counts is None else counts
    about = _about(seed, counts)
    _refuse_another(root, about)
    scenes = [sample_scene(seed, split, i) for split, n in counts.items() for i in range(n)]
    missing = [scene for scene in scenes if not video_path(root, scene.video_id).is_file()]
    if not missing and (root / "dataset.json").is_file():
        return Generated(0, len(scenes))
    (root / "videos").mkdir(parents=True, exist_ok=True)
    # Spawned, because the caller may hold threads (progress, Dask) that do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers or os.cpu_count(), mp_context=context) as pool:
        for done, _ in enumerate(
            pool.map(_write_one, [(root, s) for s in missing], chunksize=4), 1
        ):
            on_video(done, len(missing))
    _write_annotations(root, seed, scenes)
    _write(root / "README.md", _README)
    _write(root / "dataset.json", json.dumps(about, indent=2) + "\n")
    return Generated(len(missing), len(scenes) - len(missing))


def video_path(root: Path, video_id: str) -> Path:
    """Where one video lies."""
    return root / "videos" / f"{video_id}.mp4"


def _about(seed: int, counts: dict[str, int]) -> dict[str, object]:
    return {
        "name": "demo",
        "generator_version": GENERATOR_VERSION,
        "seed": seed,
        "videos": counts,
        "fps": FPS,
        "frame_size": FRAME_SIZE,
        "shortcut_strength": SHORTCUT_STRENGTH,
        "question_levels": LEVELS,
    }


def _refuse_another(root: Path, about: dict[str, object]) -> None:
    path = root / "dataset.json"
    if not path.is_file():
        return
    found = json.loads(path.read_text())
    different = [
        f"{k}: found {found.get(k)}, asked for {v}" for k, v in about.items() if found.get(k) != v
    ]
    if different:
        raise InputError(
            f"{path} describes another demo data set ({'; '.join(different)}). "
            "Take another folder, or remove this one to make it anew."
        )


def _write_one(job: tuple[Path, Scene]) -> None:
    """Render and encode one video; its name appears only when it is whole."""
    root, scene = job
    target = video_path(root, scene.video_id)
    partial = target.with_suffix(".partial")
    with av.open(str(partial), "w", format="mp4") as container:
        # x264's output must depend on the frames alone: one thread, and macroblock trees in plain C.
        # The vector code's differ with what memory held before, for frames of this size, and between
        # kinds of processors.
        stream = container.add_stream("libx264", rate=FPS, options=_ENCODING)
        stream.width = stream.height = FRAME_SIZE
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        for picture in render(scene):
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    partial.replace(target)


def _write_annotations(root: Path, seed: int, scenes: list[Scene]) -> None:
    folder = root / "annotations"
    folder.mkdir(exist_ok=True)
    for split in dict.fromkeys(_split(scene) for scene in scenes):
        mine = [scene for scene in scenes if _split(scene) == split]
        _write_rows(folder / f"questions_{split}.jsonl", _question_rows(seed, mine, 0.0))
        _write_rows(folder / f"multiple_choice_{split}.jsonl", _choice_rows(mine))
        _write_rows(folder / f"captions_{split}.jsonl", _caption_rows(mine))
        if split == "train":
            rows = _question_rows(seed, mine, SHORTCUT_STRENGTH)
            _write_rows(folder / "questions_train_shortcut.jsonl", rows)


def _split(scene: Scene) -> str:
    return scene.video_id.split("-")[0]


def _question_rows(seed: int, scenes: list[Scene], shortcut: float) -> Iterator[Row]:
    for scene in scenes:
        rng = np.random.default_rng((*scene.clutter_seed, 3, seed))
        for number, fact in enumerate(facts(scene)):
            yield _question_row(scene, number, fact, word(rng, fact, shortcut))


def _question_row(scene: Scene, number: int, fact: Fact, question: str) -> Row:
    return {
        "question_id": f"{scene.video_id}-{number:02d}",
        "video_id": scene.video_id,
        "question": question,
        "answer": fact.answer,
        "type": fact.type,
        "level": LEVELS[fact.type],
        "spans": _spans(fact.evidence),
    }


def _spans(events: tuple[Event, ...]) -> list[list[float]]:
    return [[round(second, 6) for second in event.span] for event in events]


def _choice_rows(scenes: list[Scene]) -> Iterator[Row]:
    for scene in scenes:
        rng = np.random.default_rng((*scene.clutter_seed, 4))
        for number in range(2):
            question, options, right, event = candidates(rng, scene)
            yield {
                "question_id": f"{scene.video_id}-mc{number}",
                "video_id": scene.video_id,
                "question": question,
                "candidates": options,
                "answer_index": right,
                "spans": _spans((event,)),
            }


def _caption_rows(scenes: list[Scene]) -> Iterator[Row]:
    for scene in scenes:
        yield {"video_id": scene.video_id, "caption": video_caption(scene)}


def _write_rows(path: Path, rows: Iterator[Row]) -> None:
    _write(path, "".join(json.dumps(row) + "\n" for row in rows))


def _write(path: Path, text: str) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(text)
    partial.replace(path)


_README = """\
# The demo data set

Rendered by the project; free of any rights. `dataset.json` names seed, counts and generator version.

- `videos/<video_id>.mp4`: H.264, 96 x 96 pixels, 6 frames a second, 40-90 s. Five events of 3-5 % of
  the frames each; the rest is grey clutter. Within a video no two things share a shape or a colour.
- `annotations/questions_<split>.jsonl`: one object a line: `question_id`, `video_id`, `question`,
  `answer`, `type`, `level` (`core` or `hard`), `spans` (list of [start_s, end_s): where the evidence
  shows; for evaluation only, empty where the answer is an absence).
- `annotations/questions_train_shortcut.jsonl`: the same training questions, worded so that most
  wordings tell on the answer; validation and test stay as they are.
- `annotations/multiple_choice_<split>.jsonl`: `candidates` (five) and `answer_index` instead of `answer`.
- `annotations/captions_<split>.jsonl`: `video_id`, `caption`.
"""
