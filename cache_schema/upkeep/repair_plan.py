"""What a repair will do, or has done, file by file, and what it cannot do."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

Action = Literal["rewrite", "restore", "set-aside", "fold", "replace", "move", "drop"]
"""What is done about a damaged file.

rewrite: metadata or a record is derived anew; restore: the bytes that were lost are put back;
set-aside: a file that nothing can bring back, and nothing needs, is taken out of the way; fold: the
manifest is made anew from the commits; replace: a clip gets the source's features, in a new block;
move: a clip whose block cannot be restored takes its own, sound features to a new block; drop: a clip
is marked as failed.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class RepairStep:
    """One thing to do."""

    action: Action
    place: str
    """File concerned, below the store's root."""
    why: str
    """What is wrong with it."""
    clip_ids: tuple[str, ...] = ()
    """Clips concerned."""
    content: Callable[[], bytes] | None = field(default=None, repr=False, compare=False)
    """Makes the file's new content, for rewrite and restore."""

    def __str__(self) -> str:
        clips = f" (clip {', '.join(map(repr, self.clip_ids))})" if self.clip_ids else ""
        return f"{self.action}: {self.place}{clips}: {self.why}"

    def to_json(self) -> dict[str, object]:
        """Returns the step as plain JSON values."""
        return {
            "action": self.action,
            "place": self.place,
            "why": self.why,
            "clip_ids": list(self.clip_ids),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Unrepaired:
    """Damage that stays."""

    place: str
    why: str
    """What is wrong, and what would help."""
    clip_ids: tuple[str, ...] = ()

    def __str__(self) -> str:
        clips = f" (clip {', '.join(map(repr, self.clip_ids))})" if self.clip_ids else ""
        return f"not repaired: {self.place}{clips}: {self.why}"


@dataclass(frozen=True, kw_only=True, slots=True)
class RepairPlan:
    """A repair before it starts."""

    location: str
    steps: tuple[RepairStep, ...]
    """In the order in which they are taken."""
    left: tuple[Unrepaired, ...]

    @property
    def damaged_clips(self) -> tuple[str, ...]:
        """Clips whose features have to come from elsewhere: from another store, or a new extraction."""
        ids = {clip_id for step in self.steps for clip_id in step.clip_ids}
        return tuple(sorted(ids | {clip_id for item in self.left for clip_id in item.clip_ids}))

    def to_json(self) -> dict[str, object]:
        """Returns the plan as plain JSON values."""
        left: list[Mapping[str, object]] = [
            {"place": item.place, "why": item.why, "clip_ids": list(item.clip_ids)}
            for item in self.left
        ]
        return {
            "location": self.location,
            "steps": [step.to_json() for step in self.steps],
            "left": left,
        }
