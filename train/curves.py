"""A run's curves while it goes: one JSON line per event, and the same numbers for TensorBoard and W&B."""

import json
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from torch.utils.tensorboard import SummaryWriter

from train.wandb_tracker import start_tracker

CURVES_FILE: Final = "curves.jsonl"


class Curves:
    """Appends numbers to `curves.jsonl`, to TensorBoard events and, if asked for, to a W&B run."""

    def __init__(self, run_dir: Path, resumed_step: int) -> None:
        """Go on after `resumed_step`: later lines, of steps that were lost, are dropped."""
        path = run_dir / CURVES_FILE
        kept = [line for line in read_curves(run_dir) if line["step"] <= resumed_step]
        path.write_text("".join(f"{json.dumps(line)}\n" for line in kept))
        self._file = path.open("a", buffering=1)
        self._board = SummaryWriter(str(run_dir / "tensorboard"), purge_step=resumed_step + 1)
        self._tracker = start_tracker(run_dir)

    def log(self, kind: str, step: int, **numbers: float) -> None:
        """Record the numbers of one event, `kind` being `train` or `validation`."""
        self._file.write(json.dumps({"kind": kind, "step": step, **numbers}) + "\n")
        for name, number in numbers.items():
            self._board.add_scalar(f"{kind}/{name}", number, step)
        if self._tracker is not None:
            named = {f"{kind}/{name}": number for name, number in numbers.items()}
            self._tracker.log({**named, "step": step})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
        self._board.close()
        if self._tracker is not None:
            self._tracker.finish(exit_code=0 if kind is None else 1)


def read_curves(run_dir: Path) -> list[dict[str, Any]]:
    """All whole lines of a run's curves; a line cut off by a crash is left out."""
    path = run_dir / CURVES_FILE
    if not path.exists():
        return []
    lines = path.read_text().split("\n")
    return [json.loads(line) for line in lines[:-1] if line]
