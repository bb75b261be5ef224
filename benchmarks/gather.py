"""What Eq. 6 costs as a gather, against the product of its mask with all frames.

    python -m benchmarks.gather [--threads 2] [--rounds 11] [--draws 300] [--no-write]

The product is the equation to the letter: the mask and the float16 patches in one type, in one einsum.
Both take turns on the same tensors, forward and backward; a ratio is that of two times of one turn.
"""

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import one_hot
from torch.profiler import ProfilerActivity, profile

from benchmarks.result_file import benchmark_parser, publish
from train.freed_memory import keep_freed_memory
from train.model.selection import select_patches

Select = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
SAMPLED = (4, 16, 32)
"""Values of `gradient_frames` that are measured."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """Sizes of a batch, and the type that the model computes in."""

    dtype: torch.dtype = torch.float32
    clips: int = 16
    questions: int = 1
    selected: int = 16
    frames: int = 100
    patches: int = 196
    dim: int = 512


class Inputs:
    """Random features of a batch, soft weights and the gradient that comes back."""

    def __init__(self, case: Case) -> None:
        generator = torch.Generator().manual_seed(0)
        pairs = case.clips * case.questions
        patch = (case.clips, case.frames, case.patches, case.dim)
        selected = (pairs, case.selected, case.patches, case.dim)
        logits = torch.randn(pairs, case.selected, case.frames, generator=generator)
        self.patch = torch.empty(patch, dtype=torch.float16).normal_(generator=generator)
        self.clip = torch.arange(case.clips).repeat_interleave(case.questions)
        self.logits = (3 * logits).to(case.dtype).requires_grad_()
        self.upstream = torch.empty(selected, dtype=case.dtype).normal_(generator=generator)

    def gradient(self, select: Select) -> Tensor:
        """One forward and backward; returns the gradient of the logits."""
        y_soft = self.logits.softmax(-1)
        value = select(y_soft, y_soft.argmax(-1), self.patch, self.clip)
        return torch.autograd.grad(value, self.logits, self.upstream)[0]


def mask_product(y_soft: Tensor, index: Tensor, patch: Tensor, clip: Tensor) -> Tensor:
    """Eq. 5-6 as they are written."""
    y_hard = one_hot(index, patch.shape[1]).to(y_soft.dtype)
    mask = y_hard + y_soft - y_soft.detach()
    one_each = len(clip) == len(patch)
    of_question = patch.to(y_soft.dtype) if one_each else patch.to(y_soft.dtype)[clip]
    return torch.einsum("qkn,qnpd->qkpd", mask, of_question)


def sampled(frames: int) -> Select:
    """The gather with the gradient of drawn frames."""
    generator = torch.Generator().manual_seed(0)

    def select(y_soft: Tensor, index: Tensor, patch: Tensor, clip: Tensor) -> Tensor:
        return select_patches(
            y_soft, index, patch, clip, gradient_frames=frames, generator=generator
        )

    return select


def peak_bytes(work: Callable[[], object]) -> int:
    """Returns the most that torch's allocator hands out at a time."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    held = peak = 0
    for event in profiler.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak


def speed_rows(case: Case, rounds: int) -> list[str]:
    """Returns table rows: each way's time and memory beside those of the product."""
    inputs = Inputs(case)
    ways: dict[str, Select] = {
        "mask product": mask_product,
        "gather": select_patches,
        **{f"gather, {frames} drawn frames": sampled(frames) for frames in SAMPLED[1:2]},
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, select in ways.items():
            started = time.perf_counter()
            inputs.gradient(select)
            if turn:  # The first round warms up.
                times[name].append(time.perf_counter() - started)
    peaks = {name: peak_bytes(partial(inputs.gradient, select)) for name, select in ways.items()}
    rows = []
    for name, values in times.items():
        pairs = zip(times["mask product"], values, strict=True)
        faster = statistics.median(product / own for product, own in pairs)
        rows.append(
            f"| {str(case.dtype).removeprefix('torch.')} | {case.clips} x {case.questions} | {name} "
            f"| {statistics.median(values) * 1e3:.0f} | {faster:.1f} | {peaks[name] / 1e6:.0f} "
            f"| {peaks[name] / peaks['mask product']:.2f} |"
        )
    return rows


def sampling_rows(case: Case, draws: int) -> list[str]:
    """Returns table rows: bias and spread of the drawn gradient of the logits, and its time."""
    inputs = Inputs(case)
    exact = inputs.gradient(select_patches)
    length = exact.norm()
    rows = []
    for frames in SAMPLED:
        select = sampled(frames)
        started = time.perf_counter()
        drawn = torch.stack([inputs.gradient(select) for _ in range(draws)])
        sampled_s = time.perf_counter() - started
        started = time.perf_counter()
        for _ in range(draws):
            inputs.gradient(select_patches)
        share = sampled_s / (time.perf_counter() - started)
        error = (drawn.mean(0) - exact).norm() / length
        spread = (drawn - exact).square().sum((1, 2, 3)).mean().sqrt() / length
        rows.append(
            f"| {frames} | {spread:.2f} | {error:.3f} | {spread / draws**0.5:.3f} | {share:.2f} |"
        )
    return rows


def report(rounds: int, draws: int) -> list[str]:
    """Returns the tables as lines of Markdown."""
    small = Case(questions=4, selected=8, patches=16, dim=128)
    cases = [Case(), Case(dtype=torch.bfloat16), Case(clips=4, questions=4), small]
    return [
        "| type | clips x questions | way | ms | x faster | peak MB | x peak |",
        "|---|---|---|--:|--:|--:|--:|",
        *(row for case in cases for row in speed_rows(case, rounds)),
        "",
        (
            f"The gradient of drawn frames, {small.clips} x {small.questions} questions, "
            f"K = {small.selected}, {small.patches} patches of {small.dim}; "
            "lengths over that of the exact one:"
        ),
        "",
        f"| drawn frames | deviation | mean of {draws} less exact | expected of no bias | time |",
        "|--:|--:|--:|--:|--:|",
        *sampling_rows(small, draws),
    ]


def main() -> int:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of torch")
    parser.add_argument("--rounds", type=int, default=11, help="rounds that are counted")
    parser.add_argument("--draws", type=int, default=300, help="sampled gradients of a row")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    publish(
        "gather",
        "Eq. 6 as a gather",
        options,
        packages=["torch"],
        notes=[
            (
                "float16 features, 100 frames; forward and backward; 16 selected frames, 196 patches "
                "of 512, but for the last case, which is the demo's: 8 frames, 16 patches of 128"
            ),
            "aims: at least 1.5 x faster, at most 0.2 x the peak of memory that torch hands out",
        ],
        body=report(options.rounds, options.draws),
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
