"""The demo's questions: true of their scene, balanced, and silent about their answers."""

from collections import Counter, defaultdict

import numpy as np
import pytest

from pipelines.datasets.demo.captions import Caption, describe, video_caption
from pipelines.datasets.demo.questions import (
    ANSWERS,
    LEVELS,
    WORDINGS,
    candidates,
    facts,
    word,
)
from pipelines.datasets.demo.scene import COLORS, SHAPES, Event, Thing, sample_scene

SCENES = [sample_scene(1, "train", i) for i in range(300)]


def _thing(scene, phrase: str) -> Event:
    """The event whose main thing carries these words."""
    words = phrase.split()
    return next(e for e in scene.events if all(w in e.thing.phrase.split() for w in words))


def test_every_type_is_asked_of_every_video():
    for scene in SCENES[:20]:
        assert set(Counter(f.type for f in facts(scene))) == set(LEVELS)


def test_answers_follow_from_the_scene():
    """Answers re-derived from the event list, independently of how the questions were made."""
    for scene in SCENES:
        for fact in facts(scene):
            x = fact.blanks.get("x", "")
            match fact.type:
                case "color":
                    assert fact.answer == _thing(scene, x).thing.color
                case "shape":
                    assert fact.answer == _thing(scene, x).thing.shape
                case "existence":
                    wanted = x.removesuffix(" object")
                    shown = {w for t in scene.things for w in (t.shape, t.color)}
                    assert (wanted in shown) == (fact.answer == "yes")
                case "exists":
                    assert (x in {t.phrase for t in scene.things}) == (fact.answer == "yes")
                case "sequencing":
                    first = (
                        _thing(scene, x).start_frame < _thing(scene, fact.blanks["y"]).start_frame
                    )
                    assert first == (fact.answer == "before")
                case "duration-comparison":
                    longer = _thing(scene, x).length > _thing(scene, fact.blanks["y"]).length
                    assert longer == (fact.answer == "yes")
                case "superlative":
                    extreme = scene.events[0 if fact.blanks["most"] == "first" else -1]
                    assert fact.answer == extreme.thing.shape
                case "activity-recognition":
                    assert fact.answer == _thing(scene, x).action
                case "object-action":
                    assert (_thing(scene, x).action == fact.blanks["action"]) == (
                        fact.answer == "yes"
                    )
                case "object-relation":
                    assert fact.answer == _thing(scene, x).companion.shape
                case "relation-action":
                    holds = _thing(scene, x).relation == fact.blanks["relation"]
                    assert holds == (fact.answer == "yes")


def test_evidence_is_there_unless_the_answer_is_an_absence():
    for scene in SCENES:
        for fact in facts(scene):
            absent = fact.type in {"existence", "exists"} and fact.answer == "no"
            assert bool(fact.evidence) != absent


@pytest.mark.parametrize("kind", [k for k, level in LEVELS.items() if level == "core"])
def test_answers_of_a_type_are_balanced(kind):
    counts = Counter(f.answer for s in SCENES for f in facts(s) if f.type == kind)
    assert max(counts.values()) / counts.total() < 1.35 / len(counts)


def test_question_words_do_not_tell_on_the_answer():
    """The best guess from the full text of a question, learnt on half the videos, is near chance."""
    rng = np.random.default_rng(0)
    seen, right, asked = defaultdict(Counter), 0, 0
    for number, scene in enumerate(SCENES):
        for fact in facts(scene):
            if LEVELS[fact.type] != "core" or fact.type == "existence":
                continue
            text = word(rng, fact)
            if number < 150:
                seen[text][fact.answer] += 1
            elif text in seen:
                right += seen[text].most_common(1)[0][0] == fact.answer
                asked += 1
    assert asked > 500
    assert right / asked < 0.17


@pytest.mark.parametrize("strength", [0.0, 0.85])
def test_the_shortcut_is_as_strong_as_said(strength):
    rng = np.random.default_rng(0)
    telling = asked = 0
    for scene in SCENES:
        for fact in facts(scene):
            if fact.type == "color":
                index = ANSWERS["color"].index(fact.answer) % len(WORDINGS["color"])
                telling += word(rng, fact, strength) == WORDINGS["color"][index].format(
                    **fact.blanks
                )
                asked += 1
    by_chance = (1 - strength) / len(WORDINGS["color"])
    assert telling / asked == pytest.approx(strength + by_chance, abs=0.03)


def test_articles_are_english():
    texts = [word(np.random.default_rng(i), f) for i, s in enumerate(SCENES[:50]) for f in facts(s)]
    assert not [t for t in texts if " a orange" in t]
    assert [t for t in texts if " an orange" in t]


def test_exactly_one_candidate_is_in_the_video():
    for scene in SCENES[:100]:
        _, options, right, event = candidates(np.random.default_rng(1), scene)
        phrases = {t.phrase for t in scene.things}
        shown = [option.split(" ", 1)[1] in phrases for option in options]
        assert shown == [i == right for i in range(5)]
        assert options[right].endswith(event.thing.phrase)


def test_captions_are_true_of_their_own_picture_and_name_what_they_claim():
    rng = np.random.default_rng(0)
    for scene in SCENES[:100]:
        for event in (*scene.events, None):
            caption = describe(rng, event)
            assert caption.is_true_of(event)
            for shape, color in caption.claims:
                assert (shape or color) in caption.text


CIRCLE = Thing(shape="circle", color="red")
STAR = Thing(shape="star", color="blue")


@pytest.mark.parametrize(
    ("claims", "relation", "expected"),
    [
        pytest.param(((None, "red"),), None, True, id="colour of the main thing"),
        pytest.param((("star", None),), None, True, id="shape of the companion"),
        pytest.param((("star", "red"),), None, False, id="words of two things on one"),
        pytest.param(
            (("circle", "red"), ("star", "blue")), "above", True, id="the relation that holds"
        ),
        pytest.param(
            (("star", "blue"), ("circle", "red")), "above", False, id="the relation reversed"
        ),
        pytest.param((("circle", "red"), ("star", "blue")), "below", False, id="another relation"),
        pytest.param((), None, False, id="clutter"),
    ],
)
def test_truth_of_a_caption(claims, relation, expected):
    event = Event(
        thing=CIRCLE, companion=STAR, relation="above", action="rising", start_frame=0, end_frame=9
    )
    assert Caption(text="-", claims=claims, relation=relation).is_true_of(event) is expected


def test_video_captions_name_every_main_thing_in_order():
    caption = video_caption(SCENES[0])
    places = [caption.index(e.thing.phrase) for e in SCENES[0].events]
    assert places == sorted(places)
    assert all(w in (*SHAPES, *COLORS, "a", "then") for w in caption.replace(",", "").split())
