"""Size, loss and reading time of a store's smaller variants, against the store itself.

    python -m benchmarks.store_variants [--clips 12] [--repeats 7]

Page cache warm, one thread; the fastest of interleaved repeats, since machines are shared. The features are random, with a common
direction and a few channels far larger than the others, as CLIP's are.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from cache_schema import (
    ClipOutcome,
    FeatureIdentity,
    FeatureStore,
    Preprocess,
    Status,
    StoreWriter,
    create_store,
    open_store,
)
from cache_schema.exchange.store_convert import convert_store, measured_loss

FRAMES, PATCHES, DIM, CHOSEN = 100, 49, 768, 16
VARIANTS = {
    "float16": {},
    "int8": {"int8": True},
    "4x4": {"pool": (4, 4)},
    "4x4 int8": {"pool": (4, 4), "int8": True},
}
IDENTITY = FeatureIdentity(
    encoder="ViT-B-32",
    weights_sha256="0" * 64,
    quick_gelu=False,
    token_space="trunk",  # noqa: S106 -- no password
    dim=DIM,
    patches=PATCHES,
    preprocess=Preprocess(
        image_size=224,
        resize_mode="shortest",
        interpolation="bicubic",
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
    ),
    frames=FRAMES,
    precision="fp32",
)


def fill(path: Path, clips: int) -> FeatureStore:
    create_store(path, IDENTITY, block_slots=4, segment_slots=256)
    rng = np.random.default_rng(0)
    common = rng.standard_normal(DIM) * 0.3
    common[rng.choice(DIM, 4, replace=False)] *= 20
    with StoreWriter(path, IDENTITY) as writer:
        for start in range(0, clips, 4):
            claim = writer.claim([f"c{k}" for k in range(start, min(start + 4, clips))])
            count = len(claim.clip_ids)
            patch = common + rng.standard_normal((count, FRAMES, PATCHES, DIM), np.float32) * 0.4
            outcomes = [
                ClipOutcome(
                    clip_id=clip,
                    status=Status.OK,
                    frame_index=np.arange(FRAMES),
                    frame_time=np.arange(FRAMES) / 10,
                    distinct_frames=FRAMES,
                )
                for clip in claim.clip_ids
            ]
            writer.write_block(
                claim, outcomes, patch[:, :, 0].astype(np.float16), patch.astype(np.float16)
            )
        writer.compact()
    return open_store(path)


def seconds(store: FeatureStore, frames: np.ndarray | None) -> float:
    """Least time to read a clip's patches into a reused buffer."""
    count = FRAMES if frames is None else frames.shape[1]
    out = np.empty((1, count, store.identity.patches, DIM), np.float16)
    taken = []
    for clip_id in store.clip_ids:
        begin = time.perf_counter()
        store.read_patches([clip_id], frames, out=out)
        taken.append(time.perf_counter() - begin)
    return min(taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=7)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        whole = fill(Path(folder, "float16"), asked.clips)
        stores = {"float16": whole}
        for name, options in VARIANTS.items():
            if options:
                convert_store(whole, Path(folder, name), **options)
                stores[name] = open_store(Path(folder, name))
        chosen = np.sort(np.random.default_rng(1).choice(FRAMES, (1, CHOSEN), replace=False))
        taken = {name: ([], []) for name in stores}
        for _ in range(asked.repeats):
            for name, store in stores.items():
                taken[name][0].append(seconds(store, None))
                taken[name][1].append(seconds(store, chosen))
        print(
            "| variant | MB a clip | 100 frames, ms | 16 frames, ms | relative | mean cos | min cos |"
        )
        print("|---|---|---|---|---|---|---|")
        for name, store in stores.items():
            shards = Path(folder, name).rglob("c.*")
            size = sum(file.stat().st_size for file in shards) / len(store) / 1e6
            full, part = (min(times) * 1e3 for times in taken[name])
            loss = measured_loss(store)
            told = (
                f"{loss.relative:.2%} | {loss.mean_cosine:.5f} | {loss.min_cosine:.5f}"
                if loss
                else "0 | 1 | 1"
            )
            print(f"| {name} | {size:.2f} | {full:.2f} | {part:.2f} | {told} |")


if __name__ == "__main__":
    main()
