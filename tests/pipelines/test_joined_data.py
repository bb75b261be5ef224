"""Several data sets read as one give of each what it gives alone."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from cache_schema import FeatureIdentity, Preprocess, SentenceTable
from cache_schema.errors import IdentityMismatch, InputError
from cache_schema.tables.question_table import Question, tabled
from pipelines.joined_data import (
    JoinedFeatures,
    joined_features,
    joined_questions,
    joined_sentences,
)

FRAMES, PATCHES, DIM = 5, 2, 4
IDENTITY = FeatureIdentity(
    encoder="made-up",
    weights_sha256="0" * 64,
    quick_gelu=False,
    token_space="joint",  # noqa: S106 -- no password
    dim=DIM,
    patches=PATCHES,
    frames=FRAMES,
    precision="fp32",
    preprocess=Preprocess(
        image_size=32,
        resize_mode="shortest",
        interpolation="bicubic",
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
    ),
)


@dataclass
class MemoryStore:
    clip_ids: list[str]
    version: int
    identity: FeatureIdentity = IDENTITY

    def __post_init__(self):
        shape = (len(self.clip_ids), FRAMES, 1 + PATCHES, DIM)
        self.features = (
            np.random.default_rng(self.version).standard_normal(shape).astype(np.float16)
        )

    def _rows(self, clip_ids):
        return self.features[[self.clip_ids.index(clip) for clip in clip_ids]]

    def read_cls(self, clip_ids):
        return self._rows(clip_ids)[:, :, 0]

    def read_patches(self, clip_ids, frames=None):
        whole = self._rows(clip_ids)[:, :, 1:]
        return whole if frames is None else whole[np.arange(len(whole))[:, None], frames]

    def frame_times(self, clip_id):
        return np.arange(FRAMES) + 10.0 * self.version + self.clip_ids.index(clip_id)


STORES = [MemoryStore(["a", "b", "c"], 1), MemoryStore(["x", "y"], 7)]
MIXED = ["y", "a", "x", "c", "a"]
OWN = [STORES[1], STORES[0], STORES[1], STORES[0], STORES[0]]


def test_clips_of_all_stores_are_read_in_the_order_asked():
    joined = JoinedFeatures(STORES)
    assert list(joined.clip_ids) == ["a", "b", "c", "x", "y"]
    assert (joined.version, joined.identity) == (7, IDENTITY)
    frames = np.random.default_rng(2).integers(0, FRAMES, (len(MIXED), 2))
    for row, (clip, own) in enumerate(zip(MIXED, OWN, strict=True)):
        assert (joined.read_cls(MIXED)[row] == own.read_cls([clip])[0]).all()
        assert (joined.read_patches(MIXED)[row] == own.read_patches([clip])[0]).all()
        some = own.read_patches([clip], frames[[row]])[0]
        assert (joined.read_patches(MIXED, frames)[row] == some).all()
        assert (joined.frame_times(clip) == own.frame_times(clip)).all()


def test_features_go_where_they_are_wanted():
    joined = JoinedFeatures(STORES)
    cls, patch = (
        np.empty((5, FRAMES, DIM), np.float16),
        np.empty((5, FRAMES, PATCHES, DIM), np.float16),
    )
    assert joined.read_cls(MIXED, out=cls) is cls
    assert joined.read_patches(MIXED, out=patch) is patch
    assert (cls == joined.read_cls(MIXED)).all()
    assert (patch == joined.read_patches(MIXED)).all()


def test_one_store_is_itself():
    assert joined_features(STORES[:1]) is STORES[0]


def test_one_name_for_two_clips_is_refused():
    with pytest.raises(InputError, match=r"1 clips .* \(first: 'b'\)"):
        JoinedFeatures([STORES[0], MemoryStore(["b"], 3)])


def test_features_of_two_kinds_are_refused():
    with pytest.raises(IdentityMismatch, match="precision"):
        JoinedFeatures([STORES[0], MemoryStore(["x"], 3, replace(IDENTITY, precision="bf16"))])


def question(name, clip):
    return Question(question_id=name, clip_id=clip, question="q", answer=clip, split="train")


def test_questions_stand_one_table_after_the_other():
    first, second = [question("1", "a"), question("2", "b")], [question("1", "x")]
    assert list(joined_questions([tabled(first), tabled(second)])) == [*first, *second]


def sentences(*texts, weights="0" * 64):
    features = np.array([[len(text), ord(text[0])] for text in texts], np.float32)
    return SentenceTable(
        texts=texts, features=features, encoder="e", weights_sha256=weights,
        context_length=7, truncated=1,
    )  # fmt: skip


def test_sentences_stand_there_once():
    joined = joined_sentences([sentences("a", "bb"), sentences("bb", "c"), sentences("c", "dd")])
    assert joined.texts == ("a", "bb", "c", "dd")
    assert joined.lookup(["dd", "a"]).tolist() == [[2, ord("d")], [1, ord("a")]]
    with pytest.raises(InputError, match="different encoders"):
        joined_sentences([sentences("a"), sentences("b", weights="1" * 64)])
