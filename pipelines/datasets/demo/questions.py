"""Questions about a demo scene, after AGQA's types, with answers that no question word gives away."""

import re
from dataclasses import dataclass

import numpy as np

from pipelines.datasets.demo.scene import ACTIONS, COLORS, RELATIONS, SHAPES, Event, Scene

LEVELS = {
    "color": "core",
    "shape": "core",
    "existence": "core",
    "object-relation": "hard",
    "relation-action": "hard",
    "object-action": "hard",
    "superlative": "hard",
    "sequencing": "hard",
    "exists": "hard",
    "duration-comparison": "hard",
    "activity-recognition": "hard",
}
"""Every question type and its level. AGQA's `exists` asks for a combination; `existence` for one word."""

WORDINGS = {
    "color": (
        "What color is the {x}?",
        "Which color is the {x}?",
        "What is the color of the {x}?",
        "The {x} has which color?",
        "What color does the {x} have?",
        "Name the color of the {x}.",
        "In what color is the {x} shown?",
        "Tell me the color of the {x}.",
    ),
    "shape": (
        "What shape is the {x} object?",
        "Which shape is the {x} object?",
        "What is the shape of the {x} object?",
        "The {x} object has which shape?",
        "What shape does the {x} object have?",
        "Name the shape of the {x} object.",
        "In what shape is the {x} object shown?",
        "Tell me the shape of the {x} object.",
    ),
    "existence": ("Is there a {x} in the video?", "Does a {x} appear in the video?"),
    "object-relation": ("What shape is beside the {x}?", "Which shape is next to the {x}?"),
    "relation-action": ("Was the {x} {relation} the {y} while {action}?",),
    "object-action": ("Was the {x} {action}?", "Did we see the {x} {action}?"),
    "superlative": ("What was the {most} shape to appear?", "Which shape appeared {most}?"),
    "sequencing": ("Did the {x} appear before or after the {y}?",),
    "exists": ("Is there a {x} in the video?", "Does a {x} appear in the video?"),
    "duration-comparison": ("Was the {x} shown longer than the {y}?",),
    "activity-recognition": ("What is the {x} doing?", "How is the {x} moving?"),
}
"""The wordings of each type. In `demo` they are drawn at random; in `demo-shortcut` they tell on the answer."""

ANSWERS = {
    "color": tuple(COLORS),
    "shape": SHAPES,
    "object-relation": SHAPES,
    "superlative": SHAPES,
    "activity-recognition": ACTIONS,
    "sequencing": ("before", "after"),
}
YES_NO = ("yes", "no")


@dataclass(frozen=True, kw_only=True, slots=True)
class Fact:
    """A question before it is worded: what it asks, the answer, and where in the video it shows."""

    type: str
    blanks: dict[str, str]
    answer: str
    evidence: tuple[Event, ...]


def facts(scene: Scene) -> list[Fact]:
    """Everything that is asked about one scene; answers of each type are balanced over scenes."""
    rng = np.random.default_rng((*scene.clutter_seed, 2))
    makers = (_core_facts, _pair_facts, _action_facts, _time_facts)
    return [fact for make in makers for fact in make(rng, scene)]


def _pick(
    rng: np.random.Generator, events: tuple[Event, ...] | list[Event], count: int
) -> list[Event]:
    return [events[i] for i in rng.permutation(len(events))[:count]]


def _core_facts(rng: np.random.Generator, scene: Scene) -> list[Fact]:
    """Colour and shape of every event's thing, and what is there and what is not, as often."""
    return [
        *(
            Fact(type="color", blanks={"x": e.thing.shape}, answer=e.thing.color, evidence=(e,))
            for e in scene.events
        ),
        *(
            Fact(type="shape", blanks={"x": e.thing.color}, answer=e.thing.shape, evidence=(e,))
            for e in scene.events
        ),
        *_existence_facts(rng, scene),
    ]


def _existence_facts(rng: np.random.Generator, scene: Scene) -> list[Fact]:
    """One shape and one colour that are there, one of each that are not."""
    shown = scene.things
    there = _pick(rng, scene.events, 2)
    gone_shape = str(rng.choice([s for s in SHAPES if all(s != t.shape for t in shown)]))
    gone_color = str(rng.choice([c for c in COLORS if all(c != t.color for t in shown)]))
    asked = (
        (there[0].thing.shape, "yes", (there[0],)),
        (gone_shape, "no", ()),
        (f"{there[1].thing.color} object", "yes", (there[1],)),
        (f"{gone_color} object", "no", ()),
    )
    return [
        Fact(type="existence", blanks={"x": x}, answer=answer, evidence=evidence)
        for x, answer, evidence in asked
    ]


def _pair_facts(rng: np.random.Generator, scene: Scene) -> list[Fact]:
    """What is beside what, and where."""
    pair = _pick(rng, [e for e in scene.events if e.companion is not None], 1)[0]
    if pair.companion is None or pair.relation is None:
        raise ValueError(f"{scene.video_id}: a pair without a companion or a relation")
    relation, holds = _claim(rng, pair.relation, RELATIONS)
    x, y = pair.thing.phrase, pair.companion.phrase
    claim = {"x": x, "y": y, "relation": relation, "action": pair.action}
    return [
        Fact(
            type="object-relation", blanks={"x": x}, answer=pair.companion.shape, evidence=(pair,)
        ),
        Fact(type="relation-action", blanks=claim, answer=holds, evidence=(pair,)),
    ]


def _action_facts(rng: np.random.Generator, scene: Scene) -> list[Fact]:
    """What one thing does, and whether a combination of two words was shown."""
    one, two = _pick(rng, scene.events, 2)
    action, holds = _claim(rng, one.action, ACTIONS)
    shown = bool(rng.random() < 0.5)
    hybrid = one.thing.phrase if shown else f"{one.thing.color} {two.thing.shape}"
    return [
        Fact(
            type="object-action",
            blanks={"x": one.thing.phrase, "action": action},
            answer=holds,
            evidence=(one,),
        ),
        Fact(
            type="exists",
            blanks={"x": hybrid},
            answer="yes" if shown else "no",
            evidence=(one,) if shown else (),
        ),
        Fact(
            type="activity-recognition",
            blanks={"x": one.thing.shape},
            answer=one.action,
            evidence=(one,),
        ),
    ]


def _time_facts(rng: np.random.Generator, scene: Scene) -> list[Fact]:
    """What came first or last, before or after, and what lasted longer."""
    one, two = _pick(rng, scene.events, 2)
    most = str(rng.choice(("first", "last")))
    extreme = scene.events[0 if most == "first" else -1]
    shorter, longer = sorted(_pick(rng, scene.events, 2), key=lambda event: event.length)
    is_longer = bool(rng.random() < 0.5) and longer.length > shorter.length
    left, right = (longer, shorter) if is_longer else (shorter, longer)
    return [
        Fact(
            type="superlative",
            blanks={"most": most},
            answer=extreme.thing.shape,
            evidence=(extreme,),
        ),
        Fact(
            type="sequencing",
            blanks={"x": one.thing.phrase, "y": two.thing.phrase},
            answer="before" if one.start_frame < two.start_frame else "after",
            evidence=(one, two),
        ),
        Fact(
            type="duration-comparison",
            blanks={"x": left.thing.phrase, "y": right.thing.phrase},
            answer="yes" if is_longer else "no",
            evidence=(left, right),
        ),
    ]


def _claim(rng: np.random.Generator, truth: str, choices: tuple[str, ...]) -> tuple[str, str]:
    """A true or a false claim, as likely as not, and whether it holds."""
    if rng.random() < 0.5:
        return truth, "yes"
    return str(rng.choice([c for c in choices if c != truth])), "no"


def word(rng: np.random.Generator, fact: Fact, shortcut: float = 0.0) -> str:
    """Put a fact into words.

    Args:
        rng: Draws the wording.
        fact: What is asked.
        shortcut: Probability that the wording is the one that tells on the answer: answer number
            i of the type always takes wording i (modulo their count). 0 leaves no trace.

    Returns:
        The question.
    """
    wordings = WORDINGS[fact.type]
    telling = ANSWERS.get(fact.type, YES_NO).index(fact.answer) % len(wordings)
    chosen = telling if rng.random() < shortcut else int(rng.integers(len(wordings)))
    return with_article(wordings[chosen].format(**fact.blanks))


def with_article(sentence: str) -> str:
    """The sentence with `an` before vowels: "an orange ring"."""
    return re.sub(r"\ba (?=[aeiou])", "an ", sentence)


def candidates(rng: np.random.Generator, scene: Scene) -> tuple[str, list[str], int, Event]:
    """A five-way choice: which of these things is in the video?

    The four wrong candidates recombine shapes and colours that are shown, so that neither word
    alone gives the answer away.

    Returns:
        The question, the five candidates, the right one's index, the event that shows it.
    """
    event = _pick(rng, scene.events, 1)[0]
    shown = {thing.phrase for thing in scene.things}
    wrong = sorted(
        {f"{a.color} {b.shape}" for a in scene.things for b in scene.things if a is not b} - shown
    )
    chosen = [wrong[i] for i in rng.permutation(len(wrong))[:4]]
    place = int(rng.integers(5))
    chosen.insert(place, event.thing.phrase)
    return (
        "Which of these appears in the video?",
        [with_article(f"a {c}") for c in chosen],
        place,
        event,
    )
