"""Captions as questions, and as choices between two clips."""

import numpy as np
import pytest

from cache_schema import Caption
from cache_schema.errors import InputError
from cache_schema.tables.caption_table import open_captions, write_captions
from train.caption_pairs import caption_questions, told_apart


def make(count: int, clips: int, texts: int, split="val") -> list[Caption]:
    return [
        Caption(
            caption_id=f"c{n}",
            clip_id=f"clip{n % clips}",
            text=f"text {n % texts}",
            split=split,
            tags=("kind:x",),
        )
        for n in range(count)
    ]


def test_a_caption_is_a_question_for_its_clip(tmp_path):
    captions = make(6, 3, 6)
    write_captions(tmp_path / "captions.parquet", captions)
    for source in (captions, open_captions(tmp_path / "captions.parquet")):
        questions = list(caption_questions(source))
        assert [q.question_id for q in questions] == [c.caption_id for c in captions]
        assert [(q.clip_id, q.question, q.answer) for q in questions] == [
            (c.clip_id, c.text, c.clip_id) for c in captions
        ]
        assert {(q.split, q.tags, q.answer_index) for q in questions} == {("val", ("kind:x",), -1)}


def test_told_apart_asks_between_the_own_clip_and_one_that_differs():
    captions = caption_questions(make(40, 8, 20))
    choices = list(told_apart(captions, seed=1))
    own = {c.question_id: c for c in captions}
    said = {(c.clip_id, c.question) for c in captions}
    assert len(choices) > 30
    for choice in choices:
        right, wrong = (
            choice.clip_ids[choice.answer_index],
            choice.clip_ids[1 - choice.answer_index],
        )
        assert right == own[choice.question_id].clip_id == choice.answer
        assert wrong != right
        assert choice.question == own[choice.question_id].question
        assert any(clip == wrong and text != choice.question for clip, text in said)
    places = np.mean([choice.answer_index for choice in choices])
    assert 0.2 < places < 0.8
    assert choices == list(told_apart(captions, seed=1))
    assert choices != list(told_apart(captions, seed=2))


@pytest.mark.parametrize(("clips", "texts"), [(1, 5), (5, 1)])
def test_nothing_to_tell_apart_is_refused(clips, texts):
    with pytest.raises(InputError, match="about one clip or say the same"):
        told_apart(caption_questions(make(5, clips, texts)), seed=1)
