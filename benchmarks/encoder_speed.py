"""How many pictures a frozen encoder takes in a second, by precision, on this machine's device.

    python -m benchmarks.encoder_speed [--model ViT-B-32] [--batch 25] [--rounds 4] [--device cpu]
                                       [--compile] [--no-write]

Weights are random: they do not change the speed. On a CPU one thread encodes, as in extraction,
and the processor time of that thread counts too: pictures per second of it are what a core gives,
whatever else runs beside. Precisions take turns, so that a load falls on all alike. Features of
every precision are compared with fp32, and batches of other sizes with the whole batch.
"""

import time
from dataclasses import dataclass, field

import numpy as np
import torch

from benchmarks.result_file import benchmark_parser, publish
from extract.encoder import ClipEncoder, load_encoder
from extract.encoder_spec import EncoderSpec

HEADING = (
    "| precision | pictures per CPU second | x fp32 | pictures per second | cosine | moved |",
    "|---|--:|--:|--:|--:|--:|",
)


@dataclass(kw_only=True)
class Contender:
    """One precision, eager or compiled."""

    name: str
    encoder: ClipEncoder
    wall: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)


def contenders(model, device, *, compiled):
    """Every precision, and compiled ones if asked for."""
    precisions = ("fp32", "bf16") if device == "cpu" else ("fp32", "bf16", "fp16")
    for compile_tower in (False, True) if compiled else (False,):
        for precision in precisions:
            spec = EncoderSpec(
                model=model,
                random_init_seed=0,
                precision=precision,
                device=device,
                compile=compile_tower,
            )
            name = f"{precision}, compiled" if compile_tower else precision
            yield Contender(name=name, encoder=load_encoder(spec))


def tokens(encoder, pixels):
    cls, patch = encoder.encode_frames(pixels)
    return np.concatenate([cls[:, None], patch], axis=1).astype(np.float64)


def measure(sides, pixels, rounds):
    """Fills in the times; the first, untimed call warms up."""
    for side in sides:
        side.encoder.encode_frames(pixels)
    for _ in range(rounds):
        for side in sides:
            wall, processor = time.perf_counter(), time.thread_time()
            side.encoder.encode_frames(pixels)
            side.wall.append(time.perf_counter() - wall)
            side.processor.append(time.thread_time() - processor)


def cosine(left, right):
    product = (left * right).sum(-1)
    return (product / np.linalg.norm(left, axis=-1) / np.linalg.norm(right, axis=-1)).min()


def table(sides, pixels):
    """Yields one line of Markdown per contender."""
    reference = tokens(sides[0].encoder, pixels)
    first = min(sides[0].processor)
    for side in sides:
        found = tokens(side.encoder, pixels)
        parts = [tokens(side.encoder, part) for part in np.array_split(pixels, 3)]
        moved = np.abs(np.concatenate(parts) - found).max()
        yield (
            f"| {side.name} | {len(pixels) / min(side.processor):.1f} "
            f"| {first / min(side.processor):.2f} | {len(pixels) / min(side.wall):.1f} "
            f"| {cosine(found, reference):.7f} | {moved:.2g} |"
        )


def main():
    parser = benchmark_parser(__doc__)
    parser.add_argument("--model", default="ViT-B-32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=25)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    if options.batch < 3:
        parser.error("--batch must be at least 3: a batch is also encoded in three parts")
    torch.set_num_threads(1)
    sides = list(contenders(options.model, options.device, compiled=options.compile))
    size = sides[0].encoder.preprocess.image_size
    shape = (options.batch, size, size, 3)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    measure(sides, pixels, options.rounds)
    publish(
        f"encoder-speed_{options.model}_{options.device}",
        f"Encoding with {options.model}, {options.device}",
        options,
        packages=["torch", "open_clip_torch", "timm"],
        notes=[
            f"random pictures and weights, one thread, best of {options.rounds} turns",
            "cosine: the least of all tokens, against fp32",
            "moved: the largest change of a number when the batch is encoded in three parts",
        ],
        body=[*HEADING, *table(sides, pixels)],
        device=options.device,
    )


if __name__ == "__main__":
    main()
