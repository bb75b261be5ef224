"""A data set's neutral tables as Parquet beside its files: made once, opened in a moment."""

import json
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from cache_schema import Caption, Clip, Question, open_captions, open_questions
from cache_schema.errors import Problem
from cache_schema.storage.durable_files import replace_file
from cache_schema.tables.caption_table import CAPTION_FORM
from cache_schema.tables.clip_table import clip_form, clip_values, read_clip_table
from cache_schema.tables.question_table import QUESTION_FORM, read_evidence, write_evidence
from cache_schema.tables.row_table import RowStream, attribute_values
from pipelines.datasets.annotations import Annotations, Spans
from pipelines.datasets.dataset import Dataset
from pipelines.datasets.registry import require_files
from pipelines.datasets.source_folder import SourceFolder
from pipelines.datasets.video_files import located

FOLDER: Final = "prepared"
_RECORD: Final = "prepared.json"
_FORM: Final = 1
"""Raised when adapters make other rows of the same files, so that old tables are made anew."""
_ROWS_PER_REPORT: Final = 20_000

Stamp = list[str | int]
"""Name, size and time of change of a source file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Preparation:
    """What became of a data set's files."""

    folder: Path
    clips: int
    questions: int
    captions: int
    bad_rows: int
    problems: tuple[Problem, ...]
    """What was wrong with the skipped rows; at most a thousand."""
    noted: Counter[str] = field(default_factory=Counter)
    """What was done to entries by rule, and how often."""

    def to_dict(self) -> dict[str, object]:
        """For JSON: all but the folder and the problems, which may be many."""
        return {
            "clips": self.clips,
            "questions": self.questions,
            "captions": self.captions,
            "bad_rows": self.bad_rows,
            "noted": dict(self.noted),
        }


def prepared_folder(dataset: Dataset, root: Path) -> Path:
    """Where the tables of a data set lie."""
    return root / FOLDER / dataset.name


def prepare(
    dataset: Dataset,
    root: Path,
    *,
    skip_bad_rows: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> Preparation:
    """Reads the annotation files, checks every row and writes the tables; memory stays small.

    Args:
        dataset: the data set.
        root: its folder; the tables go to `prepared/<name>` in it.
        skip_bad_rows: leave out rows that break a rule and count them.
        on_progress: called now and then with bytes read and bytes in all.

    Raises:
        InputError: a file is missing or broken, or not one usable row is left.
        SchemaError: rows break a rule and are not to be skipped.
    """
    require_files(dataset, root)
    stamps = _stamps(dataset, root)
    total = sum(int(size) for _, size, _ in stamps)
    folder = prepared_folder(dataset, root)
    folder.mkdir(parents=True, exist_ok=True)
    # While there is no record the tables do not count: a stop in between leaves nothing half new.
    (folder / _RECORD).unlink(missing_ok=True)
    source = SourceFolder(root, skip_bad_rows=skip_bad_rows)
    evidence = dict[str, Spans]()
    with ExitStack() as stack:
        clips = RowStream(folder / "clips.parquet", clip_form(root), clip_values(root))
        questions = RowStream(
            folder / "questions.parquet", QUESTION_FORM, attribute_values(QUESTION_FORM)
        )
        captions = RowStream(
            folder / "captions.parquet", CAPTION_FORM, attribute_values(CAPTION_FORM)
        )
        for stream in (clips, questions, captions):
            stack.enter_context(stream)
        for number, row in enumerate(dataset.rows(source), 1):
            if isinstance(row, Question):
                questions.add(row)
            elif isinstance(row, Caption):
                captions.add(row)
            elif isinstance(row, Clip):
                clips.add(row)
            else:
                evidence[row.question_id] = list(row.spans)
            if on_progress and number % _ROWS_PER_REPORT == 0:
                on_progress(source.bytes_read, total)
        source.require_usable(len(questions) + len(captions) + len(clips))
    write_evidence(folder / "evidence.parquet", evidence)
    made = Preparation(
        folder=folder,
        clips=len(clips),
        questions=len(questions),
        captions=len(captions),
        bad_rows=source.bad_rows,
        problems=tuple(source.problems),
        noted=source.noted,
    )
    record = made.to_dict() | {"form": _FORM, "sources": stamps}
    replace_file(folder / _RECORD, (json.dumps(record, indent=2) + "\n").encode())
    return made


def load(dataset: Dataset, root: Path) -> Annotations:
    """A data set in neutral form: from its prepared tables where they are newer than its files.

    Raises:
        InputError: annotation files are missing (says all that belongs where) or broken.
        SchemaError: rows break a rule.
    """
    found = _read_prepared(dataset, root)
    if found is None:
        require_files(dataset, root)
        found = dataset.read(root)
    return replace(found, clips=located(found.clips))


def is_fresh(dataset: Dataset, root: Path) -> bool:
    """Whether there are prepared tables of exactly the files that are there now."""
    path = prepared_folder(dataset, root) / _RECORD
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return False
    return (
        isinstance(record, dict)
        and record.get("form") == _FORM
        and record.get("sources") == _stamps(dataset, root)
    )


def _read_prepared(dataset: Dataset, root: Path) -> Annotations | None:
    if not is_fresh(dataset, root):
        return None
    folder = prepared_folder(dataset, root)
    record = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
    return Annotations(
        clips=read_clip_table(folder / "clips.parquet", root),
        questions=open_questions(folder / "questions.parquet"),
        captions=open_captions(folder / "captions.parquet"),
        evidence=read_evidence(folder / "evidence.parquet"),
        noted=Counter(record.get("noted")),
    )


def _stamps(dataset: Dataset, root: Path) -> list[Stamp]:
    paths = sorted({path for file in dataset.files for path in root.glob(file.name)})
    return [
        [path.relative_to(root).as_posix(), status.st_size, status.st_mtime_ns]
        for path in paths
        for status in (path.stat(),)
    ]
