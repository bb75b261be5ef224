"""EgoTaskQA (Jia et al. 2022): questions about what people do and know in first-person videos."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

from cache_schema import Question
from cache_schema.tables.question_table import Split
from pipelines.datasets.dataset import AnnotationFile, Dataset
from pipelines.datasets.record import Record
from pipelines.datasets.source_folder import Row, SourceFolder

_SPLITS: Final[tuple[Split, ...]] = ("train", "val", "test")


def _rows_of(release: str) -> Callable[[SourceFolder], Iterator[Row]]:
    def rows(source: SourceFolder) -> Iterator[Row]:
        for split in _SPLITS:
            name = f"qa/{release}/{split}_qas.json"
            yield from source.rows(name, source.json_array(name), partial(_question, source, split))

    return rows


def _question(source: SourceFolder, split: Split, record: Record) -> tuple[Row, ...]:
    # The clip is a file of its own, named by its interval: video|person|first frame|last frame.
    interval = record.name("interval")
    return (
        *source.clip(interval, "videos", f"{interval}.mp4"),
        Question(
            # Whether the owners' numbers are unique over the splits is not documented.
            question_id=f"{split}-{record.name('question_id')}",
            clip_id=interval,
            question=record.text("question"),
            answer=record.text("answer"),
            split=split,
            tags=(
                *(f"type:{word}" for word in record.texts("type")),
                *(f"scope:{word}" for word in record.texts("category")),
                *(f"semantic:{word}" for word in record.texts("semantic")),
                *(f"structural:{word}" for word in record.texts("structural")),
                *(f"reference:{word}" for word in record.texts("reference")),
            ),
        ),
    )


def _dataset(name: str, release: str, about: str) -> Dataset:
    return Dataset(
        name=name,
        folder="egotaskqa",
        about=about,
        task="open-ended",
        files=tuple(
            AnnotationFile(name=f"qa/{release}/{split}_qas.json", holds=f"{split} questions")
            for split in _SPLITS
        ),
        videos="videos/<interval>.mp4",
        licence="as its owners state on the project page; the videos are LEMMA's",
        offered="questions and cut videos (qa_videos) on the EgoTaskQA project page",
        splits="official files; they were drawn once, unseeded, by question: videos are in several",
        rows=_rows_of(release),
        clips=2_337,
        tags={
            "type": "descriptive, predictive, counterfactual, explanatory (Table 2); several a question",
            "scope": "world, intent, multi-agent (Table 2)",
            "semantic": "action, object, state, change (Table 2)",
            "structural": "query or verify",
            "reference": "direct or indirect",
        },
    )


EGOTASKQA: Final = _dataset("egotaskqa", "direct", "EgoTaskQA, normal split: 40 thousand questions")
EGOTASKQA_INDIRECT: Final = _dataset(
    "egotaskqa-indirect",
    "indirect",
    "EgoTaskQA, indirect split: trained on direct references, tested on indirect ones",
)
