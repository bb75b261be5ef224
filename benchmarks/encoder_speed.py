"""How many pictures a frozen encoder takes in a second, by precision, on this machine's device.

    python -m benchmarks.encoder_speed [--model ViT-B-32] [--batch 25] [--rounds 4] [--device cpu]
                                       [--compile] [--no-write]

Weights are random: they do not change the speed. On a CPU one thread encodes, as in extraction,
and the processor time of that thread counts too: pictures per second of it are what a core gives,
whatever else runs beside. Precisions take turns, so that a load falls on all alike. Features of
every precision are compared with fp32, and batches of other sizes with the whole batch.
"""

import argparse
import os
import platform
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from extract.encoder import ClipEncoder, load_encoder
from extract.encoder_spec import EncoderSpec

RESULTS = Path(__file__).parent / "results"


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


def report(arguments, sides, pixels):
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "open_clip_torch", "timm"))
    options = f"--model {arguments.model} --batch {arguments.batch} --rounds {arguments.rounds}"
    options += " --compile" if arguments.compile else ""
    load = f"load average {os.getloadavg()[0]:.1f} at the end, niceness {os.nice(0)}"
    lines = [
        f"# Encoding with {arguments.model}, {arguments.device}",
        "",
        f"- date: {datetime.now(UTC):%Y-%m-%d}",
        f"- hardware: {hardware(arguments.device)}",
        f"- {load}",
        f"- versions: Python {platform.python_version()}, {versions}",
        f"- command: `python -m benchmarks.encoder_speed {options}`",
        f"- random pictures and weights, one thread, best of {arguments.rounds} turns",
        "- cosine: the least of all tokens, against fp32",
        "- moved: the largest change of a number when the batch is encoded in three parts",
        "",
        "| precision | pictures per CPU second | x fp32 | pictures per second | cosine | moved |",
        "|---|--:|--:|--:|--:|--:|",
        *table(sides, pixels),
    ]
    return "\n".join(lines) + "\n"


def hardware(device):
    if device != "cpu":
        return torch.cuda.get_device_name(device)
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    features = ", AVX-512 BF16" if "avx512_bf16" in Path("/proc/cpuinfo").read_text() else ""
    return f"{names[0]}, {len(names)} cores{features}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="ViT-B-32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=25)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--no-write", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    sides = list(contenders(arguments.model, arguments.device, compiled=arguments.compile))
    size = sides[0].encoder.preprocess.image_size
    shape = (arguments.batch, size, size, 3)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    measure(sides, pixels, arguments.rounds)
    text = report(arguments, sides, pixels)
    print(text)
    if not arguments.no_write:
        machine = f"{platform.machine()}-{os.cpu_count()}core"
        name = f"encoder-speed_{arguments.model}_{arguments.device}_{machine}"
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{name}_{datetime.now(UTC):%Y-%m-%d}.md").write_text(text)


if __name__ == "__main__":
    main()
