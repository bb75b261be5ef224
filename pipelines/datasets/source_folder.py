"""A data set's folder while it is read: entries of its files become clips, questions and captions."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Final

from cache_schema import Caption, Clip, Question
from cache_schema.errors import InputError, Problem, SchemaError
from cache_schema.field_rules import unprintable
from pipelines.datasets.annotation_files import AnnotationFiles
from pipelines.datasets.record import Record

_LONGEST_FILE_NAME: Final = 255
_LINE_BITS: Final = 40
_LINE_MASK: Final = (1 << _LINE_BITS) - 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """Where in its clip a question's answer shows; for evaluation only."""

    question_id: str
    spans: tuple[tuple[float, float], ...]
    """Start and end in seconds."""


Row = Clip | Question | Caption | Evidence
"""What the entries of annotation files become."""


class SourceFolder(AnnotationFiles):
    """The annotation files of a data set, and what was made of them so far.

    Attributes:
        noted: what the adapter did to entries by rule, and how often: `left out: no caption`.
    """

    def __init__(self, root: Path, *, skip_bad_rows: bool = False) -> None:
        super().__init__(root, skip_bad_rows=skip_bad_rows)
        self.noted: Counter[str] = Counter()
        self._clips: dict[str, int] = {}
        # Of the entry being read: forgotten if it is refused, so that the next one brings them.
        self._new_clips: list[str] = []
        self._names: list[str] = []
        # Id -> file number and line: a number takes a quarter of a text's memory.
        self._places: dict[type, dict[str, int]] = {Question: {}, Caption: {}}

    def require_usable(self, rows: int) -> None:
        """Refuse a data set of which nothing is left to ask about.

        Raises:
            SchemaError: all rows were refused.
            InputError: there were none.
        """
        if rows:
            return
        if self.problems:
            raise SchemaError(f"{self.root}: 0 usable rows; the data", self.problems)
        raise InputError(f"The annotation files in {self.root} hold 0 usable rows.")

    def rows(
        self, name: str, records: Iterable[Record], make: Callable[[Record], Iterable[Row]]
    ) -> Iterator[Row]:
        """The rows that a file's entries become; entries that break a rule become problems.

        Args:
            name: the file that the entries are of.
            records: the entries.
            make: makes the rows of one entry; an entry counts whole or not at all.

        Raises:
            SchemaError: entries were refused and are not to be skipped.
        """

        def checked(record: Record) -> tuple[Row, ...]:
            self._new_clips.clear()
            try:
                made = tuple(make(record))
                for row in made:
                    self._require_new(row, record, name)
            except SchemaError:
                for clip_id in self._new_clips:
                    del self._clips[clip_id]
                raise
            return made

        for made in self.each(name, records, checked):
            yield from made

    def clip(
        self,
        clip_id: str,
        *parts: str,
        start_s: float | None = None,
        end_s: float | None = None,
    ) -> tuple[Clip, ...]:
        """The clip of a video file, the first time that it is met; nothing after that.

        Args:
            clip_id: its name.
            parts: folder names and the file's name, below the data set's folder; each must be a
                plain name, so that no id can lead out of the folder.
            start_s: where it begins in the file.
            end_s: where it ends.

        Raises:
            SchemaError: a part is no file name, the bounds are not in order, or the id was given to
                another clip before.
        """
        fingerprint = hash((parts, start_s, end_s))
        known = self._clips.get(clip_id)
        if known is None:
            for part in parts:
                if (problem := file_name_problem(part)) is not None:
                    raise SchemaError(f"clip {clip_id!r}", [Problem("video", problem)])
            made = Clip(
                clip_id=clip_id, path=self.root.joinpath(*parts), start_s=start_s, end_s=end_s
            )
            self._clips[clip_id] = fingerprint
            self._new_clips.append(clip_id)
            return (made,)
        if known != fingerprint:
            what = f"{clip_id!r} stands for two different clips"
            raise SchemaError(f"clip {clip_id!r}", [Problem("clip_id", what)])
        return ()

    def has_clip(self, clip_id: str) -> bool:
        """Whether a clip of that name was met."""
        return clip_id in self._clips

    def _require_new(self, row: Row, record: Record, name: str) -> None:
        """Refuse a question or caption whose id was there before, naming both places."""
        if isinstance(row, Clip | Evidence):
            return
        row_id = row.question_id if isinstance(row, Question) else row.caption_id
        place = self._number(name) << _LINE_BITS | record.line
        first = self._places[type(row)].setdefault(row_id, place)
        if first is not place:
            file, line = self._names[first >> _LINE_BITS], first & _LINE_MASK
            raise SchemaError(
                name, [Problem("id", f"{row_id!r} is there already: {file} line {line}")]
            )

    def _number(self, name: str) -> int:
        if not self._names or self._names[-1] != name:
            self._names.append(name)
        return len(self._names) - 1


def file_name_problem(part: str) -> str | None:
    """Why a text cannot be the name of one file or folder, or None when it can."""
    if part in {"", ".", ".."}:
        return f"{part!r} is no file name"
    if "/" in part or "\\" in part or PureWindowsPath(part).drive:
        return f"{part!r} is a path, not a file name"
    if (character := unprintable(part)) is not None:
        return f"a file name contains the unprintable character {character}"
    if len(part.encode()) > _LONGEST_FILE_NAME:
        return f"a file name has {len(part.encode())} bytes, more than {_LONGEST_FILE_NAME}"
    return None
