"""What one epoch costs with features from the cache, and with features computed anew.

    python -m benchmarks.epoch_cost [--clips 64] [--videos 4] [--steps 6] [--no-write]

All in CPU seconds, of all threads and processes, so that neither the number of cores nor waiting counts.
Decoding, preprocessing and encoding are measured on a few videos, supplying and training on synthetic
features of the same shape; every cost is then that of one clip in one epoch.
"""

import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.batch_files import question_set, questions_about, sentences
from benchmarks.clip_readers import ClipSize, write_store
from benchmarks.extraction import FRAMES, MODEL, random_weights, write_videos
from benchmarks.extraction_stages import StageCosts, stage_costs
from benchmarks.result_file import benchmark_parser, publish
from cache_schema import open_store
from extract.block_queue import even_batch
from extract.encoder_spec import EncoderSpec
from pipelines.datasets.demo.generate import generate
from pipelines.encoders import encoder_spec
from pipelines.presets import preset_path, read_preset
from train.batches import BatchLoader
from train.config import TrainConfig
from train.epoch_order import epoch_batches
from train.progress import StepReport
from train.run import train_run

PACKAGES = ("torch", "open_clip_torch", "av", "numpy", "google-crc32c")
WARM_UP_STEPS = 2


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """An encoder, videos, the shape of its features, and what is trained on them."""

    name: str
    spec: EncoderSpec
    videos: Sequence[Path]
    size: ClipSize
    config: TrainConfig
    questions: int
    """Questions about every clip."""

    @property
    def visits(self) -> int:
        """How often an epoch reads a clip: once for every group of its questions."""
        return -(-self.questions // self.config.questions_per_clip)


@dataclass(frozen=True, kw_only=True)
class Costs:
    """CPU seconds of one clip in one epoch."""

    experiment: Experiment
    stages: StageCosts
    """Of one frame."""
    supply: float
    """Reading it from the store into batches, at every visit."""
    train: float
    """Forward, backward and optimisation over all its questions."""

    @property
    def compute(self) -> float:
        """Decoding and encoding it once."""
        return self.stages.total * FRAMES


def supply_cost(store: Path, names: list[str], experiment: Experiment) -> float:
    """Measures an epoch's batches, every checksum compared, after one that warms up."""
    config = experiment.config
    questions = question_set(names, experiment.questions, experiment.size.dim)
    order = [
        epoch_batches(
            questions.clip_of_question, 1, epoch, config.clips_per_batch, config.questions_per_clip
        )
        for epoch in range(2)
    ]
    loader = BatchLoader(
        questions,
        open_store(store),
        clips=config.clips_per_batch,
        read_ahead=config.read_ahead,
        threads=config.read_threads,
    )
    for batches in order:
        begin = time.process_time()
        for _ in loader.batches((None, rows) for rows in batches):
            pass
        spent = time.process_time() - begin
    return spent / len(names)


def train_cost(
    store: Path, names: list[str], experiment: Experiment, folder: Path, steps: int
) -> float:
    """Measures steps of a run, supplying included, and takes them for all questions of a clip."""
    config = replace(
        experiment.config,
        steps=WARM_UP_STEPS + steps + 1,
        warmup_steps=0,
        validate_every=WARM_UP_STEPS + steps + 1,
        cache_in_ram="never",
    )
    at: dict[int, float] = {}

    def on_step(report: StepReport) -> None:
        at[report.step] = time.process_time()

    asked = questions_about(names, experiment.questions)
    validation = [replace(q, question_id=f"val-{q.question_id}", split="val") for q in asked[:1]]
    table = sentences(experiment.size.dim)
    train_run(config, open_store(store), [*asked, *validation], table, folder, on_step=on_step)
    spent = at[WARM_UP_STEPS + steps] - at[WARM_UP_STEPS]
    trained = steps * config.clips_per_batch * config.questions_per_clip
    return spent / trained * experiment.questions


def measure(experiment: Experiment, folder: Path, clips: int, steps: int) -> Costs:
    """Measures all costs of one experiment."""
    size, names = experiment.size, [f"clip-{number:05d}" for number in range(clips)]
    patch = np.random.default_rng(0).standard_normal(size.shape, dtype=np.float32)
    features = np.broadcast_to(patch.astype(np.float16), (clips, *size.shape))
    write_store(folder / "store", names, features, size)
    supply = supply_cost(folder / "store", names, experiment)
    trained = train_cost(folder / "store", names, experiment, folder / "run", steps)
    cores = min(len(os.sched_getaffinity(0)), len(experiment.videos))
    stages = stage_costs(
        experiment.spec, experiment.videos, FRAMES, even_batch(FRAMES, 64), 2, cores
    )
    return Costs(experiment=experiment, stages=stages, supply=supply, train=trained - supply)


def experiments(folder: Path, videos: int, questions: int) -> list[Experiment]:
    """The demo's own videos, encoder and run; and a minute of video with ViT-B/32."""
    generate(folder / "demo", 1, {"train": videos})
    demo = read_preset(preset_path("demo"), [], 1)
    return [
        Experiment(
            name="demo",
            spec=replace(encoder_spec(None, "demo"), device="cpu"),
            videos=sorted((folder / "demo" / "videos").rglob("*.mp4")),
            size=ClipSize(frames=FRAMES, patches=16, dim=128),
            config=demo.runs[demo.main_run],
            questions=questions,
        ),
        Experiment(
            name=MODEL,
            spec=replace(random_weights(folder), device="cpu"),
            videos=write_videos(folder, min(videos, 2)),
            size=ClipSize(frames=FRAMES, patches=49, dim=512),
            config=TrainConfig(clips_per_batch=4, precision="bf16"),
            questions=questions,
        ),
    ]


def table(found: list[Costs]) -> list[str]:
    """Returns the result as lines of Markdown."""
    lines = [
        (
            "| encoder | decode | preprocess | encode | together | cache | together / cache | at every "
            "visit / cache | train | epoch anew / epoch from cache | at every visit |"
        ),
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for costs in found:
        visits, stages = costs.experiment.visits, costs.stages
        each = (stages.decode, stages.preprocess, stages.encode)
        cached = costs.supply + costs.train
        cells = (
            *(f"{stage * FRAMES * 1e3:.0f}" for stage in each),
            f"{costs.compute * 1e3:.0f}", f"{costs.supply * 1e3:.2f}",
            f"{costs.compute / costs.supply:,.0f}", f"{visits * costs.compute / costs.supply:,.0f}",
            f"{costs.train * 1e3:.0f}", f"{(costs.compute + costs.train) / cached:.2f}",
            f"{(visits * costs.compute + costs.train) / cached:.2f}",
        )  # fmt: skip
        lines.append(f"| {costs.experiment.name} | {' | '.join(cells)} |")
    return lines


def main() -> int:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--clips", type=int, default=64, help="clips in the synthetic stores")
    parser.add_argument("--videos", type=int, default=4, help="videos decoded and encoded")
    parser.add_argument("--questions", type=int, default=24, help="questions about every clip")
    parser.add_argument("--steps", type=int, default=6, help="training steps that are counted")
    parser.add_argument("--folder", type=Path, help="where the files are made; default: temporary")
    options = parser.parse_args()
    # Threads that wait for one another spin, which would count as work.
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        found = []
        for experiment in experiments(Path(name), options.videos, options.questions):
            own = Path(name, f"{experiment.name}-features")
            own.mkdir()
            found.append(measure(experiment, own, options.clips, options.steps))
    visits = found[0].experiment.visits
    publish(
        "epoch-cost",
        "One epoch: features from the cache, and computed anew",
        options,
        packages=PACKAGES,
        notes=[
            "CPU milliseconds of one clip in one epoch; 100 frames, fp32 encoders, bf16 training, each on one thread",
            (
                f"{options.questions} questions about every clip in groups of four: {visits} visits of an "
                "epoch to a clip, at each of which the cache is read, every crc32c compared"
            ),
            (
                "together: decoding and encoding a clip once an epoch, as if the features of a whole epoch "
                "could be held; at every visit: as often as the cache is read"
            ),
            "demo: its videos, encoder and main run; ViT-B-32: a minute of 480x360, the paper's sizes",
        ],
        body=table(found),
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
