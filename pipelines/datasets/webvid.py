"""WebVid (Bain et al. 2021): stock videos with the captions that sold them, for pretraining."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

from cache_schema import Caption
from cache_schema.tables.question_table import Split
from pipelines.datasets.dataset import AnnotationFile, Dataset
from pipelines.datasets.record import Record
from pipelines.datasets.source_folder import Row, SourceFolder

_SPLITS: Final[tuple[Split, ...]] = ("train", "val")


def _rows_of(size: str) -> Callable[[SourceFolder], Iterator[Row]]:
    def rows(source: SourceFolder) -> Iterator[Row]:
        for split in _SPLITS:
            name = f"results_{size}_{split}.csv"
            if split == "train" or source.exists(name):
                records = source.table(name, ("videoid", "page_dir", "name"))
                yield from source.rows(name, records, partial(_caption, source, split))

    return rows


def _caption(source: SourceFolder, split: Split, record: Record) -> tuple[Row, ...]:
    if not record.has("name"):
        source.noted["left out: no caption"] += 1
        return ()
    video = record.name("videoid")
    return (
        *source.clip(video, "videos", record.name("page_dir"), f"{video}.mp4"),
        Caption(caption_id=video, clip_id=video, text=record.text("name"), split=split),
    )


def _dataset(name: str, size: str, clips: int, about: str) -> Dataset:
    return Dataset(
        name=name,
        folder="webvid",
        about=about,
        task="captions",
        files=(
            AnnotationFile(name=f"results_{size}_train.csv", holds="captions to train on"),
            AnnotationFile(
                name=f"results_{size}_val.csv", holds="captions for validation", optional=True
            ),
        ),
        videos="videos/<page_dir>/<video id>.mp4",
        licence="withdrawn: its owners stopped offering it in February 2024 at the demand of the "
        "videos' seller",
        offered="no longer; those who have a copy know under what terms",
        splits="official train and val",
        rows=_rows_of(size),
        clips=clips,
    )


WEBVID: Final = _dataset("webvid", "2M", 2_500_000, "WebVid-2M: 2.5 million captioned videos")
WEBVID_10M: Final = _dataset(
    "webvid-10m", "10M", 10_700_000, "WebVid-10M: 10.7 million captioned videos"
)
