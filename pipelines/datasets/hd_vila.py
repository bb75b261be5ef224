"""HD-VILA-100M (Xue et al. 2022): clips of YouTube videos, with transcribed speech where it was made."""

import re
from collections.abc import Iterator
from functools import partial
from typing import Final

from cache_schema import Caption
from cache_schema.clip import Clip
from pipelines.datasets.dataset import AnnotationFile, Dataset
from pipelines.datasets.record import Record
from pipelines.datasets.source_folder import Row, SourceFolder

_META: Final = "meta_part*.jsonl"
_TEXT: Final = "text_part*.jsonl"
_CLOCK: Final = re.compile(r"(\d{1,3}):([0-5]\d):([0-5]\d(?:\.\d{1,9})?)", re.ASCII)


def _rows(source: SourceFolder) -> Iterator[Row]:
    for name in source.matching(_META):
        yield from source.rows(name, source.json_lines(name), partial(_clips, source))
    if source.exists_any(_TEXT):
        for name in source.matching(_TEXT):
            yield from source.rows(name, source.json_lines(name), partial(_caption, source))


def _clips(source: SourceFolder, record: Record) -> tuple[Clip, ...]:
    video = record.name("video_id")
    made = list[Clip]()
    for clip in record.records("clip"):
        start, end = _span(clip)
        made += source.clip(
            clip.name("clip_id"), "videos", f"{video}.mp4", start_s=start, end_s=end
        )
    return tuple(made)


def _caption(source: SourceFolder, record: Record) -> tuple[Row, ...]:
    clip_id = record.name("clip_id")
    if not source.has_clip(clip_id):
        source.noted["left out: text of a clip that the metadata does not have"] += 1
        return ()
    return (Caption(caption_id=clip_id, clip_id=clip_id, text=record.text("text"), split="train"),)


def _span(record: Record) -> tuple[float, float]:
    """Seconds of the two times of day in `span`, as in 00:00:17.759."""
    times = [_CLOCK.fullmatch(text) for text in record.texts("span")]
    if len(times) != 2 or times[0] is None or times[1] is None:
        record.refuse("span", "is not two times such as 00:00:17.759")
    return _seconds(times[0]), _seconds(times[1])


def _seconds(clock: re.Match[str]) -> float:
    hours, minutes, seconds = clock.groups()
    # Decimal text to float once: 17.759 stays 17.759 in the first minute.
    return 3600 * int(hours) + 60 * int(minutes) + float(seconds)


HD_VILA: Final = Dataset(
    name="hd-vila",
    folder="hd-vila",
    about="HD-VILA-100M: 100 million clips of 3.3 million YouTube videos, for pretraining",
    task="captions",
    files=(
        AnnotationFile(name=_META, holds="videos and the spans of their clips, one video a line"),
        AnnotationFile(
            name=_TEXT,
            holds="clip_id and text, one clip a line; its owners do not offer it",
            optional=True,
        ),
    ),
    videos="videos/<video id>.mp4",
    licence="metadata under its owners' terms; the videos are their makers'",
    offered="metadata with the XPretrain code; it holds no text: transcripts are fetched and cut by "
    "each user",
    splits="all is for training",
    rows=_rows,
    clips=100_000_000,
)
