"""The training loop, top to bottom: forward, loss, backward, clip, step, log, validate, save."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cache_schema.errors import VideoDistillError
from cache_schema.identity import FeatureIdentity
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
from train.optimisation import build_optimizer, learning_rate, temperature
from train.progress import ProgressCallback, StepReport
from train.vocabulary import UNKNOWN, Vocabulary

INITIAL, BEST, LAST = "initial.safetensors", "best.safetensors", "last.safetensors"


class TrainingDiverged(VideoDistillError):  # noqa: N818 - says what is the case
    """The loss is no longer a number."""


class Trainer:
    """One run's moving parts, and the loop over them."""

    def __init__(
        self,
        *,
        config: TrainConfig,
        model: nn.Module,
        vocabulary: Vocabulary,
        identity: FeatureIdentity,
        store_version: int,
        run_dir: Path,
    ) -> None:
        self.config = config
        self.model = model.to(config.device)
        self.run_dir = run_dir
        self.progress = Progress()
        self._vocabulary = vocabulary
        self._identity = identity
        self._store_version = store_version
        self._optimizer = build_optimizer(self.model, config)
        self._noise = torch.Generator(config.device).manual_seed(config.seed)

    def resume(self, checkpoint: Checkpoint) -> None:
        """Go on exactly where a checkpoint was written."""
        self.model.load_state_dict(checkpoint.part("model"))
        load_optimizer(self._optimizer, checkpoint.part("optimizer"))
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
            validate: accuracy of the model on the validation questions.
            waited_s: seconds waited for data so far.
            on_step: called after every step.

        Raises:
            TrainingDiverged: the loss is NaN or infinite.
        """
        if self.progress.step == 0:
            self._save(INITIAL, resumable=False)
        started, first, waited_before = time.perf_counter(), self.progress.step, 0.0
        with Curves(self.run_dir, self.progress.step) as curves:
            while self.progress.step < self.config.steps:
                step_started = time.perf_counter()
                position, batch = next(batches)
                numbers = self._step(batch)
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

    def _step(self, batch: Batch) -> dict[str, float]:
        """One optimisation step; returns its numbers for the curves."""
        config, step = self.config, self.progress.step
        batch = batch.to(torch.device(config.device))
        lr, tau = learning_rate(step, config), temperature(step, config)
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        self.model.train()
        with autocast(config):
            answering = self.model(
                batch.cls,
                batch.patch,
                batch.text,
                batch.clip_of_question,
                tau=tau,
                generator=self._noise,
            )
        logit_QA: Tensor = answering.logits.float()
        loss = F.cross_entropy(
            logit_QA, batch.answer, ignore_index=UNKNOWN, label_smoothing=config.label_smoothing
        )
        value = loss.item()
        if not math.isfinite(value):
            raise TrainingDiverged(
                f"the loss is {value} at step {step + 1} (lr {lr:.2e}, tau {tau:.2f}); the last good "
                f"state is in {self.run_dir / LAST}. Lower lr or clip_norm, or use precision=fp32."
            )
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), config.clip_norm)
        self._optimizer.step()
        right = (logit_QA.argmax(-1) == batch.answer).float().mean()
        return {
            "loss": value,
            "accuracy": right.item(),
            "lr": lr,
            "tau": tau,
            "grad_norm": norm.item(),
        }

    def _validate_and_save(self, validate: Callable[[], float]) -> float:
        """Validate, then write the last checkpoint and, if it is the best so far, the best one."""
        self.model.eval()
        accuracy = validate()
        if accuracy > self.progress.best_accuracy:
            self.progress = replace(
                self.progress, best_accuracy=accuracy, best_step=self.progress.step
            )
            self._save(BEST, resumable=False)
        self._save(LAST, resumable=True)
        return accuracy

    def _save(self, name: str, *, resumable: bool) -> None:
        tensors = {f"model.{key}": value for key, value in self.model.state_dict().items()}
        if resumable:
            state = optimizer_tensors(self._optimizer)
            tensors |= {f"optimizer.{key}": value for key, value in state.items()}
            tensors["random.noise"] = self._noise.get_state()
            tensors["random.dropout"] = torch.get_rng_state()
        write_checkpoint(
            self.run_dir / name,
            Checkpoint(
                config=self.config,
                vocabulary=self._vocabulary,
                identity=self._identity,
                store_version=self._store_version,
                progress=self.progress,
                tensors=tensors,
            ),
        )


def autocast(config: TrainConfig) -> torch.autocast:
    """Matrix products in bfloat16 where the run asks for it; a no-op in float32."""
    device = torch.device(config.device).type
    return torch.autocast(device, dtype=torch.bfloat16, enabled=config.precision == "bf16")
