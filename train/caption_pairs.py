"""Captions as questions: pairs to pretrain on, and choices between two clips to validate with."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cache_schema.errors import InputError
from cache_schema.tables.caption_table import CAPTION_FORM, Caption, CaptionTable
from cache_schema.tables.question_table import OPEN_ENDED, QUESTION_FORM, QuestionTable


def caption_questions(captions: Sequence[Caption]) -> QuestionTable:
    """Returns a question per caption: which clip does this sentence describe?

    Its text is the caption, its answer the clip's id; columns are copied, no row is made.
    """
    rows = len(captions)
    if isinstance(captions, CaptionTable):
        source = captions.column
    else:

        def source(name: str) -> pa.ChunkedArray:
            values = [getattr(caption, name) for caption in captions]
            return pa.chunked_array([pa.array(values, CAPTION_FORM.schema.field(name).type)])

    def column(name: str) -> pa.ChunkedArray:
        kind = QUESTION_FORM.schema.field(name).type
        if name in _SAME:
            return source(_SAME[name])
        value: object = OPEN_ENDED if name == "answer_index" else []
        return pa.chunked_array([pa.repeat(pa.scalar(value, kind), rows)])

    return QuestionTable(QUESTION_FORM, column, rows)


_SAME = {
    "question_id": "caption_id",
    "clip_id": "clip_id",
    "question": "text",
    "answer": "clip_id",
    "tags": "tags",
    "split": "split",
}
"""Column of a question -> the caption's column that it is."""


def told_apart(captions: QuestionTable, seed: int) -> QuestionTable:
    """Returns choices between each caption's clip and the clip of a caption that says otherwise.

    The other clip is drawn once, by the seed; the right one is first or second at random. Captions
    whose draw found nothing else to say are left out.

    Raises:
        InputError: all captions are about one clip, or say the same.
    """
    generator = np.random.default_rng(seed)
    rows = len(captions)
    order = generator.permutation(rows)
    partner = np.empty(rows, np.int64)
    partner[order] = np.roll(order, 1)  # each caption's is the next in a random ring: never itself
    clip, text = captions.column("clip_id"), captions.column("question")
    differs = pc.and_(
        pc.not_equal(clip, clip.take(pa.array(partner))),
        pc.not_equal(text, text.take(pa.array(partner))),
    )
    kept = np.flatnonzero(differs.to_numpy())
    if not len(kept):
        raise InputError(
            f"The {rows} captions to validate with are about one clip or say the same: whether a caption "
            "is matched cannot be seen. Give more captions to the split `val`."
        )
    own = clip.take(pa.array(kept)).combine_chunks()
    other = clip.take(pa.array(partner[kept])).combine_chunks()
    second = generator.random(len(kept)) < 0.5
    first_clip = pc.if_else(pa.array(second), other, own)
    last_clip = pc.if_else(pa.array(second), own, other)
    interleaved = pa.concat_arrays([first_clip, last_clip]).take(
        pa.array(np.arange(2 * len(kept)).reshape(2, -1).T.reshape(-1))
    )
    made = {
        "clip_id": first_clip,
        "clip_ids": pa.ListArray.from_arrays(
            pa.array(np.arange(0, 2 * len(kept) + 1, 2, dtype=np.int32)), interleaved
        ),
        "answer_index": pa.array(second.astype(np.int32)),
    }
    below = captions.take(kept)

    def column(name: str) -> pa.ChunkedArray:
        return pa.chunked_array([made[name]]) if name in made else below.column(name)

    return QuestionTable(QUESTION_FORM, column, len(kept))
