"""Made the store ``format-1`` beside this file, once, with version 0.1.0. Never run it again.

What matters about that store is that it was written by the first version. It is read by every later
one (`test_stores_of_old_versions.py`); a change that cannot read it is a new format.
"""

import sys
from pathlib import Path

import numpy as np

from cache_schema import ClipOutcome, FeatureIdentity, Preprocess, Status, StoreWriter, create_store
from cache_schema.blocks.process_owner import ProcessOwner

CLIPS = {"first block": ["a", "b"], "second block": ["c", "failed"]}


def value(clip_id: str, *shape: int) -> np.ndarray:
    """A clip's features: its letter's number, then hundredths that count up."""
    count = np.arange(np.prod(shape)).reshape(shape) / 64
    return (ord(clip_id[0]) - ord("a") + 1 + count).astype(np.float16)


def main(path: Path) -> None:
    identity = FeatureIdentity(
        encoder="ViT-B-32",
        weights_sha256="c0ffee00" * 8,
        quick_gelu=True,
        token_space="joint",  # noqa: S106 -- no password
        dim=4,
        patches=2,
        preprocess=Preprocess(
            image_size=224,
            resize_mode="shortest",
            interpolation="bicubic",
            mean=(0.48145466, 0.4578275, 0.40821073),
            std=(0.26862954, 0.26130258, 0.27577711),
        ),
        frames=3,
        precision="fp32",
    )
    # The shipped claims name no real machine.
    ProcessOwner.current = staticmethod(  # type: ignore[method-assign]
        lambda: ProcessOwner(host="example", pid=1, pid_start="1")
    )
    create_store(path, identity, block_slots=2, segment_slots=4)
    with StoreWriter(path, identity, job="format-1") as writer:
        for clip_ids in CLIPS.values():
            claim = writer.claim(clip_ids)
            if claim is None:
                raise SystemExit("the store is there already")
            outcomes = [outcome(clip_id) for clip_id in clip_ids]
            cls = np.stack([value(clip_id, 3, 4) for clip_id in clip_ids])
            patch = np.stack([value(clip_id, 3, 2, 4) for clip_id in clip_ids])
            writer.write_block(claim, outcomes, cls, patch)
        writer.compact()


def outcome(clip_id: str) -> ClipOutcome:
    source = {
        "source_path": f"videos/{clip_id}.mp4",
        "source_bytes": 1000,
        "source_digest": "ab" * 16,
    }
    if clip_id == "failed":
        return ClipOutcome(
            clip_id=clip_id,
            status=Status.FAILED,
            reason="truncated",
            detail="moov atom not found",
            backend="pyav 18.1.0",
            **source,
        )
    return ClipOutcome(
        clip_id=clip_id,
        status=Status.OK,
        frame_index=np.array([4, 12, 20], dtype=np.int32),
        frame_time=np.array([0.5, 1.5, 2.5]) / 3,
        distinct_frames=3,
        backend="pyav 18.1.0",
        flags=("decoded 24 of 25 declared frames",),
        **source,
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
