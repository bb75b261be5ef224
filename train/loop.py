"""The training loop, top to bottom: forward, loss, backward, add up, clip, step, log, validate, save."""

import json
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import numpy as np
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
from train.optimisation import (
    build_optimizer,
    learning_rate,
    set_learning_rate,
    temperature,
)
from train.processes import ALONE, Processes
from train.progress import ProgressCallback, StepReport
from train.question_record import QuestionRecord
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
        questions: QuestionRecord,
        identity: FeatureIdentity,
        store_version: int,
        run_dir: Path,
        processes: Processes = ALONE,
    ) -> None:
        self.config = config
        self.model = model.to(config.device)
        self.run_dir = run_dir
        self.progress = Progress()
        self._objective = objective
        self._vocabulary = vocabulary
        self._questions = questions
        self._identity = identity
        self._store_version = store_version
        self._optimizer = build_optimizer(self.model, config)
        self._processes = processes
        self._noise = torch.Generator(config.device)
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
            batches: endless parts of training batches from `progress.position` on, those alone that
                this process computes.
            validate: accuracy of `measured` on the validation questions.
            waited_s: seconds waited for data so far.
            on_step: called after every step.

        Raises:
            TrainingDiverged: the loss or its gradient is NaN or infinite.
            ProcessLost: another process has ended.
        """
        if self.progress.step == 0:
            self._start_average()
            self._save(INITIAL)
        started, first, waited_before = time.perf_counter(), self.progress.step, 0.0
        with ExitStack() as opened:
            log = _keep_no_record
            if self._processes.first:
                log = opened.enter_context(Curves(self.run_dir, self.progress.step)).log
            while not self.progress.finished(self.config):
                step_started = time.perf_counter()
                position, numbers = self._step(batches)
                self.progress = replace(
                    self.progress, step=self.progress.step + 1, position=position
                )
                step = self.progress.step
                log(
                    "train",
                    step,
                    **numbers,
                    data_wait_s=waited_s() - waited_before,
                    step_s=time.perf_counter() - step_started,
                )
                waited_before = waited_s()
                if step % self.config.validate_every == 0 or step == self.config.steps:
                    log("validation", step, accuracy=self._validate_and_save(validate))
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
        set_learning_rate(self._optimizer, lr)
        self.model.train()
        self._optimizer.zero_grad(set_to_none=True)
        position, asked = self.progress.position, list[str]()
        sums: defaultdict[str, float] = defaultdict(float)
        for part in range(self._processes.rank, config.accumulate, self._processes.count):
            position, batch = next(batches)
            self._seed_noise(part)
            loss = self._objective(self.model, batch, tau=tau, generator=self._noise)
            loss.total.backward()  # type: ignore[no-untyped-call]
            sums["questions"] += len(batch.answer)
            sums["loss"] += loss.total.item()
            sums["accuracy"] += loss.right
            for name, value in loss.terms.items():
                sums[f"loss_{name}"] += value
            asked.extend(batch.question_ids)
        means = self._average_over_questions(sums)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), config.clip_norm).item()
        # Either may be lost alone: features that only rank frames spoil the gradient, not the loss.
        if not (math.isfinite(means["loss"]) and math.isfinite(norm)):
            self._give_up(asked, means["loss"], norm)
        self._optimizer.step()
        if self._average is not None:
            self._average.update_parameters(self.model)
        return position, {**means, "lr": lr, "tau": tau, "grad_norm": norm}

    def _seed_noise(self, part: int) -> None:
        """Draw all noise of a part of a batch anew from seed, step and part.

        So it is the same whichever process computes the part, and nothing of it has to be saved.
        """
        entropy = np.random.SeedSequence([self.config.seed, self.progress.step, part])
        noise, dropout = entropy.generate_state(2, np.uint64).tolist()
        self._noise.manual_seed(noise)
        torch.manual_seed(dropout)

    def _average_over_questions(self, sums: Mapping[str, float]) -> dict[str, float]:
        """Turn sums and gradients of this process into means over the questions of all.

        Every process has a gradient for the same parameters: which these are, data do not decide.
        """
        total = torch.tensor(list(sums.values()), dtype=torch.float64)
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        self._processes.add_up([total])
        self._processes.add_up(gradients)
        questions, *others = total.tolist()
        for gradient in gradients:
            gradient.div_(questions)
        _, *names = sums
        return {name: value / questions for name, value in zip(names, others, strict=True)}

    def _give_up(self, asked: list[str], loss: float, norm: float) -> NoReturn:
        """Leave the questions of the fatal step behind, and stop."""
        step, path = self.progress.step + 1, self.run_dir / DIVERGED
        everyone = self._processes.gathered(json.dumps(asked))
        asked = [question_id for ids in everyone for question_id in json.loads(ids)]
        found = {"step": step, "loss": str(loss), "grad_norm": str(norm), "question_ids": asked}
        if self._processes.first:
            replace_file(path, (json.dumps(found, indent=2) + "\n").encode())
        raise TrainingDiverged(
            f"the loss is {loss} and its gradient has norm {norm} at step {step}; the step's questions "
            f"are listed in {path}, the last good state is in {self.run_dir / LAST}. Lower lr or "
            "clip_norm, or use precision=fp32; or a clip's features are at fault: verify the store."
        )

    def _validate_and_save(self, validate: Callable[[], float]) -> float:
        """Validate, then write the last checkpoint and, if it is the best so far, the best one.

        The first process does it; the others take its word for the accuracy.
        """
        self.measured.eval()
        accuracy = self._processes.told(validate() if self._processes.first else 0.0)
        if accuracy > self.progress.best_accuracy:
            self.progress = replace(
                self.progress, best_accuracy=accuracy, best_step=self.progress.step
            )
            self._save(BEST)
        if self._processes.first:
            save_state(self.run_dir, self._checkpoint(self._resumable_tensors()))
        return accuracy

    def _save(self, name: str) -> None:
        """Write what is measured: enough to evaluate, not to go on."""
        if self._processes.first:
            tensors = _prefixed("model", self.measured.state_dict())
            write_checkpoint(self.run_dir / name, self._checkpoint(tensors))

    def _resumable_tensors(self) -> dict[str, Tensor]:
        tensors = _prefixed("model", self.model.state_dict())
        tensors |= _prefixed("optimizer", optimizer_tensors(self._optimizer))
        if self._average is not None:
            tensors |= _prefixed("average", self._average.state_dict())
        return tensors

    def _checkpoint(self, tensors: Mapping[str, Tensor]) -> Checkpoint:
        return Checkpoint(
            config=self.config,
            vocabulary=self._vocabulary,
            identity=self._identity,
            store_version=self._store_version,
            progress=self.progress,
            tensors=tensors,
            questions=self._questions,
        )


def _keep_no_record(kind: str, step: int, **numbers: float) -> None:
    """What processes after the first do with their curves."""


def _prefixed(part: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{part}.{name}": tensor for name, tensor in tensors.items()}
