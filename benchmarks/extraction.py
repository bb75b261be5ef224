"""How fast clips are extracted, against what their stages cost alone and against others' loops.

    python -m benchmarks.extraction [--clips 20] [--encoders ViT-B-32,ViT-B-32:bf16,demo]
                                    [--peer-clips 4] [--no-peers] [--no-write]

The bound is what no order of work can beat on these cores: the CPU seconds of decoding, preprocessing
and encoding, each measured alone in this run, over the number of cores. An extraction includes
loading the encoder, starting its processes, writing, forcing to disk, and verifying what was written.
What does not grow with the clips (start) is told apart by a second, short extraction: a straight line
through both.
"""

import argparse
import importlib.util
import math
import multiprocessing
import resource
import shutil
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from benchmarks.extraction_stages import StageCosts, product_costs, stage_costs
from benchmarks.result_file import benchmark_parser, publish, usable_cores
from cache_schema import Clip, open_store
from extract.block_queue import even_batch
from extract.encoder_spec import EncoderSpec
from pipelines.encoders import encoder_spec

FRAMES = 100
SECONDS, RATE, WIDTH, HEIGHT = 60, 25, 480, 360
ORIGINALS = 4
MODEL = "ViT-B-32"
BATCH = even_batch(FRAMES, 64)
PACKAGES = ("torch", "open_clip_torch", "av", "numpy", "opencv-python-headless")


@dataclass(frozen=True, kw_only=True)
class Extracted:
    """One extraction."""

    name: str
    spec: EncoderSpec
    store: Path
    frames: int
    wall: float
    cpu: float
    """CPU seconds of all processes."""
    start: float
    """Wall seconds that do not depend on the number of clips."""
    costs: StageCosts
    waits: tuple[float, float, float]

    def bound(self, cores: int) -> float:
        """Seconds that the stages alone would take on all cores."""
        return self.costs.total * self.frames / cores

    @property
    def rate(self) -> float:
        return self.frames / self.wall

    def clips_within(self, cores: int, times: float) -> int | None:
        """Clips from which on the whole takes at most ``times`` its bound; None if it never does."""
        spare = times * self.bound(cores) - (self.wall - self.start)
        clips = self.frames / FRAMES
        return math.ceil(max(self.start, 0.0) * clips / spare) if spare > 0 else None


def write_videos(folder: Path, count: int) -> list[Path]:
    """Writes H.264 videos of drifting texture; every fifth and later is a copy of an earlier one."""
    videos = []
    for number in range(count):
        path = folder / f"v{number:03}.mp4"
        if number < ORIGINALS:
            _encode(path, number)
        else:
            shutil.copyfile(videos[number % ORIGINALS], path)
        videos.append(path)
    return videos


def _encode(path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (HEIGHT // 8, WIDTH // 4, 3), dtype=np.uint8)
    texture = np.kron(coarse, np.ones((8, 8, 1), dtype=np.uint8))
    grain = rng.integers(0, 24, texture.shape, dtype=np.uint8)
    texture = texture // 2 + grain
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.time_base = Fraction(1, RATE)
        for number in range(SECONDS * RATE):
            left = number * 2 % WIDTH
            picture = np.ascontiguousarray(texture[:, left : left + WIDTH])
            picture[number % HEIGHT, :, :] = 255
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def random_weights(folder: Path) -> EncoderSpec:
    """Saves a ViT-B/32 of random weights, which cost what trained ones do."""
    from safetensors.torch import save_file

    from extract.model_architecture import read_architecture
    from extract.model_loading import load_model

    drawn = EncoderSpec(model=MODEL, random_init_seed=0)
    state = load_model(drawn, read_architecture(MODEL)).state_dict()
    weights = folder / "weights.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, weights)
    return EncoderSpec(model=MODEL, weights=weights, pretrained_tag="own")


def extract_anew(
    spec: EncoderSpec, videos: list[Path], store: Path
) -> tuple[int, float, float, tuple[float, float, float]]:
    """Runs one extraction; in a fresh process, whose libraries are not loaded."""
    before = _cpu_seconds()
    from extract.job import run_extraction

    clips = [Clip(clip_id=video.stem, path=video) for video in videos]
    tally = run_extraction(clips, store, spec, frames=FRAMES)
    if tally.ok != len(clips):
        raise SystemExit(f"not all clips were extracted: {tally}")
    waits = (tally.decode_wait, tally.encode, tally.write)
    return tally.frames, tally.seconds, _cpu_seconds() - before, waits


def _cpu_seconds() -> float:
    """Of this process and of those that it has started and that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def measure(
    name: str, spec: EncoderSpec, videos: list[Path], folder: Path, cores: int
) -> Extracted:
    """Measures the stages alone, and then the whole."""
    batches = 4 if "ViT" in name else 40
    costs = stage_costs(spec, videos[: 2 * cores], FRAMES, BATCH, batches, cores)
    store = folder / f"store-{name.replace(':', '-')}"
    # As many as keep all cores at work to the end.
    some = videos[: 2 * cores]
    few, few_wall, _, _ = _in_fresh_process(spec, some, store.with_name(f"{store.name}-few"))
    frames, wall, cpu, waits = _in_fresh_process(spec, videos, store)
    per_frame = (wall - few_wall) / (frames - few)
    return Extracted(
        name=name,
        spec=spec,
        store=store,
        frames=frames,
        wall=wall,
        cpu=cpu,
        start=wall - per_frame * frames,
        costs=costs,
        waits=waits,
    )


def _in_fresh_process(
    spec: EncoderSpec, videos: list[Path], store: Path
) -> tuple[int, float, float, tuple[float, float, float]]:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh:
        return fresh.submit(extract_anew, spec, videos, store).result()


def peer_rates(spec: EncoderSpec, videos: list[Path], folder: Path, cores: int) -> dict[str, float]:
    """Returns frames per second of the other loops, with the same weights in fp32 on all cores."""
    import torch

    from benchmarks.extraction_peers import PEERS
    from extract.model_loading import load_model

    torch.set_num_threads(cores)
    model = load_model(spec, spec.architecture).eval()
    rates = {}
    for name, loop in PEERS.items():
        out = folder / name.split("'", maxsplit=1)[0]
        out.mkdir()
        seconds = loop(videos, FRAMES, model.encode_image, out, cores)
        found = sum(len(np.load(file)) for file in out.glob("*.npy"))
        if found != FRAMES * len(videos):
            raise SystemExit(f"{name} found {found} frames in {len(videos)} videos")
        rates[name] = found / seconds
    return rates


def least_cosine(one: Path, other: Path) -> tuple[float, float]:
    """Returns the smallest cosine between tokens of two stores: over CLS, and over patches."""
    first, second = open_store(one), open_store(other)
    ids = sorted(first.manifest()["clip_id"].to_pylist())[:ORIGINALS]
    found = []
    for read in ("read_cls", "read_patches"):
        a, b = (getattr(store, read)(ids).astype(np.float32) for store in (first, second))
        norms = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
        found.append(float(((a * b).sum(-1) / norms).min()))
    return found[0], found[1]


def table(runs: list[Extracted], peers: dict[str, float], cores: int) -> list[str]:
    """Returns the result as lines of Markdown."""
    lines = [
        (
            "| run | frames/s | wall s | start s | bound s | wall / bound | less start | 1.10 from clips "
            "| CPU s / stages' | decode | preprocess | encode |"
        ),
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for run in runs:
        bound, costs = run.bound(cores), run.costs
        stages = (costs.decode, costs.preprocess, costs.encode)
        cells = (
            f"{run.rate:.1f}", f"{run.wall:.1f}", f"{run.start:.1f}", f"{bound:.1f}",
            f"{run.wall / bound:.2f}", f"{(run.wall - run.start) / bound:.2f}",
            str(run.clips_within(cores, 1.1) or "never"),
            f"{run.cpu / (costs.total * run.frames):.2f}", *(f"{s * 1e3:.2f}" for s in stages),
        )  # fmt: skip
        lines.append(f"| {run.name} | {' | '.join(cells)} |")
    lines += [f"| {name} (fp32) | {rate:.1f} |{' |' * 10}" for name, rate in peers.items()]
    return [*lines, "", *_comparisons(runs, peers, cores), ""]


def _most_in_bf16(peers: dict[str, float], cores: int) -> str:
    """Says what bf16 could give on these cores if nothing but matrix products took time."""
    costs = product_costs(BATCH, cores)
    most = cores / costs["bf16"]
    times = f", {most / max(peers.values()):.2f} x the faster of the two" if peers else ""
    return (
        f"- the matrix products of {MODEL}'s blocks alone: {costs['fp32'] * 1e3:.1f} ms a frame in fp32, "
        f"{costs['bf16'] * 1e3:.1f} ms in bf16; with nothing else to do that would be {most:.1f} frames/s"
        f"{times}"
    )


def _comparisons(runs: list[Extracted], peers: dict[str, float], cores: int) -> list[str]:
    by_name = {run.name: run for run in runs}
    lines = []
    if peers:
        fastest = max(peers, key=lambda name: peers[name])
        for name in (MODEL, f"{MODEL}:bf16"):
            if name in by_name:
                times = by_name[name].rate / peers[fastest]
                lines.append(f"- {name}: {times:.2f} x {fastest}, the faster of the two")
    for name, run in by_name.items():
        exact = by_name.get(name.removesuffix(":bf16"))
        if name.endswith(":bf16") and exact is not None:
            lines.append(_most_in_bf16(peers, cores))
            cls, patch = least_cosine(exact.store, run.store)
            lines.append(f"- {name}: least cosine with fp32 {cls:.5f} (CLS), {patch:.5f} (patches)")
    return lines


def main() -> int:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--clips", type=int, default=20, help="clips of 60 s")
    parser.add_argument(
        "--encoders", default=f"{MODEL},{MODEL}:bf16,demo", help="NAME or NAME:PRECISION, by commas"
    )
    parser.add_argument("--peer-clips", type=int, default=4, help="clips for the other loops")
    parser.add_argument("--no-peers", action="store_true", help="leave the other loops out")
    parser.add_argument("--folder", type=Path, help="where the files are made; default: temporary")
    options = parser.parse_args()
    cores = usable_cores()
    if options.clips <= 2 * cores:
        parser.error(f"--clips must be more than {2 * cores}, which are extracted for comparison")
    if not options.no_peers and importlib.util.find_spec("cv2") is None:
        parser.error(
            "the other loops read by OpenCV: `make bench-extract` installs it; or --no-peers"
        )
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        videos = write_videos(folder, options.clips)
        specs = {MODEL: random_weights(folder), "demo": encoder_spec(None, "demo")}
        runs = []
        for encoder in options.encoders.split(","):
            model, _, precision = encoder.partition(":")
            spec = replace(specs[model], precision=precision or "fp32", device="cpu")
            runs.append(measure(encoder, spec, videos, folder, cores))
            sys.stderr.write(f"{encoder}: {runs[-1].rate:.1f} frames/s\n")
        peers = {}
        if not options.no_peers:
            peers = peer_rates(specs[MODEL], videos[: options.peer_clips], folder, cores)
        publish(
            "extraction",
            "Extraction: the whole against its stages, and against others' loops",
            options,
            packages=PACKAGES,
            notes=notes(options, runs, cores),
            body=table(runs, peers, cores),
        )
    return 0


def notes(options: argparse.Namespace, runs: list[Extracted], cores: int) -> list[str]:
    """Returns how all was measured, and where the extractions waited."""
    waits = "; ".join(
        f"{run.name} decoder {run.waits[0]:.1f} s, encoder {run.waits[1]:.1f} s, disk {run.waits[2]:.1f} s"
        for run in runs
    )
    return [
        (
            f"{options.clips} clips of {SECONDS} s, {WIDTH}x{HEIGHT}, H.264, {RATE} frames/s; "
            f"{FRAMES} frames of each"
        ),
        "ViT-B-32 with random weights, demo: the small CLIP that ships; fp32 if not said otherwise",
        (
            "decode, preprocess, encode: CPU ms of a frame taken, alone on all cores in this run; bound: "
            f"their sum over {cores} cores"
        ),
        "wall: loading the encoder, starting processes, writing, forcing to disk and verifying included",
        (
            f"start: what does not grow with the clips, from an extraction of {2 * cores} beside that of all; "
            "1.10 from clips: how many it takes until wall / bound is 1.10"
        ),
        "aims, for ViT-B-32: wall / bound <= 1.10, and with bf16 3.5 x the faster of the others' loops",
        (
            f"the others' loops, written here from their documentation, on {options.peer_clips} clips, "
            "without loading the model; they keep one pooled vector a frame, and the extraction all patches"
        ),
        f"waits summed over blocks: {waits}",
    ]


if __name__ == "__main__":
    sys.exit(main())
