"""Puts the answers given beside the questions of a split, strictly: none twice, none unknown, none missing."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from cache_schema import Question
from cache_schema.errors import InputError
from cache_schema.tables.question_table import OPEN_ENDED, Split, tabled
from pipelines.scores.prediction_files import Given, shown

_SPLITS: Final[tuple[Split, ...]] = ("test", "val", "train")


@dataclass(frozen=True, kw_only=True, slots=True)
class Answered:
    """One question and what was answered."""

    question_id: str
    tags: tuple[str, ...]
    answer: str
    """The right answer's text."""
    given: Given | None
    """The answer given; None where there is none."""
    right: bool
    """Whether that is the right one; a question without an answer is not answered right."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AnsweredSplit:
    """All questions of a split, in the data set's order."""

    split: Split
    questions: Sequence[Answered]
    missing: int
    """Questions without an answer; they are counted as wrong."""
    strange: int
    """Answers that name none of the choices; they are wrong."""


def reported_split(questions: Sequence[Question]) -> Split:
    """The split that results are reported on: `test`, or `val` where the test answers are not public."""
    there = set(tabled(questions).column("split").to_pylist())
    return next(split for split in _SPLITS if split in there)


def answer_split(
    questions: Sequence[Question],
    split: Split,
    given: Mapping[str, Given],
    *,
    allow_missing: bool = False,
) -> AnsweredSplit:
    """Judge every question of a split.

    An answer in words is right if it is the right one to the letter. Of several choices, a number is
    the place of one; text is a choice's text, or where it is none, the place of one in digits.

    Args:
        questions: the data set's questions, all splits.
        split: which to judge.
        given: question id -> answer. Ids may lack `test-` (the split) where the data set's own ids
            have it before their owners' numbers.
        allow_missing: count questions without an answer as wrong.

    Raises:
        InputError: the split has no questions, answers are of unknown questions, or some are missing.
    """
    table = tabled(questions).in_split(split)
    ids: list[str] = table.column("question_id").to_pylist()
    if not ids:
        raise InputError(f"The data set has no questions in its split {split!r}.")
    found = _by_known_id(ids, split, given, tabled(questions).column("question_id").to_pylist())
    missing = [name for name in ids if name not in found]
    if missing and not allow_missing:
        raise InputError(
            f"{len(missing):,} of the {len(ids):,} questions in {split!r} have no prediction, the first: "
            f"{shown(map(repr, missing))}. With --allow-missing they count as wrong."
        )
    strange = 0
    judged = list[Answered]()
    columns = (table.column(name).to_pylist() for name in ("tags", "answer", "answer_index"))
    for name, tags, answer, place, choices in zip(ids, *columns, _choices(table), strict=True):
        answered = found.get(name)
        right = False
        if answered is not None and place == OPEN_ENDED:
            right = str(answered) == answer
        elif answered is not None:
            chosen = _chosen(answered, choices)
            strange += chosen is None
            right = chosen in {place, answer}
        judged.append(
            Answered(question_id=name, tags=tuple(tags), answer=answer, given=answered, right=right)
        )
    return AnsweredSplit(split=split, questions=judged, missing=len(missing), strange=strange)


def _choices(table: Sequence[Question]) -> Iterator[Sequence[str]]:
    columns = (tabled(table).column(name).to_pylist() for name in ("candidates", "clip_ids"))
    for candidates, clip_ids in zip(*columns, strict=True):
        yield candidates or clip_ids


def _chosen(given: Given, choices: Sequence[str]) -> Given | None:
    """The chosen text, or the chosen place where a number was given; None if it is none of them."""
    if isinstance(given, str):
        if given in choices:
            return given
        if not (given.isascii() and given.isdecimal() and len(given) < 10):
            return None
        given = int(given)
    return given if 0 <= given < len(choices) else None


def _by_known_id(
    ids: Sequence[str], split: Split, given: Mapping[str, Given], every: Sequence[str]
) -> dict[str, Given]:
    known = set(ids)
    found, unknown = dict[str, Given](), list[str]()
    for name, answer in given.items():
        full = name if name in known else f"{split}-{name}"
        if full not in known:
            unknown.append(name)
        elif full in found:
            raise InputError(f"Both {full!r} and {full.removeprefix(f'{split}-')!r} are answered.")
        else:
            found[full] = answer
    if unknown:
        elsewhere = len(set(unknown) & set(every))
        hint = f" {elsewhere:,} of them are of another split: --split." if elsewhere else ""
        raise InputError(
            f"{len(unknown):,} of the {len(given):,} predictions are of questions that {split!r} does not "
            f"have: {shown(map(repr, unknown))}.{hint}"
        )
    return found
