"""Splits training videos where a data set has no official validation split."""

import hashlib
from typing import Final, Literal

SEED: Final = b"videodistill-1"
"""Key of the digest that draws the videos; another key is another split."""


def train_or_val(video_id: str, percent: int) -> Literal["train", "val"]:
    """Whether a training video is held out: by a keyed digest of its id.

    No video is in both, and the same video falls on the same side on every machine and in every
    order of the file.
    """
    digest = hashlib.blake2b(video_id.encode(), digest_size=8, key=SEED).digest()
    return "val" if int.from_bytes(digest) % 100 < percent else "train"
