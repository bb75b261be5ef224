"""The training loop, top to bottom: forward, loss, backward, clip, step, log, validate, save."""

import json
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from cache_schema.errors import VideoDistillError
from cache_schema.identity import FeatureIdentity
from cache_schema.storage.durable_files import replace_file
from train.batches import Batch
from train.checkpoint import (
    Checkpoint,
    Progress,
    load_optimizer,
    optimizer_tensors,
    write_checkpoint,
)
from train.config import TrainConfig
from train.curves import Curves
from train.epoch_order import Position
from train.objectives.objective import Objective
from train.optimisation import build_optimizer, learning_rate, temperature
from train.progress import ProgressCallback, StepReport
from train.run_state import LAST, save_state
from train.vocabulary import Vocabulary

DIVERGED = "diverged.json"
INITIAL, BEST = "initial.safetensors", "best.safetensors"


class TrainingDiverged(VideoDistillError):  # noqa: N818 - says what is the case
    """The loss or its gradient is no longer a number."""


class Trainer:
    """One run's moving parts, and the loop over them."""

    def __init__(
        self,
        *,
        config: TrainConfig,
        model: nn.Module,
        objective: Objective,
        vocabulary: Vocabulary,
        identity: FeatureIdentity,
        store_version: int,
        run_dir: Path,
    ) -> None:
        self.config = config
        self.model = model.to(config.device)
        self.run_dir = run_dir
        self.progress = Progress()
        self._objective = objective
        self._vocabulary = vocabulary
        self._identity = identity
        self._store_version = store_version
        self._optimizer = build_optimizer(self.model, config)
        self._noise = torch.Generator(config.device).manual_seed(config.seed)
        self._average: AveragedModel | None = None

    @property
    def measured(self) -> nn.Module:
        """What is validated and kept as the best: the model, or the average of its past."""
        return self.model if self._average is None else self._average.module

    def resume(self, checkpoint: Checkpoint) -> None:
        """Go on exactly where a checkpoint was written."""
        self.model.load_state_dict(checkpoint.part("model"))
        load_optimizer(self._optimizer, checkpoint.part("optimizer"))
        self._start_average()
        if self._average is not None:
            self._average.load_state_dict(checkpoint.part("average"))
        self._noise.set_state(checkpoint.tensors["random.noise"])
        torch.set_rng_state(checkpoint.tensors["random.dropout"])
        self.progress = checkpoint.progress

    def fit(
        self,
        batches: Iterator[tuple[Position, Batch]],
        validate: Callable[[], float],
        waited_s: Callable[[], float],
        on_step: ProgressCallback | None = None,
    ) -> None:
        """Train from `progress.step` to the configured number of steps.

        Args:
            batches: endless training batches, from `progress.position` on.
            validate: accuracy of `measured` on the validation questions.
            waited_s: seconds waited for data so far.
            on_step: called after every step.

        Raises:
            TrainingDiverged: the loss or its gradient is NaN or infinite.
        """
        if self.progress.step == 0:
            self._start_average()
            self._save(INITIAL)
        started, first, waited_before = time.perf_counter(), self.progress.step, 0.0
        with Curves(self.run_dir, self.progress.step) as curves:
            while not self.progress.finished(self.config):
                step_started = time.perf_counter()
                position, numbers = self._step(batches)
                self.progress = replace(
                    self.progress, step=self.progress.step + 1, position=position
                )
                step = self.progress.step
                curves.log(
                    "train",
                    step,
                    **numbers,
                    data_wait_s=waited_s() - waited_before,
                    step_s=time.perf_counter() - step_started,
                )
                waited_before = waited_s()
                if step % self.config.validate_every == 0 or step == self.config.steps:
                    curves.log("validation", step, accuracy=self._validate_and_save(validate))
                if on_step is not None:
                    elapsed = time.perf_counter() - started
                    on_step(
                        StepReport(
                            step=step,
                            steps=self.config.steps,
                            loss=numbers["loss"],
                            accuracy=numbers["accuracy"],
                            best_accuracy=self.progress.best_accuracy,
                            eta_s=elapsed / (step - first) * (self.config.steps - step),
                            data_wait_share=waited_s() / elapsed,
                        )
                    )

    def _start_average(self) -> None:
        """Copy the model where an average is wanted: only now are its statistics in place."""
        if self.config.ema_decay:
            update = get_ema_multi_avg_fn(self.config.ema_decay)  # type: ignore[no-untyped-call]
            self._average = AveragedModel(self.model, multi_avg_fn=update)

    def _step(self, batches: Iterator[tuple[Position, Batch]]) -> tuple[Position, dict[str, float]]:
        """One optimisation step; returns the place after its batches, and numbers for the curves."""
        config, step = self.config, self.progress.step
        lr, tau = learning_rate(step, config), temperature(step, config)
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        self.model.train()
        self._optimizer.zero_grad(set_to_none=True)
        position, loss_sum, right = self.progress.position, 0.0, 0
        asked: list[str] = []
        terms: Counter[str] = Counter()
        for _ in range(config.accumulate):
            position, batch = next(batches)
            loss = self._objective(self.model, batch, tau=tau, generator=self._noise)
            loss.total.backward()  # type: ignore[no-untyped-call]
            loss_sum, right = loss_sum + loss.total.item(), right + loss.right
            terms.update(loss.terms)
            asked.extend(batch.question_ids)
        for parameter in self.model.parameters():
            if parameter.grad is not None:
                parameter.grad.div_(len(asked))
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), config.clip_norm).item()
        # Either may be lost alone: features that only rank frames spoil the gradient, not the loss.
        if not (math.isfinite(loss_sum) and math.isfinite(norm)):
            self._give_up(asked, loss_sum / len(asked), norm)
        self._optimizer.step()
        if self._average is not None:
            self._average.update_parameters(self.model)
        return position, {
            "loss": loss_sum / len(asked),
            "accuracy": right / len(asked),
            "lr": lr,
            "tau": tau,
            "grad_norm": norm,
            **{f"loss_{name}": value / len(asked) for name, value in terms.items()},
        }

    def _give_up(self, asked: list[str], loss: float, norm: float) -> NoReturn:
        """Leave the questions of the fatal step behind, and stop."""
        step, path = self.progress.step + 1, self.run_dir / DIVERGED
        found = {"step": step, "loss": str(loss), "grad_norm": str(norm), "question_ids": asked}
        replace_file(path, (json.dumps(found, indent=2) + "\n").encode())
        raise TrainingDiverged(
            f"the loss is {loss} and its gradient has norm {norm} at step {step}; the step's questions "
            f"are listed in {path}, the last good state is in {self.run_dir / LAST}. Lower lr or "
            "clip_norm, or use precision=fp32; or a clip's features are at fault: verify the store."
        )

    def _validate_and_save(self, validate: Callable[[], float]) -> float:
        """Validate, then write the last checkpoint and, if it is the best so far, the best one."""
        self.measured.eval()
        accuracy = validate()
        if accuracy > self.progress.best_accuracy:
            self.progress = replace(
                self.progress, best_accuracy=accuracy, best_step=self.progress.step
            )
            self._save(BEST)
        save_state(self.run_dir, self._checkpoint(self._resumable_tensors()))
        return accuracy

    def _save(self, name: str) -> None:
        """Write what is measured: enough to evaluate, not to go on."""
        tensors = _prefixed("model", self.measured.state_dict())
        write_checkpoint(self.run_dir / name, self._checkpoint(tensors))

    def _resumable_tensors(self) -> dict[str, Tensor]:
        tensors = _prefixed("model", self.model.state_dict())
        tensors |= _prefixed("optimizer", optimizer_tensors(self._optimizer))
        if self._average is not None:
            tensors |= _prefixed("average", self._average.state_dict())
        tensors["random.noise"] = self._noise.get_state()
        tensors["random.dropout"] = torch.get_rng_state()
        return tensors

    def _checkpoint(self, tensors: Mapping[str, Tensor]) -> Checkpoint:
        return Checkpoint(
            config=self.config,
            vocabulary=self._vocabulary,
            identity=self._identity,
            store_version=self._store_version,
            progress=self.progress,
            tensors=tensors,
        )


def _prefixed(part: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{part}.{name}": tensor for name, tensor in tensors.items()}
