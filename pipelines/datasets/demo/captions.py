"""Sentences about one picture of a demo scene, and whether a sentence is true of a picture."""

from dataclasses import dataclass

import numpy as np

from pipelines.datasets.demo.questions import with_article
from pipelines.datasets.demo.scene import Event, Scene, Thing

Claim = tuple[str | None, str | None]
"""The shape and the colour that something is said to have; None where nothing is said."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Caption:
    """A sentence and what it claims: partial descriptions leave a shape or a colour open."""

    text: str
    claims: tuple[Claim, ...]
    """One for every thing that it says is there."""
    relation: str | None = None
    """Where the first claimed thing is, seen from the second."""

    def is_true_of(self, event: Event | None) -> bool:
        """Whether a picture of this event (None: of the clutter alone) shows what is claimed."""
        if event is None:
            return not self.claims
        shown = [event.thing] + ([event.companion] if event.companion is not None else [])
        if not self.claims:
            return False
        if self.relation is not None:
            ordered = [event.thing, event.companion]
            return event.relation == self.relation and all(
                thing is not None and _fits(claim, thing)
                for claim, thing in zip(self.claims, ordered, strict=True)
            )
        return all(any(_fits(claim, thing) for thing in shown) for claim in self.claims)


def _fits(claim: Claim, thing: Thing) -> bool:
    shape, color = claim
    return shape in {None, thing.shape} and color in {None, thing.color}


_FULL = (
    "a {color} {shape}",
    "the {color} {shape}",
    "a picture of a {color} {shape}",
    "the {shape} is {color}",
    "the color of the {shape} is {color}",
    "the shape of the {color} object is a {shape}",
    "there is a {color} {shape} in the video",
)
_SHAPE_ONLY = (
    "the {shape}",
    "a {shape}",
    "there is a {shape}",
    "a {shape} in the video",
    "the color of the {shape}",
)
_COLOR_ONLY = (
    "a {color} object",
    "the {color} object",
    "something {color}",
    "there is a {color} object",
    "the shape of the {color} object",
)
_NOTHING = ("grey clutter", "nothing but grey shapes", "an empty picture", "no object at all")


def describe(rng: np.random.Generator, event: Event | None) -> Caption:
    """A random true sentence about a picture of this event; None is a picture of clutter."""
    if event is None:
        return Caption(text=str(rng.choice(_NOTHING)), claims=())
    thing, other = event.thing, event.companion
    if other is not None and rng.random() < 0.5:
        thing, other = other, thing
    if other is not None and rng.random() < 0.35:
        if thing is event.thing and rng.random() < 0.6:
            text = f"a {thing.phrase} {event.relation} a {other.phrase}"
            claims = ((thing.shape, thing.color), (other.shape, other.color))
            return Caption(text=text, claims=claims, relation=event.relation)
        text = f"a {thing.phrase} and a {other.phrase}"
        return Caption(text=text, claims=((thing.shape, thing.color), (other.shape, other.color)))
    # Colours are learnt within a hundred steps and shapes in a thousand: shapes are said more often.
    kind = rng.random()
    claim: Claim
    if kind < 0.45:
        template, claim = str(rng.choice(_SHAPE_ONLY)), (thing.shape, None)
    elif kind < 0.60:
        template, claim = str(rng.choice(_COLOR_ONLY)), (None, thing.color)
    else:
        template, claim = str(rng.choice(_FULL)), (thing.shape, thing.color)
    text = template.format(shape=thing.shape, color=thing.color)
    return Caption(text=text, claims=(claim,))


def video_caption(scene: Scene) -> str:
    """One sentence about a whole video, its events in order: for pretraining and retrieval."""
    return with_article(", then ".join(f"a {event.thing.phrase}" for event in scene.events))
