"""Loops of the two best-known extractors, written here from what their documentation says they do.

Neither program is run: what is timed is the way each goes, with the same weights on the same cores, and
for the pooled feature alone, which is all that they keep.

- clip-video-encode: OpenCV decodes every frame and keeps each n-th, enlarged or shrunk without
  antialiasing and cropped; the frames of several videos are joined into one loader, whose batches go
  through the encoder in fp32; one .npy per video.
- video_features: FFmpeg encodes the video anew with as many frames as are wanted, OpenCV reads that,
  PIL resizes, batches stay within a video, fp32; one .npy of float64 per video.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import torch
from PIL import Image
from torchvision.transforms import (
    CenterCrop,
    Compose,
    InterpolationMode,
    Normalize,
    Resize,
    ToTensor,
)

Encode = Callable[[torch.Tensor], torch.Tensor]
"""float32 [B, 3, S, S] to pooled features [B, D]."""

_BATCH_ACROSS = 256
_BATCH_WITHIN = 64
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)
_SIZE = 224


def clip_video_encode(
    videos: Sequence[Path], frames: int, encode: Encode, out: Path, cores: int
) -> float:
    """Returns the seconds that the loop takes over all videos."""
    begin = time.perf_counter()
    with ThreadPoolExecutor(cores) as readers:
        blocks = list(readers.map(lambda video: _every_nth(video, frames), videos))
    joined = np.concatenate(blocks)
    transform = Compose([ToTensor(), Normalize(_MEAN, _STD)])
    loader = torch.utils.data.DataLoader(
        _Pictures(joined, transform), batch_size=_BATCH_ACROSS, num_workers=cores
    )
    with torch.inference_mode():
        features = np.concatenate([encode(batch).numpy() for batch in loader])
    ends = np.cumsum([len(block) for block in blocks])
    for video, part in zip(videos, np.split(features, ends[:-1]), strict=True):
        np.save(out / f"{video.stem}.npy", part)
    return time.perf_counter() - begin


def video_features(
    videos: Sequence[Path], frames: int, encode: Encode, out: Path, _cores: int
) -> float:
    """Returns the seconds that the loop takes over all videos."""
    begin = time.perf_counter()
    transform = Compose([
        Resize(_SIZE, InterpolationMode.BICUBIC), CenterCrop(_SIZE), ToTensor(), Normalize(_MEAN, _STD),
    ])  # fmt: skip
    for video in videos:
        fewer = _encoded_anew(video, frames, out / f"{video.stem}_fewer.mp4")
        features, batch = [], []
        for picture in _pictures(fewer):
            batch.append(transform(Image.fromarray(picture)))
            if len(batch) == _BATCH_WITHIN:
                features.append(_numbers(encode, batch))
                batch = []
        if batch:
            features.append(_numbers(encode, batch))
        np.save(out / f"{video.stem}.npy", np.array(np.concatenate(features).tolist()))
        fewer.unlink()
    return time.perf_counter() - begin


def _numbers(encode: Encode, batch: list[torch.Tensor]) -> np.ndarray:
    with torch.inference_mode():
        return encode(torch.stack(batch)).numpy()


class _Pictures(torch.utils.data.Dataset):
    def __init__(self, pictures: np.ndarray, transform: Compose) -> None:
        self.pictures, self.transform = pictures, transform

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, place: int) -> torch.Tensor:
        return self.transform(Image.fromarray(self.pictures[place]))


def _pictures(video: Path) -> Iterator[np.ndarray]:
    capture = cv2.VideoCapture(str(video))
    try:
        while True:
            good, picture = capture.read()
            if not good:
                return
            yield cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
    finally:
        capture.release()


def _every_nth(video: Path, frames: int) -> np.ndarray:
    capture = cv2.VideoCapture(str(video))
    count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    capture.release()
    step = max(count // frames, 1)
    kept = [
        _cropped(picture)
        for number, picture in enumerate(_pictures(video))
        if number % step == 0 and number // step < frames
    ]
    return np.stack(kept)


def _cropped(picture: np.ndarray) -> np.ndarray:
    height, width, _ = picture.shape
    scale = _SIZE / min(height, width)
    size = (max(round(width * scale), _SIZE), max(round(height * scale), _SIZE))
    resized = cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC)
    top, left = (resized.shape[0] - _SIZE) // 2, (resized.shape[1] - _SIZE) // 2
    return resized[top : top + _SIZE, left : left + _SIZE]


def _encoded_anew(video: Path, frames: int, target: Path) -> Path:
    """Does what FFmpeg's filter fps does: as many frames, evenly spread, encoded with x264's defaults."""
    with av.open(str(video)) as source, av.open(str(target), "w") as fewer:
        stream = source.streams.video[0]
        stream.thread_type = "AUTO"
        step = max(stream.frames // frames, 1)
        rate = Fraction(stream.average_rate) / step
        written = fewer.add_stream("libx264", rate=rate)
        written.width, written.height = stream.codec_context.width, stream.codec_context.height
        written.pix_fmt = "yuv420p"
        for number, frame in enumerate(source.decode(stream)):
            if number % step == 0 and number // step < frames:
                frame.pts = number // step
                frame.time_base = 1 / rate
                fewer.mux(written.encode(frame))
        fewer.mux(written.encode())
    return target


PEERS = {"clip-video-encode's way": clip_video_encode, "video_features' way": video_features}
