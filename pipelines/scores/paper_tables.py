"""The paper's Tables 1 to 4 as data: what is printed, and which of our runs and scores stands beside it."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pipelines.scores.score_rows import ALL

NUMBERS: Final = (1, 2, 3, 4)
_FILE: Final = Path(__file__).with_name("paper_tables.toml")


@dataclass(frozen=True, kw_only=True, slots=True)
class PaperColumn:
    """A column: a method, or a data set."""

    label: str
    run: str | None = None
    """Kind of our runs that it is compared with (`run_kind`)."""
    dataset: str | None = None
    """Data set of the column, where the table has several."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PaperRow:
    """A row: a category of questions, or a variant of the model."""

    label: str
    values: tuple[float, ...]
    """Percent, one per column."""
    score: str = ALL
    """Key of our score."""
    run: str | None = None
    """Kind of our runs, where the rows are variants."""
    changes: tuple[float, ...] = ()
    """Percent of the accuracy with the video, one per column; empty where the table has none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PaperTable:
    """One table."""

    number: int
    title: str
    source: str
    dataset: str | None
    """The data set of all columns; None where each has its own."""
    columns: tuple[PaperColumn, ...]
    rows: tuple[PaperRow, ...]

    @property
    def datasets(self) -> tuple[str, ...]:
        """All data sets of the table."""
        own = (column.dataset for column in self.columns)
        return (self.dataset,) if self.dataset else tuple(name for name in own if name)


def paper_table(number: int) -> PaperTable:
    """One of the paper's tables.

    Args:
        number: one of `NUMBERS`.
    """
    tree: dict[str, Any] = tomllib.loads(_FILE.read_text(encoding="utf-8"))[f"table{number}"]
    return PaperTable(
        number=number,
        title=tree["title"],
        source=tree["source"],
        dataset=tree.get("dataset"),
        columns=tuple(PaperColumn(**column) for column in tree["columns"]),
        rows=tuple(_row(row) for row in tree["rows"]),
    )


def _row(tree: dict[str, Any]) -> PaperRow:
    values, changes = tuple(tree.pop("values")), tuple(tree.pop("changes", ()))
    return PaperRow(values=values, changes=changes, **tree)
