"""Draws that fall the same on every machine and in every order of a file: by keyed digest of a name."""

import hashlib
from typing import Final, Literal

SEED: Final = b"videodistill-1"
"""Key of the digest; another key is another draw."""


def drawn(name: str, places: int) -> int:
    """A place from 0 to `places` - 1 for a name."""
    digest = hashlib.blake2b(name.encode(), digest_size=8, key=SEED).digest()
    return int.from_bytes(digest) % places


def train_or_val(video_id: str, percent: int) -> Literal["train", "val"]:
    """Whether a training video is held out, where a data set has no official validation split.

    It goes by video, so that none is in both splits.
    """
    return "val" if drawn(video_id, 100) < percent else "train"
