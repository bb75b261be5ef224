"""NExT-QA (Xiao et al. 2021): why and how things happen; with five answers to choose from, or in words."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Final

from cache_schema import Question
from cache_schema.clip import Clip
from cache_schema.tables.question_table import OPEN_ENDED, Split
from pipelines.datasets.dataset import AnnotationFile, Dataset, PublishedCount
from pipelines.datasets.record import Record
from pipelines.datasets.source_folder import Row, SourceFolder

SPLITS: Final[tuple[Split, ...]] = ("train", "val", "test")
MAPPING: Final = "map_vid_vidorID.json"
_COLUMNS: Final = ("video", "question", "answer", "qid", "type")
_CHOICES: Final = ("a0", "a1", "a2", "a3", "a4")
_GROUPS: Final = {"C": "causal", "T": "temporal", "D": "descriptive"}


def _choices(source: SourceFolder) -> Iterator[Row]:
    paths = video_paths(source)
    for split in SPLITS:
        name = f"{split}.csv"
        records = source.table(name, (*_COLUMNS, *_CHOICES))
        make = partial(choice, source, paths, split, "video")
        yield from source.rows(name, records, make)


def _open(source: SourceFolder) -> Iterator[Row]:
    paths = video_paths(source)
    for split in SPLITS:
        name = f"open/{split}.csv"
        make = partial(_in_words, source, paths, split)
        yield from source.rows(name, source.table(name, _COLUMNS), make)


def video_paths(source: SourceFolder) -> Mapping[str, str]:
    """Video -> its path in VidOR's folders (1150/4010069381), where the owners' map is there."""
    return source.json_values(MAPPING) if source.exists(MAPPING) else {}


def choice(
    source: SourceFolder, paths: Mapping[str, str], split: Split, video_column: str, record: Record
) -> tuple[Row, ...]:
    """A question with five answers; IntentQA's rows are of the same kind."""
    video = record.name(video_column)
    candidates = tuple(record.text(name) for name in _CHOICES)
    answer = record.index("answer", candidates)
    return (
        *_clip(source, paths, video),
        Question(
            question_id=f"{video}_{record.name('qid')}",
            clip_id=video,
            question=record.text("question"),
            answer=candidates[answer],
            split=split,
            candidates=candidates,
            answer_index=answer,
            tags=_tags(record),
        ),
    )


def _in_words(
    source: SourceFolder, paths: Mapping[str, str], split: Split, record: Record
) -> tuple[Row, ...]:
    video = record.name("video")
    return (
        *_clip(source, paths, video),
        Question(
            question_id=f"{video}_{record.name('qid')}",
            clip_id=video,
            question=record.text("question"),
            answer=record.text("answer"),
            split=split,
            answer_index=OPEN_ENDED,
            tags=_tags(record),
        ),
    )


def _clip(source: SourceFolder, paths: Mapping[str, str], video: str) -> tuple[Clip, ...]:
    *folders, name = paths.get(video, video).split("/")
    return source.clip(video, "videos", *folders, f"{name}.mp4")


def _tags(record: Record) -> tuple[str, ...]:
    kind = record.text("type")
    group = _GROUPS.get(kind[:1])
    if group is None:
        record.refuse("type", f"is {kind!r}, not one of CW CH TN TP TC DC DL DO DB")
    return (f"type:{kind}", f"group:{group}")


TAGS: Final = {
    "type": "CW CH TN TP TC DC DL DO DB; the official score counts TP with TN",
    "group": "causal, temporal or descriptive",
}
_SCORING: Final = (
    AnnotationFile(
        name="open/stopwords.txt", holds="words that do not count in WUPS", optional=True
    ),
    AnnotationFile(
        name="open/add_reference_answer_test.json",
        holds="second right answers of some test videos, for WUPS",
        optional=True,
    ),
)
_COUNTED: Final = "the owners' file, counted"
_CITED: Final = "as commonly cited, not checked against the owners' files"


def _dataset(
    name: str, folder: str, about: str, counts: tuple[int, int, int], *, choose: bool
) -> Dataset:
    return Dataset(
        name=name,
        folder="nextqa",
        about=about,
        task="multiple-choice" if choose else "open-ended",
        files=(
            *(
                AnnotationFile(name=f"{folder}{split}.csv", holds=f"{split} questions")
                for split in SPLITS
            ),
            AnnotationFile(name=MAPPING, holds="folders of the videos in VidOR", optional=True),
            *(() if choose else _SCORING),
        ),
        videos="videos/<folder>/<video>.mp4",
        licence="annotations and code under the MIT licence; the videos are VidOR's (YFCC-100M)",
        offered="annotations with the NExT-QA code, videos by VidOR; without the map of folders all "
        "videos lie in videos/",
        splits="official; the test answers are public",
        rows=_choices if choose else _open,
        published=tuple(
            PublishedCount(
                what="questions",
                split=split,
                count=count,
                source=_COUNTED if choose and split != "train" else _CITED,
            )
            for split, count in zip(SPLITS, counts, strict=True)
        ),
        clips=5_440,
        tags=TAGS,
    )


NEXTQA: Final = _dataset(
    "nextqa",
    "",
    "NExT-QA, multiple choice: 48 thousand questions on 5,440 videos",
    (34_132, 4_996, 8_564),
    choose=True,
)
NEXTQA_OPEN: Final = _dataset(
    "nextqa-open",
    "open/",
    "NExT-QA, open-ended: 52 thousand questions on 5,440 videos",
    (37_523, 5_343, 9_178),
    choose=False,
)
