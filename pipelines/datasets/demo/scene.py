"""What happens in one demo video: a pure function from a seed to events on a time line."""

from dataclasses import dataclass

import numpy as np

SHAPES = (
    "circle",
    "square",
    "triangle",
    "star",
    "cross",
    "ring",
    "diamond",
    "heart",
    "moon",
    "bolt",
)
COLORS = {
    "red": (222, 36, 36),
    "green": (40, 178, 60),
    "blue": (44, 84, 232),
    "yellow": (244, 222, 44),
    "purple": (150, 52, 196),
    "orange": (250, 136, 24),
    "cyan": (52, 212, 222),
    "white": (244, 244, 244),
}
ACTIONS = (
    "moving left",
    "moving right",
    "rising",
    "falling",
    "spinning",
    "growing",
    "shrinking",
    "staying still",
)
RELATIONS = ("above", "below", "left of", "right of")

FPS = 6
FRAME_SIZE = 96
"""Side of the square picture in pixels."""
EVENTS_PER_VIDEO = 5
PAIRS_PER_VIDEO = 2
SECONDS_RANGE = (40.0, 90.0)
EVENT_SHARE_RANGE = (0.028, 0.055)
"""An event's share of the video: 3 to 5 of 100 evenly spread frames show it."""
SPLIT_CODES = {"train": 1, "val": 2, "test": 3, "encoder": 4}
"""First word of every random seed after the data set's own: the encoder's renders share none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Thing:
    """One coloured shape."""

    shape: str
    color: str

    @property
    def phrase(self) -> str:
        """How a sentence names it: ``red star``."""
        return f"{self.color} {self.shape}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """One thing doing one action for a few percent of the video, perhaps beside a second thing."""

    thing: Thing
    action: str
    start_frame: int
    end_frame: int
    """First frame after the event."""
    companion: Thing | None = None
    relation: str | None = None
    """Where ``thing`` is, seen from its companion; one of `RELATIONS`."""

    @property
    def span(self) -> tuple[float, float]:
        """Start and end in seconds; the end is exclusive."""
        return self.start_frame / FPS, self.end_frame / FPS

    @property
    def length(self) -> int:
        """Number of frames."""
        return self.end_frame - self.start_frame


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """One video: its events in time order, and the seed of everything that is mere background."""

    video_id: str
    frames: int
    events: tuple[Event, ...]
    clutter_seed: tuple[int, ...]

    @property
    def things(self) -> tuple[Thing, ...]:
        """Every coloured shape that is ever shown; no two share a shape or a colour."""
        mains = [event.thing for event in self.events]
        return (*mains, *(e.companion for e in self.events if e.companion is not None))


def sample_scene(seed: int, split: str, index: int) -> Scene:
    """Draw one video's scene.

    Within a video all shapes and all colours differ, so that "the star" and "the red object" each
    name one thing, and every answer is independent of the words of its question.

    Args:
        seed: The data set's seed.
        split: A key of `SPLIT_CODES`.
        index: The video's number within the split.

    Returns:
        The scene, equal for equal arguments on every machine.
    """
    words = (seed, SPLIT_CODES[split], index)
    rng = np.random.default_rng(words)
    frames = int(rng.uniform(*SECONDS_RANGE) * FPS)
    shapes = rng.permutation(SHAPES)
    colors = rng.permutation(list(COLORS))
    things = [Thing(shape=str(s), color=str(c)) for s, c in zip(shapes, colors, strict=False)]
    paired = set(rng.permutation(EVENTS_PER_VIDEO)[:PAIRS_PER_VIDEO].tolist())
    companions = iter(things[EVENTS_PER_VIDEO : EVENTS_PER_VIDEO + PAIRS_PER_VIDEO])
    events = []
    for number, (start, end) in enumerate(_time_line(rng, frames)):
        pair = number in paired
        events.append(
            Event(
                thing=things[number],
                action=str(rng.choice(ACTIONS)),
                start_frame=start,
                end_frame=end,
                companion=next(companions) if pair else None,
                relation=str(rng.choice(RELATIONS)) if pair else None,
            )
        )
    return Scene(
        video_id=f"{split}-{index:04d}", frames=frames, events=tuple(events), clutter_seed=words
    )


def _time_line(rng: np.random.Generator, frames: int) -> list[tuple[int, int]]:
    """Place the events: random lengths, random gaps, in order, none overlapping."""
    lengths = np.round(rng.uniform(*EVENT_SHARE_RANGE, EVENTS_PER_VIDEO) * frames).astype(int)
    # Every gap keeps 1 % of the video, so that two events never share one of 100 sampled frames.
    smallest = int(np.ceil(0.01 * frames)) + 1
    spare = frames - int(lengths.sum()) - smallest * (EVENTS_PER_VIDEO + 1)
    gaps = smallest + np.floor(rng.dirichlet(np.ones(EVENTS_PER_VIDEO + 1)) * spare).astype(int)
    starts = np.cumsum(gaps[:-1]) + np.concatenate([[0], np.cumsum(lengths)[:-1]])
    return [(int(s), int(s + n)) for s, n in zip(starts, lengths, strict=True)]
