from dataclasses import dataclass

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from extract.encoder import EncodedFrames
from extract.frame_packing import FramePacker

N, P, D = 5, 2, 3


class Recorder:
    """An encoder whose features are the picture's first byte; 255 stands for an overflow."""

    def __init__(self):
        self.batches, self.events = [], []

    def __call__(self, pixels):
        self.batches.append(len(pixels))
        self.events.append(("start", len(self.batches)))
        return Pending(self, len(self.batches), pixels[:, 0, 0, 0].astype(np.float16))


@dataclass
class Pending:
    recorder: Recorder
    number: int
    value: np.ndarray

    def wait(self):
        self.recorder.events.append(("wait", self.number))
        cls = np.repeat(self.value[:, None], D, 1)
        patch = np.repeat(self.value[:, None, None], P, 1).repeat(D, 2)
        return EncodedFrames(cls=cls, patch=patch, finite=self.value != 255)


def pack(clips, batch):
    recorder = Recorder()
    cls = np.zeros((len(clips), N, D), np.float16)
    patch = np.zeros((len(clips), N, P, D), np.float16)
    packer = FramePacker(recorder, batch, cls, patch)
    complete = []
    for row, values in enumerate(clips):
        pixels = np.zeros((len(values), 1, 1, 3), np.uint8)
        pixels[:, 0, 0, 0] = values
        complete += packer.add(row, pixels, np.arange(N) * len(values) // N)
    complete += packer.flush()
    return recorder, cls, patch, packer, complete


@settings(deadline=None)
@given(
    clips=st.lists(st.lists(st.integers(0, 254), min_size=1, max_size=N), max_size=8),
    batch=st.integers(1, 12),
)
def test_every_frame_goes_home_whatever_the_batch(clips, batch):
    recorder, cls, patch, packer, complete = pack(clips, batch)
    assert sorted(complete) == list(range(len(clips)))
    assert packer.nonfinite == set()
    frames = sum(map(len, clips))  # distinct frames only
    assert recorder.batches == [batch] * -(-frames // batch)
    for row, values in enumerate(clips):
        expected = [values[frame * len(values) // N] for frame in range(N)]
        assert np.array_equal(cls[row, :, 0], np.array(expected, np.float16))
        assert np.array_equal(patch[row, :, 1, 2], np.array(expected, np.float16))


def test_an_overflow_is_its_own_clips_only():
    _, _, _, packer, complete = pack([[1, 2], [3, 255], [4]], 3)
    assert packer.nonfinite == {1}
    assert sorted(complete) == [0, 1, 2]


def test_a_batch_starts_before_the_last_one_is_waited_for():
    """What keeps a GPU busy while features come down and clips are sorted."""
    recorder, *_ = pack([[1, 2, 3], [4, 5], [6]], 2)
    assert recorder.events == [
        ("start", 1), ("start", 2), ("wait", 1), ("start", 3), ("wait", 2), ("wait", 3)
    ]  # fmt: skip
