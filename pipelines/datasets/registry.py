"""The data sets that are known by name, and what each must be able to say."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cache_schema import Clip, Question
from cache_schema.errors import InputError

Spans = list[tuple[float, float]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Annotations:
    """A data set in neutral form."""

    clips: list[Clip]
    questions: list[Question]
    evidence: dict[str, Spans] = field(default_factory=dict)
    """Question id -> where the answer shows, in seconds; evaluation only, empty if unknown."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Dataset:
    """One data set: where its files belong and how to read them."""

    name: str
    folder: str
    """Its folder under `data/`; data sets that share videos share it, and so the feature store."""
    about: str
    """One line for people."""
    wanted: str
    """What to put where, and where its owners offer it; shown when files are missing."""
    read: Callable[[Path], Annotations]
    """Reads the annotation files under the data set's folder; InputError where one is missing."""


def known() -> dict[str, Dataset]:
    """Every data set by name."""
    from pipelines.datasets import agqa, custom
    from pipelines.datasets.demo import adapter

    return {d.name: d for d in (adapter.DEMO, adapter.DEMO_SHORTCUT, agqa.AGQA, custom.CUSTOM)}


def find(name: str) -> Dataset:
    """The data set of that name.

    Raises:
        InputError: There is none; the message lists the known ones and the closest match.
    """
    datasets = known()
    if name in datasets:
        return datasets[name]
    close = difflib.get_close_matches(name, datasets, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    listed = "\n".join(f"  {d.name:15} {d.about}" for d in datasets.values())
    raise InputError(f"There is no data set {name!r}.{hint} The known ones:\n{listed}")


def require_videos(dataset: Dataset, clips: list[Clip], root: Path) -> None:
    """Refuse to start when most of a data set is not there.

    A few missing files are each reported as a failed clip; none at all is a wrong folder.

    Raises:
        InputError: Not one clip's video exists.
    """
    if clips and any(clip.path.exists() for clip in clips):
        return
    raise InputError(
        f"None of the {len(clips)} videos of {dataset.name!r} is there; the first was looked for at "
        f"{clips[0].path if clips else root}.\n{dataset.wanted.format(root=root)}"
    )
