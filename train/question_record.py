"""Which questions a run was started with, in so few bytes that every checkpoint can hold it."""

import hashlib
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from cache_schema.tables.question_table import QuestionTable

_ASKED: Final = (
    "question_id", "clip_id", "clip_ids", "question", "answer", "candidates", "answer_index",
)  # fmt: skip
"""The columns that training sees: all but the tags and the split."""


@dataclass(frozen=True, kw_only=True, slots=True)
class QuestionRecord:
    """The questions of a run, that a later one can be told from."""

    training: int
    """How many are trained on."""
    validation: int
    """How many choose the best checkpoint."""
    digest: str
    """BLAKE2b of all of them, in their order."""

    def __str__(self) -> str:
        return f"{self.training:,} to train on and {self.validation:,} to validate with"


def record_of(training: QuestionTable, validation: QuestionTable) -> QuestionRecord:
    """Record questions by their ids, clips, texts, answers and choices, and their order."""
    digest = hashlib.blake2b(digest_size=16)
    for table in (training, validation):
        for name in _ASKED:
            _take_in(digest, table.column(name).combine_chunks())
    return QuestionRecord(
        training=len(training), validation=len(validation), digest=digest.hexdigest()
    )


def _take_in(digest: "hashlib.blake2b", values: pa.Array) -> None:
    """Digest lengths before contents, so that nothing can move from one value into the next."""
    if pa.types.is_list(values.type):
        digest.update(pc.list_value_length(values).to_numpy(zero_copy_only=False))
        _take_in(digest, values.flatten())
    elif pa.types.is_string(values.type):
        digest.update(pc.binary_length(values).to_numpy(zero_copy_only=False))
        whole = pa.ListArray.from_arrays([0, len(values)], values)
        digest.update(pc.binary_join(whole, "")[0].as_buffer())
    else:
        digest.update(values.to_numpy(zero_copy_only=False))
