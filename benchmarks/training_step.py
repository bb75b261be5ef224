"""What a training step costs: its data, its parts against other ways to write them, its sizes.

    python -m benchmarks.training_step [--threads 2] [--rounds 7] [--no-write]

The steps are those of the demo's preset on random features of the demo's size. Ways take turns step by
step; a ratio is that of two steps of one turn.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn

from benchmarks.batch_files import ANSWERS, question_set
from benchmarks.clip_readers import ClipSize, write_store
from benchmarks.gather import mask_product
from benchmarks.result_file import benchmark_parser, publish
from cache_schema import open_store
from pipelines.presets import preset_path, read_preset
from train.batches import Batch, BatchLoader
from train.config import FeatureSizes, TrainConfig
from train.epoch_order import epoch_batches
from train.freed_memory import keep_freed_memory
from train.methods import build_model
from train.model import video_distill
from train.model.attention import attend
from train.model.divided_attention import GroupedAttention
from train.objectives.by_task import build_objective
from train.optimisation import build_optimizer

DEMO = FeatureSizes(dim=128, frames=100, patches=16)


class Step:
    """A model with its optimizer; called with a batch, one step as the training loop does it."""

    def __init__(self, config: TrainConfig, sizes: FeatureSizes = DEMO) -> None:
        torch.manual_seed(0)
        self.config = config
        self.model = build_model(config, sizes, len(ANSWERS)).train()
        self.objective = build_objective(config, self.model)
        self.optimizer = build_optimizer(self.model, config)
        self.noise = torch.Generator().manual_seed(0)

    def __call__(self, batch: Batch) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.objective(self.model, batch, tau=1.0, generator=self.noise)
        loss.total.backward()  # type: ignore[no-untyped-call]
        for parameter in self.model.parameters():
            if parameter.grad is not None:
                parameter.grad.div_(len(batch.answer))
        nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_norm).item()
        self.optimizer.step()


def random_batch(config: TrainConfig, sizes: FeatureSizes = DEMO) -> Batch:
    """Returns a batch of the run's shape with random features."""
    clips, questions = config.clips_per_batch, config.questions_per_clip
    pairs = clips * questions
    generator = torch.Generator().manual_seed(0)
    cls = torch.randn(clips, sizes.frames, sizes.dim, generator=generator)
    patch = torch.randn(clips, sizes.frames, sizes.patches, sizes.dim, generator=generator)
    return Batch(
        cls=cls.half(),
        patch=patch.half(),
        text=torch.randn(pairs, sizes.dim, generator=generator),
        clip_of_pair=torch.arange(clips).repeat_interleave(questions),
        question_of_pair=torch.arange(pairs),
        answer=torch.randint(len(ANSWERS), (pairs,), generator=generator),
        question_ids=tuple(map(str, range(pairs))),
        clip_ids=tuple(map(str, range(clips))),
    )


def one_group_at_a_time(self: GroupedAttention, x: Tensor, frames: int) -> Tensor:
    """Divided attention as a loop in Python over the groups, which are frames or places."""
    qkv = self.qkv(x)
    query, key, value = rearrange(qkv, "q s (t h e) -> t q h s e", t=3, h=self.heads).unbind(0)
    place = torch.arange(query.shape[2] - 1).view(frames, -1) + 1
    out = torch.empty_like(query)
    out[:, :, :1] = attend(query[:, :, :1], key, value, None, self.kernel)
    for group in place if self.axis == "space" else place.T:
        seen = torch.cat([torch.zeros(1, dtype=group.dtype), group])
        out[:, :, group] = attend(
            query[:, :, group], key[:, :, seen], value[:, :, seen], None, self.kernel
        )
    return rearrange(out, "q h s e -> q s (h e)")


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way to do the demo's step."""

    name: str
    config: TrainConfig
    replaced: Callable[[], AbstractContextManager[object]] | None = None
    """Puts another function in the place of the project's while the step runs."""


def ways(config: TrainConfig) -> list[Way]:
    """The project's step first."""

    def product(*args: Tensor, **_: object) -> Tensor:
        return mask_product(*args)

    def with_model(**changes: object) -> TrainConfig:
        return replace(config, model=replace(config.model, **changes))  # type: ignore[arg-type]

    return [
        Way(name="as trained", config=config),
        Way(
            name="Eq. 6 as a product",
            config=config,
            replaced=lambda: mock.patch.object(video_distill, "select_patches", product),
        ),
        Way(
            name="a loop over frames and places",
            config=config,
            replaced=lambda: mock.patch.object(GroupedAttention, "_all_rows", one_group_at_a_time),
        ),
        Way(name="attention=sdpa", config=with_model(attention="sdpa")),
        Way(name="gradient_frames=16", config=with_model(gradient_frames=16)),
        Way(name="precision=fp32", config=replace(config, precision="fp32")),
    ]


def in_turns(steps: list[Callable[[], None]], rounds: int) -> list[list[float]]:
    """Returns the seconds of every step's calls; a first round warms up."""
    times: list[list[float]] = [[] for _ in steps]
    for turn in range(-1, rounds):
        for step, own in zip(steps, times, strict=True):
            started = time.perf_counter()
            step()
            if turn >= 0:
                own.append(time.perf_counter() - started)
    return times


def rows(names: list[str], steps: list[Callable[[], None]], rounds: int) -> list[str]:
    """Returns table rows of times beside those of the first."""
    times = in_turns(steps, rounds)
    lines = []
    for name, own in zip(names, times, strict=True):
        ratio = statistics.median(a / b for a, b in zip(own, times[0], strict=True))
        lines.append(f"| {name} | {statistics.median(own) * 1e3:.0f} | {ratio:.2f} |")
    return lines


def way_rows(config: TrainConfig, rounds: int) -> list[str]:
    """Returns table rows of the step and of its rivals."""
    batch = random_batch(config)

    def bound(way: Way) -> Callable[[], None]:
        step = Step(way.config)

        def run() -> None:
            with way.replaced() if way.replaced else nullcontext():
                step(batch)

        return run

    chosen = ways(config)
    return rows([way.name for way in chosen], [bound(way) for way in chosen], rounds)


def size_rows(config: TrainConfig, rounds: int) -> list[str]:
    """Returns table rows of the step at other N, K and questions per clip."""

    def sized(frames: int, selected: int, questions: int) -> Callable[[], None]:
        own = replace(
            config, questions_per_clip=questions, model=replace(config.model, selected=selected)
        )
        sizes = replace(DEMO, frames=frames)
        step, batch = Step(own, sizes), random_batch(own, sizes)
        return lambda: step(batch)

    usual = (DEMO.frames, config.model.selected, config.questions_per_clip)
    shapes = [usual, (50, *usual[1:]), (200, *usual[1:]), (usual[0], 4, usual[2])]
    shapes += [(usual[0], 16, usual[2]), (*usual[:2], 1), (*usual[:2], 8)]
    names = [f"N={n}, K={k}, {q} questions a clip" for n, k, q in shapes]
    return rows(names, [sized(*shape) for shape in shapes], rounds)


@contextmanager
def batches_of_a_store(
    config: TrainConfig, clips: int
) -> Iterator[tuple[BatchLoader, Iterator[tuple[None, Batch]]]]:
    """Opens a store of the demo's size and reads batches of it without end."""
    size = ClipSize(frames=DEMO.frames, patches=DEMO.patches, dim=DEMO.dim)
    names = [f"clip-{number:04d}" for number in range(clips)]
    with tempfile.TemporaryDirectory() as folder:
        features = np.memmap(
            Path(folder) / "flat", mode="w+", dtype=np.float16, shape=(clips, *size.shape)
        )
        features[:] = np.random.default_rng(0).standard_normal(features.shape, dtype=np.float32)
        write_store(Path(folder) / "store", names, features, size)
        questions = question_set(names, config.questions_per_clip, size.dim)
        loader = BatchLoader(
            questions,
            open_store(Path(folder) / "store"),
            clips=config.clips_per_batch,
            read_ahead=config.read_ahead,
            read_ahead_bytes=config.read_ahead_mib << 20,
            threads=config.read_threads,
        )
        order = (
            (None, asked)
            for epoch in count()
            for asked in epoch_batches(
                questions.clip_of_question,
                config.seed,
                epoch,
                config.clips_per_batch,
                config.questions_per_clip,
            )
        )
        batches = loader.batches(order)
        try:
            yield loader, batches
        finally:
            batches.close()


def data_wait(config: TrainConfig, steps: int) -> str:
    """Returns a line on how long steps wait for a store whose files are in the page cache."""
    step = Step(config)
    with batches_of_a_store(config, 64) as (loader, batches):
        for _ in range(2):
            step(next(batches)[1])
        waited, started = loader.waited_s, time.perf_counter()
        for _ in range(steps):
            step(next(batches)[1])
        each = (time.perf_counter() - started) / steps
        share = (loader.waited_s - waited) / steps / each
    return (
        f"Reading from a store: {each * 1e3:.0f} ms a step, of which {share:.2%} waiting (aim 2 %)."
    )


def main() -> int:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of torch")
    parser.add_argument("--rounds", type=int, default=7, help="steps of every way that are counted")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    config = next(iter(read_preset(preset_path("demo"), [], 1).runs.values()))
    publish(
        "training-step",
        "A training step",
        options,
        packages=["torch"],
        notes=[
            (
                f"the demo's preset: {config.clips_per_batch} clips x {config.questions_per_clip} questions, "
                f"{DEMO.frames} frames of {DEMO.patches} patches, D = {DEMO.dim}, {config.precision}"
            )
        ],
        body=[
            data_wait(config, 3 * options.rounds),
            "",
            "| step | ms | x as trained |",
            "|---|--:|--:|",
            *way_rows(config, options.rounds),
            "",
            "| sizes | ms | x demo |",
            "|---|--:|--:|",
            *size_rows(config, options.rounds),
        ],
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
