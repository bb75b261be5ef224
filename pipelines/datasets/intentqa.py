"""IntentQA (Li et al. 2023): why people do what they do, on videos of NExT-QA."""

from collections.abc import Iterator
from functools import partial
from typing import Final

from pipelines.datasets import nextqa
from pipelines.datasets.dataset import AnnotationFile, Dataset, PublishedCount
from pipelines.datasets.source_folder import Row, SourceFolder

_COLUMNS: Final = ("video_id", "question", "answer", "qid", "type", "a0", "a1", "a2", "a3", "a4")
_CITED: Final = "as commonly cited, not checked against the owners' files"
_COUNTS: Final = (12_119, 2_044, 2_134)


def _rows(source: SourceFolder) -> Iterator[Row]:
    paths = nextqa.video_paths(source)
    for split in nextqa.SPLITS:
        name = f"intentqa/{split}.csv"
        make = partial(nextqa.choice, source, paths, split, "video_id")
        yield from source.rows(name, source.table(name, _COLUMNS), make)


INTENTQA: Final = Dataset(
    name="intentqa",
    folder="nextqa",
    about="IntentQA: 16 thousand questions on the intent of actions, videos of NExT-QA",
    task="multiple-choice",
    files=(
        *(
            AnnotationFile(name=f"intentqa/{split}.csv", holds=f"{split} questions")
            for split in nextqa.SPLITS
        ),
        AnnotationFile(name=nextqa.MAPPING, holds="folders of the videos in VidOR", optional=True),
    ),
    videos="videos/<folder>/<video>.mp4",
    licence="as its owners state; the videos are VidOR's (YFCC-100M)",
    offered="annotations with the IntentQA code, videos by VidOR",
    splits="official",
    rows=_rows,
    published=tuple(
        PublishedCount(what="questions", split=split, count=count, source=_CITED)
        for split, count in zip(nextqa.SPLITS, _COUNTS, strict=True)
    ),
    clips=4_303,
    tags=nextqa.TAGS,
)
