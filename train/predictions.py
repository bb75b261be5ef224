"""What a model answered, question by question, as one Parquet table."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa

from cache_schema.tables.parquet_table import read_table, write_table

_KIND: Final = "predictions"
_SCHEMA: Final = pa.schema(
    [
        ("question_id", pa.string()),
        ("predicted", pa.string()),
        ("answer", pa.string()),
        ("correct", pa.bool_()),
        ("frame_index", pa.list_(pa.int32())),
        ("frame_time", pa.list_(pa.float64())),
        ("logit", pa.list_(pa.float32())),
    ]
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """One answered question."""

    question_id: str
    """The question."""
    predicted: str
    """The model's answer."""
    answer: str
    """The right answer."""
    frame_index: tuple[int, ...] = ()
    """The frames looked at, by index; empty for a method that selects none."""
    frame_time: tuple[float, ...] = ()
    """Presentation times of those frames, in seconds."""
    logit: tuple[float, ...] = ()
    """Score of every answer class, where they were asked for."""

    @property
    def correct(self) -> bool:
        """Whether the answer is the right one, to the letter."""
        return self.predicted == self.answer


def write_predictions(path: Path, predictions: Sequence[Prediction]) -> None:
    """Write predictions durably, in place of older ones."""
    rows = [asdict(prediction) | {"correct": prediction.correct} for prediction in predictions]
    write_table(path, pa.Table.from_pylist(rows, _SCHEMA), _KIND)


def read_predictions(path: Path) -> list[Prediction]:
    """Read what `write_predictions` wrote.

    Raises:
        InputError: there is no such table.
        SchemaError: the table breaks its schema.
    """
    table, _ = read_table(path, _KIND, _SCHEMA)
    return [
        Prediction(
            question_id=row["question_id"],
            predicted=row["predicted"],
            answer=row["answer"],
            frame_index=tuple(row["frame_index"]),
            frame_time=tuple(row["frame_time"]),
            logit=tuple(row["logit"]),
        )
        for row in table.to_pylist()
    ]


def read_answers(path: Path) -> Iterator[tuple[str, str]]:
    """Question id and the answer predicted, row by row, of what `write_predictions` wrote.

    Raises:
        InputError: there is no such table.
        SchemaError: the table breaks its schema.
    """
    table, _ = read_table(path, _KIND, _SCHEMA)
    names = table.column("question_id").to_pylist()
    yield from zip(names, table.column("predicted").to_pylist(), strict=True)


def read_judged(path: Path) -> pa.Table:
    """The columns `question_id`, `answer` and `correct` of what `write_predictions` wrote.

    Raises:
        InputError: there is no such table.
        SchemaError: the table breaks its schema.
    """
    return read_table(path, _KIND, _SCHEMA)[0].select(["question_id", "answer", "correct"])
