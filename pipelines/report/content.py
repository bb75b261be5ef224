"""What a report shows: plain data, gathered by the caller, so that drawing the page reads no file."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, kw_only=True, slots=True)
class Frame:
    """One selected frame of a video."""

    time_s: float
    """Presentation time in the video."""
    inside: bool
    """Whether the frame lies in a ground-truth span."""
    png: bytes
    """The picture; see `thumbnails.thumbnail_png`."""

    def __post_init__(self) -> None:
        if not math.isfinite(self.time_s):
            raise ValueError(
                f"a frame's time is {self.time_s}; expected a finite number of seconds"
            )
        if not self.png.startswith(_PNG_SIGNATURE):
            raise ValueError(
                f"the picture of the frame at {self.time_s} s starts with {self.png[:8]!r}, which is "
                "no PNG; make it with thumbnail_png"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Strip:
    """One question, what was answered, and the frames that were selected for it."""

    question: str
    answer: str
    predicted: str
    type: str
    video_id: str
    duration_s: float
    spans: tuple[tuple[float, float], ...]
    """Ground truth: where the evidence shows, (start, end) in seconds; empty for an absence."""
    frames: tuple[Frame, ...]

    def __post_init__(self) -> None:
        if not (math.isfinite(self.duration_s) and self.duration_s > 0):
            raise ValueError(
                f"video {self.video_id!r} lasts {self.duration_s} s; expected more than 0"
            )
        for start, end in self.spans:
            if not (math.isfinite(start) and math.isfinite(end) and start <= end):
                raise ValueError(
                    f"video {self.video_id!r} has the span ({start}, {end}); "
                    "expected finite seconds, start before end"
                )

    @property
    def right(self) -> bool:
        """Whether the predicted answer is the true one."""
        return self.predicted == self.answer


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """One run's values over training steps.

    The runs `videodistill`, `uniform` and `language_only` are drawn in their method's colour.
    """

    run: str
    points: tuple[tuple[int, float], ...]
    """(step, value); values that are not finite are counted on the page, not drawn."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportContent:
    """Everything on the page."""

    title: str
    dataset: tuple[str, ...]
    """Paragraphs that describe the data set."""
    summary: Mapping[str, object]
    """The run's `summary.json`; whatever is missing or null shows as a dash."""
    loss_curves: tuple[Curve, ...] = ()
    accuracy_curves: tuple[Curve, ...] = ()
    """Validation accuracy from 0 to 1."""
    strips: tuple[Strip, ...] = ()
