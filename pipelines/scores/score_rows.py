"""The rows of a score: a share of right answers, of all questions or of those with a tag."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal

from pipelines.scores.answered import Answered

Unit = Literal["share", "squared error", "rank"]
ALL: Final = "all"
"""Key of the row over all questions."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreRow:
    """One number."""

    key: str
    """For programs: `all`, a tag (`type:exists`), or what else is counted."""
    label: str
    """For people."""
    value: float | None
    """None where there are no questions."""
    questions: int
    """How many questions it is over."""
    unit: Unit = "share"


@dataclass(frozen=True, kw_only=True, slots=True)
class TagSection:
    """A break-down by the tags of one kind; a question counts in each tag that it has."""

    kind: str
    title: str
    order: tuple[str, ...] = ()
    """Tags in the order of their report; those of the questions that are not named follow."""
    fold: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Tags that are counted as others."""


def share(key: str, label: str, answered: Sequence[Answered]) -> ScoreRow:
    """The share of right answers."""
    right = sum(question.right for question in answered)
    value = right / len(answered) if answered else None
    return ScoreRow(key=key, label=label, value=value, questions=len(answered))


def section_rows(section: TagSection, answered: Sequence[Answered]) -> Iterator[ScoreRow]:
    """One row per tag."""
    for value, places in members(section, [question.tags for question in answered]).items():
        yield share(f"{section.kind}:{value}", value, [answered[place] for place in places])


def members(section: TagSection, tags: Iterable[Sequence[str]]) -> dict[str, list[int]]:
    """The places of the questions that have each tag of a section, from all questions' tags."""
    prefix = f"{section.kind}:"
    found: dict[str, list[int]] = {tag: [] for tag in section.order}
    for place, named in enumerate(tags):
        values = [tag.removeprefix(prefix) for tag in named if tag.startswith(prefix)]
        for value in dict.fromkeys(section.fold.get(value, value) for value in values):
            found.setdefault(value, []).append(place)
    return found
