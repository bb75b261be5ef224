"""A decoded picture as upright 8-bit RGB, whatever its layout, range, matrix, depth or alpha."""

from typing import Final

import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter

from extract.probe import quarter_turns

Rgb = npt.NDArray[np.uint8]
"""uint8 [H, W, 3], upright."""

# swscale's quick path for more than 8 bits is off by up to 4 levels; this one rounds.
_DEEP: Final = Interpolation.BILINEAR | Interpolation.FULL_CHR_H_INT


class RgbConverter:
    """Keeps one swscale context per stream: building it anew costs more than using it.

    The matrix and range are those that the stream declares; without a declaration they are BT.601
    and limited range, as in FFmpeg. Gray is read as full range, as in FFmpeg. Transparent pictures
    lie over black. HDR is not tone-mapped.
    """

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def __call__(self, frame: VideoFrame) -> Rgb:
        """Converts one picture of the stream."""
        components = frame.format.components
        deep = any(component.bits > 8 for component in components)
        flags = _DEEP if deep else None
        if any(component.is_alpha for component in components):
            rgb = _over_black(self._converted(frame, "rgba", flags))
        else:
            rgb = self._converted(frame, "rgb24", flags)
        turns = quarter_turns(frame.rotation)
        return np.ascontiguousarray(np.rot90(rgb, turns)) if turns else rgb

    def _converted(
        self, frame: VideoFrame, layout: str, flags: Interpolation | None
    ) -> npt.NDArray[np.uint8]:
        converted = self._reformatter.reformat(frame, format=layout, interpolation=flags, threads=1)
        return np.asarray(converted.to_ndarray(), dtype=np.uint8)


def _over_black(rgba: npt.NDArray[np.uint8]) -> Rgb:
    """Rounds colour x alpha / 255, in integers."""
    weighted = rgba[..., :3].astype(np.uint16) * rgba[..., 3:] + 127
    return np.asarray(weighted // 255, dtype=np.uint8)
