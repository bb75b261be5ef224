"""Clips of Ego4D's videos, which EgoCLIP and EgoMCQ share."""

from typing import Final

from cache_schema import Clip
from pipelines.datasets.record import Record
from pipelines.datasets.source_folder import SourceFolder
from pipelines.datasets.span_name import span_name

FOLDER: Final = "ego4d"
VIDEOS: Final = "videos/<video uid>.mp4"
OFFERED: Final = (
    "annotations with EgoVLP's code; videos by Ego4D, under a licence to be signed on its page"
)
LICENCE: Final = "Ego4D's licence agreement; each user signs it"


def ego4d_clip(source: SourceFolder, record: Record) -> tuple[str, tuple[Clip, ...]]:
    """The name of the clip that a record tells the bounds of, and the clip, if it is new.

    Bounds are seconds of the whole video. Those before its start are cut to it, as EgoVLP does.
    """
    video = record.name("video_uid")
    start, end = record.number("clip_start"), record.number("clip_end")
    if start < 0:
        source.noted["begin before their video; cut to its start"] += 1
        start = 0.0
    name = span_name(video, start, end)
    return name, source.clip(name, "videos", f"{video}.mp4", start_s=start, end_s=end)
