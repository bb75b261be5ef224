"""MSR-VTT text-to-video retrieval: the 1k-A test of JSFusion, with 9k or 7k videos to train on."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

from cache_schema import Caption
from pipelines.datasets.dataset import AnnotationFile, Dataset, PublishedCount
from pipelines.datasets.record import Record
from pipelines.datasets.seeded_draw import train_or_val
from pipelines.datasets.source_folder import Row, SourceFolder

_TEST: Final = "MSRVTT_JSFUSION_test.csv"
_CAPTIONS: Final = "MSRVTT_data.json"
VALIDATION_PERCENT: Final = 5
"""Of the training videos: there is no official validation split for 1k-A."""


def _rows_of(train_list: str) -> Callable[[SourceFolder], Iterator[Row]]:
    def rows(source: SourceFolder) -> Iterator[Row]:
        columns = ("key", "video_id", "sentence")
        yield from source.rows(_TEST, source.table(_TEST, columns), partial(_test, source))
        listed = source.table(train_list, ["video_id"])
        training = set(source.each(train_list, listed, lambda row: row.name("video_id")))
        sentences = source.json_member(_CAPTIONS, "sentences")
        yield from source.rows(_CAPTIONS, sentences, partial(_train, source, training))

    return rows


def _test(source: SourceFolder, record: Record) -> tuple[Row, ...]:
    video = record.name("video_id")
    return (
        *source.clip(video, "videos", f"{video}.mp4"),
        Caption(
            caption_id=record.name("key"),
            clip_id=video,
            text=record.text("sentence"),
            split="test",
        ),
    )


def _train(source: SourceFolder, training: set[str], record: Record) -> tuple[Row, ...]:
    video = record.name("video_id")
    if video not in training:
        return ()
    return (
        *source.clip(video, "videos", f"{video}.mp4"),
        Caption(
            caption_id=f"sentence{record.name('sen_id')}",
            clip_id=video,
            text=record.text("caption"),
            split=train_or_val(video, VALIDATION_PERCENT),
        ),
    )


def _dataset(name: str, train_list: str, videos: int, about: str) -> Dataset:
    return Dataset(
        name=name,
        folder="msrvtt",
        about=about,
        task="retrieval",
        files=(
            AnnotationFile(name=_TEST, holds="1k-A: a thousand sentences and their videos"),
            AnnotationFile(name=train_list, holds="names of the training videos"),
            AnnotationFile(name=_CAPTIONS, holds="all captions of MSR-VTT"),
        ),
        videos="videos/video<n>.mp4",
        licence="as MSR-VTT's owners state; research use",
        offered="the lists with the code of many papers on retrieval (CLIP4Clip's is one); captions and "
        "videos from MSR-VTT's owners",
        splits="test 1k-A; 5 % of the training videos are held out for validation, by seeded digest",
        rows=_rows_of(train_list),
        published=(
            PublishedCount(
                what="captions", split="test", count=1_000, source="the owners' file, counted"
            ),
            PublishedCount(
                what="captions",
                split="train",
                count=20 * videos,
                source=f"{videos:,} videos of 20 captions",
            ),
        ),
        clips=videos + 1_000,
    )


MSRVTT_RETRIEVAL: Final = _dataset(
    "msrvtt-retrieval",
    "MSRVTT_train.9k.csv",
    9_000,
    "MSR-VTT retrieval, 1k-A test, 9,000 training videos",
)
MSRVTT_RETRIEVAL_7K: Final = _dataset(
    "msrvtt-retrieval-7k",
    "MSRVTT_train.7k.csv",
    7_010,
    "MSR-VTT retrieval, 1k-A test, 7,010 training videos",
)
