"""Runs side by side: the options in which they differ, and their accuracies with how sure a difference is."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cache_schema import Question
from cache_schema.errors import InputError, SchemaError
from cache_schema.tables.question_table import QuestionTable, tabled
from pipelines.prepared import load
from pipelines.presets import dotted
from pipelines.run_record import RunRecord, answers_of, read_run
from pipelines.scores.answered import reported_split
from pipelines.scores.official import OfficialScore, score_of
from pipelines.scores.paired_difference import PairedDifference, Right, paired_difference
from pipelines.scores.score_rows import ALL, members
from pipelines.scores.scored_runs import dataset_of
from pipelines.workspace import Workspace
from train.predictions import read_judged

_FACTS: Final = ("state", "step", "best_accuracy", "store", "store_version", "seconds")
"""Of a run, beside its options."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ComparedRow:
    """One number of every run."""

    key: str
    """`all`, or a tag such as `type:color`."""
    questions: int
    """Questions of the first run that count here."""
    accuracy: tuple[float | None, ...]
    """Each run's share of right answers, over the questions that it answered; None of none."""
    difference: tuple[PairedDifference | None, ...]
    """Each further run's accuracy minus the first one's, over the questions that both answered."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """What differs between runs."""

    runs: tuple[RunRecord, ...]
    options: Mapping[str, tuple[object, ...]]
    """Options that are not the same in all runs, by dotted name: a value for each run."""
    rows: tuple[ComparedRow, ...]
    notes: tuple[str, ...] = ()
    """Why something is not compared."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "runs": [run.to_dict() for run in self.runs],
            "options": {name: list(values) for name, values in self.options.items()},
            "rows": [asdict(row) for row in self.rows],
            "notes": list(self.notes),
        }

    def facts(self) -> Iterator[tuple[str, tuple[object, ...]]]:
        """What there is to tell of each run beside its options."""
        for name in _FACTS:
            yield name, tuple(getattr(run, name) for run in self.runs)


def compare(
    runs: Sequence[RunRecord],
    judged: Sequence[pa.Table | None],
    questions: Sequence[Question] = (),
    official: OfficialScore | None = None,
) -> Comparison:
    """Put runs beside the first of them.

    Args:
        runs: two or more.
        judged: what each answered, as `read_judged` returns it; None where it was not evaluated.
        questions: the data set's questions, for the break-down; none where they cannot be had.
        official: the data set's own break-down.

    Raises:
        InputError: there is but one run.
    """
    if len(runs) < 2:
        raise InputError("A comparison wants two runs or more.")
    notes = [
        f"{run.name} has no test predictions of its best checkpoint; evaluate it to compare answers"
        for run, table in zip(runs, judged, strict=True)
        if table is None
    ]
    paired = [_pairs(judged[0], other) for other in judged[1:]]
    if any(pairs is not None and pairs.contradict for pairs in paired):
        notes.append("the runs were asked other questions under the same ids: nothing is paired")
        paired = [None for _ in paired]
    rows = [
        ComparedRow(
            key=key,
            questions=0 if judged[0] is None else int(_among(judged[0], wanted).sum()),
            accuracy=tuple(map(_accuracy, judged, [wanted] * len(judged))),
            difference=tuple(None if p is None else p.difference(wanted) for p in paired),
        )
        for key, wanted in _groups(tabled(questions), official)
    ]
    return Comparison(
        runs=tuple(runs),
        options=_differing([run.config for run in runs]),
        rows=tuple(row for row in rows if any(value is not None for value in row.accuracy)),
        notes=tuple(notes),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Pairs:
    """The questions that two runs both answered, in one order."""

    ids: pa.Array
    first: Right
    other: Right
    contradict: bool
    """Whether a question has another right answer in the other run's predictions."""

    def difference(self, wanted: pa.Array | None) -> PairedDifference | None:
        """Of the wanted questions alone; None of all of them."""
        among = slice(None) if wanted is None else pc.is_in(self.ids, wanted).to_numpy(False)
        return paired_difference(self.first[among], self.other[among])


def _pairs(first: pa.Table | None, other: pa.Table | None) -> _Pairs | None:
    if first is None or other is None:
        return None
    place = pc.index_in(first.column("question_id"), other.column("question_id"))
    both = first.filter(pc.is_valid(place))
    partner = other.take(pc.drop_null(place))
    return _Pairs(
        ids=both.column("question_id"),
        first=_right(both),
        other=_right(partner),
        contradict=both.column("answer") != partner.column("answer"),
    )


def _right(judged: pa.Table) -> Right:
    right: Right = judged.column("correct").to_numpy()
    return right


def _among(judged: pa.Table, wanted: pa.Array | None) -> Right:
    if wanted is None:
        return np.ones(len(judged), bool)
    among: Right = pc.is_in(judged.column("question_id"), wanted).to_numpy()
    return among


def _accuracy(judged: pa.Table | None, wanted: pa.Array | None) -> float | None:
    if judged is None:
        return None
    right = _right(judged)[_among(judged, wanted)]
    return float(right.mean()) if len(right) else None


def _groups(
    questions: QuestionTable, official: OfficialScore | None
) -> Iterator[tuple[str, pa.Array | None]]:
    """All questions, then the ids of those with each tag of the break-down."""
    yield ALL, None
    if official is None or not len(questions):
        return
    ids = questions.column("question_id").combine_chunks()
    tags = questions.column("tags").to_pylist()
    for section in official.sections:
        for value, places in members(section, tags).items():
            yield f"{section.kind}:{value}", ids.take(pa.array(places, pa.int64()))


def _differing(configs: Sequence[Mapping[str, Any]]) -> dict[str, tuple[object, ...]]:
    flat = [dotted(config) for config in configs]
    names = dict.fromkeys(name for config in flat for name in config)
    found = {name: tuple(config.get(name) for config in flat) for name in names}
    return {name: values for name, values in found.items() if any(v != values[0] for v in values)}


def compare_folders(folders: Sequence[Path], home: Path, data_root: Path | None) -> Comparison:
    """Compare runs by their folders, broken down as the data set's owners do where its files are there.

    Args:
        folders: `runs/<data set>/<run>`; the first is what the others are compared with.
        home: the folder that holds data/.
        data_root: the folder of the annotations, where it is not data/<name>.

    Raises:
        InputError: a folder holds no run, or there is but one.
    """
    above = os.path.commonpath([folder.resolve().parent for folder in folders])
    runs = [read_run(folder, name=os.path.relpath(folder.resolve(), above)) for folder in folders]
    answers = [answers_of(run.folder) for run in runs]
    judged = [None if path is None else read_judged(path) for path in answers]
    try:
        questions, official = _break_down(folders, home, data_root)
    except (InputError, SchemaError) as error:
        found = compare(runs, judged)
        return replace(found, notes=(*found.notes, f"no break-down: {error}"))
    return compare(runs, judged, questions, official)


def _break_down(
    folders: Sequence[Path], home: Path, data_root: Path | None
) -> tuple[QuestionTable, OfficialScore]:
    """The questions that all runs were asked, and how their owners group them."""
    placed = [dataset_of(folder) for folder in folders]
    dataset, seed, _ = placed[0]
    for folder, (other, other_seed, _) in zip(folders, placed, strict=True):
        # A rendered data set has other questions for every seed, under the same ids.
        if other.name != dataset.name or (dataset.rendered and other_seed != seed):
            raise InputError(f"{folders[0]} and {folder} were not asked the same questions")
    space = Workspace(home=home, dataset=dataset, seed=seed, data_root=data_root)
    questions = tabled(load(dataset, space.data).questions)
    return questions.in_split(reported_split(questions)), score_of(dataset)
