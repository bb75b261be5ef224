"""A training state as one safetensors file: tensors, and everything else as JSON in its header."""

import hashlib
import json
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor

from cache_schema.errors import IdentityMismatch, InputError, SchemaError, VideoDistillError
from cache_schema.identity import FeatureIdentity
from cache_schema.storage.durable_files import replace_file
from train.config import TrainConfig
from train.epoch_order import START, Position
from train.question_record import QuestionRecord
from train.vocabulary import Vocabulary

FORMAT: Final = 1
_HEADER_KEY: Final = "videodistill.checkpoint"


class CorruptCheckpoint(VideoDistillError):  # noqa: N818 - says what is the case
    """A checkpoint's bytes are not what was written."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far a run is."""

    step: int = 0
    """Optimisation steps done."""
    position: Position = START
    """The next batch."""
    best_accuracy: float = -1.0
    """Best validation accuracy so far; -1 before the first validation."""
    best_step: int = 0
    """Step of the best validation."""

    def finished(self, config: TrainConfig) -> bool:
        """Whether a run has done all its steps, or stopped early as `patience` has it."""
        stale = (self.step - self.best_step) // config.validate_every
        gave_up = 0 < config.patience <= stale and self.step % config.validate_every == 0
        return self.step >= config.steps or gave_up


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """Everything that a run needs to go on, or to be evaluated."""

    config: TrainConfig
    """The run's configuration."""
    vocabulary: Vocabulary
    """Its answer classes."""
    identity: FeatureIdentity
    """What the features are that it was trained on."""
    store_version: int
    """The manifest version that it was trained on."""
    progress: Progress
    """How far it is."""
    tensors: Mapping[str, Tensor]
    """Model, and in a resumable checkpoint optimizer and random state, by dotted name."""
    questions: QuestionRecord | None = None
    """Which questions it was started with; None in checkpoints that are older than this record."""

    def part(self, prefix: str) -> dict[str, Tensor]:
        """Tensors under `prefix.`, without it."""
        start = f"{prefix}."
        return {
            name.removeprefix(start): tensor
            for name, tensor in self.tensors.items()
            if name.startswith(start)
        }

    def require_identity(self, identity: FeatureIdentity, where: Path) -> None:
        """Refuse features that are not those the run was trained on.

        Raises:
            IdentityMismatch: showing both digests and every field that differs.
        """
        if identity.digest != self.identity.digest:
            differing = "\n  ".join(self.identity.differences(identity))
            raise IdentityMismatch(
                f"{where} was trained on features {self.identity.digest[:12]}, the store holds "
                f"{identity.digest[:12]} (here: the checkpoint, there: the store):\n  {differing}\n"
                "Use the store that it was trained on, or train a new run."
            )

    def require_questions(
        self, questions: QuestionRecord, vocabulary: Vocabulary, run_dir: Path
    ) -> None:
        """Refuse to go on with other questions or answer classes than the run was started with.

        Its place in the order of questions, and its head, mean nothing to others.

        Raises:
            InputError: saying what differs, and what to do.
        """
        if self.questions not in {None, questions}:
            what = f"questions: {self.questions} then, {questions} now"
        elif self.vocabulary != vocabulary:
            what = f"answer classes: {len(self.vocabulary):,} then, {len(vocabulary):,} now"
        else:
            return
        raise InputError(
            f"{run_dir} cannot go on from step {self.progress.step}: it was started with other {what}. "
            "What counts are ids, texts, answers, clips and their order. Bring back the question table, "
            "and the clips of the store, that it was started with; or train under another run name, or "
            "remove the folder to train anew."
        )


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint durably: after a crash the file is the old one or the new one, whole."""
    tensors = {
        name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.tensors.items()
    }
    progress = checkpoint.progress
    document = {
        "format": FORMAT,
        "config": checkpoint.config.to_dict(),
        "answers": list(checkpoint.vocabulary.answers),
        "identity": checkpoint.identity.to_json(),
        "identity_digest": checkpoint.identity.digest,
        "store_version": checkpoint.store_version,
        "progress": {
            "step": progress.step,
            "position": list(progress.position),
            "best_accuracy": progress.best_accuracy,
            "best_step": progress.best_step,
        },
        "questions": None if checkpoint.questions is None else asdict(checkpoint.questions),
        "checksum": _checksum(tensors),
    }
    replace_file(path, save(tensors, {_HEADER_KEY: json.dumps(document)}))


def read_checkpoint(path: Path) -> Checkpoint:
    """Read and check a checkpoint.

    Raises:
        InputError: there is no such file.
        CorruptCheckpoint: it is damaged, or not a checkpoint of this project.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"There is no checkpoint at {path}; train the run first.") from None
    with _wholeness(path):
        tensors = load(content)
        (length,) = struct.unpack_from("<Q", content)
        header = json.loads(content[8 : 8 + length])
        document = _document(header["__metadata__"], path)
        if document["checksum"] != _checksum(tensors):
            raise CorruptCheckpoint(f"the tensors of {path} are not those that were written")
        return _checkpoint(document, tensors)


def peek_checkpoint(path: Path) -> Checkpoint:
    """Read all of a checkpoint but its tensors, of which the length alone is checked.

    Raises:
        InputError: there is no such file.
        CorruptCheckpoint: it is cut short, or not a checkpoint of this project.
    """
    try:
        with _wholeness(path), safe_open(path, framework="pt") as file:
            return _checkpoint(_document(file.metadata(), path), {})
    except FileNotFoundError:
        raise InputError(f"There is no checkpoint at {path}; train the run first.") from None


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state as tensors named `<parameter number>.<entry>`."""
    return {
        f"{number}.{entry}": value
        for number, entries in optimizer.state_dict()["state"].items()
        for entry, value in entries.items()
    }


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Undo `optimizer_tensors`; the groups are those that the optimizer was built with."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        number, entry = name.split(".", 1)
        state.setdefault(int(number), {})[entry] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


@contextmanager
def _wholeness(path: Path) -> Iterator[None]:
    """What goes wrong in reading a file that is no checkpoint, in words."""
    try:
        yield
    except (SafetensorError, KeyError, TypeError, ValueError, struct.error, SchemaError) as error:
        if isinstance(error, VideoDistillError) and not isinstance(error, SchemaError):
            raise
        raise CorruptCheckpoint(f"{path} is not a whole checkpoint: {error!r}") from error


def _document(metadata: Mapping[str, str], path: Path) -> dict[str, Any]:
    """The JSON that `write_checkpoint` put into the safetensors header."""
    document: dict[str, Any] = json.loads(metadata[_HEADER_KEY])
    if document["format"] != FORMAT:
        raise InputError(
            f"checkpoint {path} has format {document['format']!r}, this version reads {FORMAT}"
        )
    return document


def _checkpoint(document: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Checkpoint:
    progress, questions = document["progress"], document.get("questions")
    return Checkpoint(
        config=TrainConfig.from_dict(document["config"]),
        vocabulary=Vocabulary(tuple(document["answers"])),
        identity=FeatureIdentity.from_json(document["identity"]),
        store_version=document["store_version"],
        progress=Progress(**{**progress, "position": Position(*progress["position"])}),
        tensors=tensors,
        questions=None if questions is None else QuestionRecord(**questions),
    )


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    """BLAKE2b of every tensor's name, type, shape and bytes, in name order."""
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
