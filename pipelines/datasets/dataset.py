"""What a data set says of itself: its files, its owners, its size, and how it is read."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from cache_schema.tables.question_table import Split
from pipelines.datasets.annotations import Annotations, gathered
from pipelines.datasets.source_folder import Row, SourceFolder

Task = Literal["open-ended", "multiple-choice", "clip-choice", "retrieval", "captions"]
"""What is asked: an answer in words, one of several answers, one of several clips, the clip of a
sentence among all, or nothing (sentences to pretrain on)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AnnotationFile:
    """One file that a data set's owners offer and that an adapter reads."""

    name: str
    """Its path below the data set's folder; may hold a `*` where there are several."""
    holds: str
    """What is in it, for people."""
    optional: bool = False
    """Whether the data set can be read without it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedCount:
    """How many questions or captions a split has, according to someone."""

    what: Literal["questions", "captions"]
    split: Split
    count: int
    source: str
    """Who says so."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Dataset:
    """One data set."""

    name: str
    folder: str
    """Its folder under `data/`; data sets that share videos share it, and so the feature store."""
    about: str
    """One line for people."""
    task: Task
    files: tuple[AnnotationFile, ...]
    """The annotation files, where they belong."""
    videos: str
    """Where a clip's video belongs, for people: `videos/<video id>.mp4`."""
    licence: str
    """Under what terms it may be used, as far as its owners say; the reader's duty to check."""
    offered: str
    """Where its owners offer it, in words."""
    splits: str
    """Where the splits come from."""
    rows: Callable[[SourceFolder], Iterator[Row]]
    """Reads the annotation files."""
    published: tuple[PublishedCount, ...] = ()
    """Published sizes, to compare with what is there."""
    clips: int | None = None
    """Published number of clips, all splits; sizes and times are foretold from it."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """Kinds of tags that its questions carry, and what they mean."""
    rendered: bool = False
    """Whether the project renders it itself."""

    def missing(self, root: Path) -> list[AnnotationFile]:
        """The files that are not there and without which the data set cannot be read."""
        return [f for f in self.files if not f.optional and not any(root.glob(f.name))]

    def read(self, root: Path, *, skip_bad_rows: bool = False) -> Annotations:
        """The whole data set in memory.

        Args:
            root: its folder.
            skip_bad_rows: leave out entries that break a rule instead of refusing the file.

        Raises:
            InputError: an annotation file is missing or is not what it should be.
            SchemaError: entries break a rule; carries them with their lines.
        """
        source = SourceFolder(root, skip_bad_rows=skip_bad_rows)
        found = gathered(self.rows(source), source.noted)
        source.require_usable(len(found.questions) + len(found.captions) + len(found.clips))
        return found
