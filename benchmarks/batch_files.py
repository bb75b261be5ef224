"""The same clips in a store, in a flat file and as .npy files, and questions about them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.clip_readers import ClipSize, write_store
from cache_schema.tables.question_table import Question
from cache_schema.tables.sentence_table import SentenceTable
from train.question_set import QuestionSet
from train.vocabulary import Vocabulary

SENTENCES = ("is it red?", "is it blue?", "is it round?", "is it tall?")
ANSWERS = ("no", "yes")
WEIGHTS = "0" * 64


@dataclass(frozen=True, kw_only=True)
class BatchFiles:
    """Where the features were written: CLS and patches of every clip."""

    size: ClipSize
    names: list[str]
    store: Path
    cls: np.memmap
    patch: np.memmap
    npy: list[Path]
    """A file per clip, [N, 1 + P, D] with the CLS feature first."""

    @property
    def clip_bytes(self) -> int:
        return 2 * self.size.frames * (1 + self.size.patches) * self.size.dim


def write_batch_files(folder: Path, clips: int, size: ClipSize) -> BatchFiles:
    """Writes the same random features three times."""
    names = [f"clip-{number:05d}" for number in range(clips)]
    patch = np.memmap(folder / "patch", mode="w+", dtype=np.float16, shape=(clips, *size.shape))
    cls = np.memmap(
        folder / "cls", mode="w+", dtype=np.float16, shape=(clips, size.frames, size.dim)
    )
    (folder / "npy").mkdir()
    npy = [folder / "npy" / f"{name}.npy" for name in names]
    rng = np.random.default_rng(0)
    for place, file in enumerate(npy):
        patch[place] = rng.standard_normal(size.shape, dtype=np.float32)
        # The benchmarks' stores keep the first patch as CLS feature too.
        cls[place] = patch[place][:, 0]
        np.save(file, np.concatenate([cls[place][:, None], patch[place]], axis=1))
    write_store(folder / "store", names, patch, size)
    return BatchFiles(size=size, names=names, store=folder / "store", cls=cls, patch=patch, npy=npy)


def sentences(dim: int) -> SentenceTable:
    """Random features of the few sentences that all questions are."""
    features = np.random.default_rng(1).standard_normal((len(SENTENCES), dim), dtype=np.float32)
    return SentenceTable(
        texts=SENTENCES,
        features=features,
        encoder="benchmark",
        weights_sha256=WEIGHTS,
        context_length=77,
        truncated=0,
    )


def questions_about(names: list[str], per_clip: int) -> list[Question]:
    """Some questions about every clip."""
    return [
        Question(
            question_id=f"{name}-{number}",
            clip_id=name,
            question=SENTENCES[number % len(SENTENCES)],
            answer=ANSWERS[number % len(ANSWERS)],
            split="train",
        )
        for name in names
        for number in range(per_clip)
    ]


def question_set(names: list[str], per_clip: int, dim: int) -> QuestionSet:
    """The same, ready for batches."""
    return QuestionSet(questions_about(names, per_clip), sentences(dim), Vocabulary(ANSWERS))
