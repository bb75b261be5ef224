"""Compares a data set's files with what was published, with its videos, and with themselves."""

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Final, Literal

from cache_schema import Caption, Clip, Question
from cache_schema.tables.question_table import Split
from pipelines.datasets.dataset import Dataset
from pipelines.datasets.registry import require_files
from pipelines.datasets.source_folder import Row, SourceFolder
from pipelines.datasets.video_files import located, without_video

_SHOWN: Final = 5
_SPLITS: Final[tuple[Split, ...]] = ("train", "val", "test")
_BIT: Final = {"train": 1, "val": 2, "test": 4}


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing that a check has to say."""

    severity: Literal["wrong", "notice"]
    what: str

    def __str__(self) -> str:
        return f"{self.severity}: {self.what}"


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitCount:
    """Questions or captions of one split, beside the published number."""

    what: str
    split: str
    found: int
    published: int | None
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class DataCheck:
    """What a data set's files hold."""

    name: str
    clips: int
    clips_with_video: int
    counts: tuple[SplitCount, ...]
    findings: tuple[Finding, ...]

    @property
    def wrong(self) -> int:
        """How many findings are not mere notices."""
        return sum(finding.severity == "wrong" for finding in self.findings)

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self) | {"wrong": self.wrong}


def check(dataset: Dataset, root: Path) -> DataCheck:
    """Reads all annotation files and looks for every video; opens no video and writes nothing.

    Raises:
        InputError: annotation files are missing, or broken beyond their rows.
    """
    require_files(dataset, root)
    source = SourceFolder(root, skip_bad_rows=True)
    census = _Census()
    for row in dataset.rows(source):
        census.count(row)
    clips = located(census.clips)
    missing = without_video(clips)
    findings = [
        *_problem_findings(source),
        *_count_findings(counts := _counts(dataset, census)),
        *_clip_findings(census, missing),
        *census.findings(),
    ]
    return DataCheck(
        name=dataset.name,
        clips=len(clips),
        clips_with_video=len(clips) - len(missing),
        counts=tuple(counts),
        findings=tuple(findings),
    )


class _Census:
    """What is counted while the rows go by; no row is kept but clips."""

    def __init__(self) -> None:
        self.clips: list[Clip] = []
        self.rows: Counter[tuple[str, Split]] = Counter()
        self.splits_of_clip: defaultdict[str, int] = defaultdict(int)
        self.answers: defaultdict[Split, Counter[str]] = defaultdict(Counter)
        self._splits_of_question: dict[int, int] = {}
        self._ambiguous: list[str] = []

    def count(self, row: Row) -> None:
        if isinstance(row, Clip):
            self.clips.append(row)
        elif isinstance(row, Caption):
            self.rows["captions", row.split] += 1
            self.splits_of_clip[row.clip_id] |= _BIT[row.split]
        elif isinstance(row, Question):
            self._count_question(row)

    def _count_question(self, question: Question) -> None:
        self.rows["questions", question.split] += 1
        for clip_id in question.clips:
            self.splits_of_clip[clip_id] |= _BIT[question.split]
        # Two different questions share a hash once in 10^13 pairs; a notice may bear that.
        asked = hash((question.clips, question.question, question.candidates))
        known = self._splits_of_question.get(asked, 0)
        self._splits_of_question[asked] = known | _BIT[question.split]
        if len(set(question.choices)) < len(question.choices):
            self._ambiguous.append(question.question_id)
        if not question.choices:
            self.answers[question.split][question.answer] += 1

    def findings(self) -> Iterator[Finding]:
        yield from _overlaps("clips", self.splits_of_clip.values())
        yield from _overlaps("questions", self._splits_of_question.values())
        if self._ambiguous:
            yield _notice("questions with the same choice twice", self._ambiguous)
        known = self.answers["train"].keys()
        for split in ("val", "test"):
            answers = self.answers[split]
            unknown = sum(count for answer, count in answers.items() if answer not in known)
            if unknown and known:
                share = 100 * unknown / answers.total()
                yield Finding(
                    severity="notice",
                    what=f"{unknown:,} of {answers.total():,} {split} answers ({share:.1f} %) are not "
                    "among the training answers and will count as wrong",
                )


def _counts(dataset: Dataset, census: _Census) -> list[SplitCount]:
    published = {(p.what, p.split): p for p in dataset.published}
    counts = []
    for what in ("questions", "captions"):
        for split in _SPLITS:
            found, said = census.rows[what, split], published.get((what, split))
            if split == "train" and said and (what, "val") not in published:
                # Held out of the published training split by us.
                found += census.rows[what, "val"]
            if found or said:
                counts.append(
                    SplitCount(
                        what=what,
                        split="train + val" if found != census.rows[what, split] else split,
                        found=found,
                        published=said.count if said else None,
                        source=said.source if said else "",
                    )
                )
    return counts


def _problem_findings(source: SourceFolder) -> Iterator[Finding]:
    if source.bad_rows:
        shown = "".join(f"\n    {problem}" for problem in source.problems[:_SHOWN])
        yield Finding(severity="wrong", what=f"{source.bad_rows:,} rows are refused:{shown}")
    for reason, count in source.noted.items():
        yield Finding(severity="notice", what=f"{count:,} entries: {reason}")


def _count_findings(counts: Iterable[SplitCount]) -> Iterator[Finding]:
    for count in counts:
        if count.published is not None and count.found != count.published:
            yield Finding(
                severity="wrong",
                what=f"{count.found:,} {count.what} in {count.split}; published: "
                f"{count.published:,} ({count.source})",
            )


def _clip_findings(census: _Census, missing: list[Clip]) -> Iterator[Finding]:
    ids = {clip.clip_id for clip in census.clips}
    if missing:
        names = _some([str(clip.path) for clip in missing])
        what = f"{len(missing):,} of {len(census.clips):,} clips have no video: {names}"
        yield Finding(severity="wrong", what=what)
    if unknown := [name for name in census.splits_of_clip if name not in ids]:
        what = f"{len(unknown):,} clips are asked about and not listed: {_some(unknown)}"
        yield Finding(severity="wrong", what=what)
    if idle := [name for name in sorted(ids) if name not in census.splits_of_clip]:
        yield _notice("clips that nothing is asked or said about", idle)
    if twins := _twins(ids):
        yield _notice(
            "ids that differ from another only in case or Unicode form (their videos need a file "
            "system that tells such names apart)",
            twins,
        )


def _twins(ids: Iterable[str]) -> list[str]:
    groups = defaultdict[str, list[str]](list)
    for name in ids:
        groups[unicodedata.normalize("NFC", name).casefold()].append(name)
    return sorted(name for group in groups.values() if len(group) > 1 for name in group)


def _overlaps(what: str, bits: Iterable[int]) -> Iterator[Finding]:
    seen = Counter(bits)
    for first, second in combinations(_SPLITS, 2):
        wanted = _BIT[first] | _BIT[second]
        if shared := sum(count for bit, count in seen.items() if bit & wanted == wanted):
            yield Finding(
                severity="notice", what=f"{shared:,} {what} are in {first} and in {second}"
            )


def _notice(what: str, names: list[str]) -> Finding:
    return Finding(severity="notice", what=f"{len(names):,} {what}: {_some(names)}")


def _some(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
