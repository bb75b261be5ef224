"""A table of the paper with our runs beside it: as text, as Markdown, as JSON."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any, Final, Literal

from rich import box
from rich.markup import escape
from rich.table import Table

from cache_schema.errors import InputError
from pipelines.scores.paper_tables import PaperColumn, PaperTable
from pipelines.scores.reruns import RERUNS, rerun_note

if TYPE_CHECKING:
    from pipelines.scores.scored_runs import ScoredRun

What = Literal["accuracy", "change", "difference"]
Values = tuple[float | None, ...]

_FORMS: Final[dict[What, str]] = {"accuracy": ".2f", "change": "+.1f", "difference": "+.2f"}
_ABSENT: Final = "-"
_WITHOUT_VIDEO: Final = "/"


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """One column of numbers, a row of the paper's table each."""

    label: str
    ours: bool
    what: What
    """Accuracy in percent; its change in percent of the one with the video; ours minus published."""
    values: Values


@dataclass(frozen=True, kw_only=True, slots=True)
class ComparedTable:
    """A table of the paper and our runs."""

    table: PaperTable
    columns: tuple[Column, ...]
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """For JSON; percent throughout."""
        return {
            "table": self.table.number,
            "title": self.table.title,
            "source": self.table.source,
            "rows": [row.label for row in self.table.rows],
            "columns": [asdict(column) for column in self.columns],
            "notes": list(self.notes),
        }


def beside_the_paper(table: PaperTable, runs: Sequence["ScoredRun"]) -> ComparedTable:
    """Puts runs beside the published numbers.

    Where the table's columns are methods, every run is a column of its own, with its difference from
    the method of its kind. Where its rows are variants (Table 4), a run belongs into the row of its
    kind, and several of one kind are averaged.

    Raises:
        InputError: the table's rows are variants, and a run is none of them.
    """
    published = tuple(_published(table))
    if table.dataset is not None:
        ours = [column for run in runs for column in _columns_of(table, run, runs)]
        reruns = [run.name for run in runs if run.kind.partition(_WITHOUT_VIDEO)[0] in RERUNS]
        said = (rerun_note(reruns),) if reruns else ()
        return ComparedTable(table=table, columns=(*published, *ours), notes=said)
    kinds = {row.run for row in table.rows}
    for run in runs:
        if run.kind not in kinds:
            raise InputError(
                f"{run.name} is a run of {run.kind!r}, which Table {table.number} has no row of; it has "
                f"{', '.join(str(row.run) for row in table.rows)}."
            )
    ours, notes = list[Column](), list[str]()
    for place, column in enumerate(table.columns):
        ours += _variants(
            table, place, column, [r for r in runs if r.dataset == column.dataset], notes
        )
    return ComparedTable(table=table, columns=(*published, *ours), notes=tuple(notes))


def _published(table: PaperTable) -> Iterator[Column]:
    for place, column in enumerate(table.columns):
        values = tuple(row.values[place] for row in table.rows)
        yield Column(label=column.label, ours=False, what="accuracy", values=values)
        if table.rows[0].changes:
            changes = tuple(row.changes[place] for row in table.rows)
            yield Column(label=f"{column.label}, change", ours=False, what="change", values=changes)


def _columns_of(
    table: PaperTable, run: "ScoredRun", runs: Sequence["ScoredRun"]
) -> Iterator[Column]:
    values = _scores(table, run)
    yield Column(label=run.name, ours=True, what="accuracy", values=values)
    seeing, without, _ = run.kind.partition(_WITHOUT_VIDEO)
    base = next((other for other in runs if without and other.kind == seeing), None)
    if base is not None and table.rows[0].changes:
        changes = tuple(map(_change, values, _scores(table, base)))
        yield Column(label=f"{run.name}, change", ours=True, what="change", values=changes)
    for place, column in enumerate(table.columns):
        if column.run == run.kind:
            rows = tuple(row.values[place] for row in table.rows)
            yield Column(
                label=f"{run.name} minus {column.label}",
                ours=True,
                what="difference",
                values=tuple(map(_difference, values, rows)),
            )


def _variants(
    table: PaperTable,
    place: int,
    column: PaperColumn,
    runs: Sequence["ScoredRun"],
    notes: list[str],
) -> Iterator[Column]:
    by_kind = defaultdict[str | None, list[float]](list)
    for run in runs:
        if (share := run.report.value(table.rows[0].score)) is not None:
            by_kind[run.kind].append(100 * share)
    if not by_kind:
        return
    values = tuple(fmean(by_kind[row.run]) if by_kind[row.run] else None for row in table.rows)
    published = tuple(row.values[place] for row in table.rows)
    notes += [
        f"{row.label} on {column.label}: mean of {len(by_kind[row.run])} runs"
        for row in table.rows
        if len(by_kind[row.run]) > 1
    ]
    yield Column(label=f"ours, {column.label}", ours=True, what="accuracy", values=values)
    yield Column(
        label=f"ours minus {column.label}",
        ours=True,
        what="difference",
        values=tuple(map(_difference, values, published)),
    )


def _scores(table: PaperTable, run: "ScoredRun") -> Values:
    shares = (run.report.value(row.score) for row in table.rows)
    return tuple(None if share is None else 100 * share for share in shares)


def _change(value: float | None, seeing: float | None) -> float | None:
    return None if value is None or not seeing else 100 * (value / seeing - 1)


def _difference(value: float | None, published: float) -> float | None:
    return None if value is None else value - published


def _cells(compared: ComparedTable) -> Iterator[list[str]]:
    for place, row in enumerate(compared.table.rows):
        shown = [row.label]
        for column in compared.columns:
            value = column.values[place]
            shown.append(_ABSENT if value is None else format(value, _FORMS[column.what]))
        yield shown


def as_text(compared: ComparedTable) -> Table:
    """For a terminal; our columns are bold."""
    table = Table(
        title=_title(compared),
        box=box.SIMPLE,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        caption=_caption(compared),
    )
    table.add_column("", no_wrap=True)
    for column in compared.columns:
        style = "bold" if column.ours else None
        table.add_column(escape(column.label), justify="right", style=style, overflow="fold")
    for cells in _cells(compared):
        table.add_row(*map(escape, cells))
    return table


def as_markdown(compared: ComparedTable) -> str:
    """For a page."""
    labels = ["", *(column.label.replace("|", "\\|") for column in compared.columns)]
    lines = [labels, ["---", *("--:" for _ in compared.columns)], *_cells(compared)]
    rows = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"**{_title(compared)}**\n\n{rows}\n\n{_caption(compared)}"


def _title(compared: ComparedTable) -> str:
    return f"Table {compared.table.number}: {compared.table.title} (%)"


def _caption(compared: ComparedTable) -> str:
    return "; ".join([f"Published: {compared.table.source}", *compared.notes])
