"""Retrieval ranks against a slow count, ties and ids included."""

import numpy as np
import pytest

from cache_schema import Caption
from cache_schema.errors import InputError
from pipelines.datasets.annotations import Annotations
from pipelines.datasets.registry import find
from pipelines.scores.retrieval import ranks, retrieval_rows
from pipelines.scores.score_report import score

CAPTIONS = [
    Caption(caption_id=f"ret{n}", clip_id=clip, text="t", split="test")
    for n, clip in enumerate(["v1", "v0", "v1"])
]
SCORES = np.array([[0.9, 0.1], [0.8, 0.2], [0.5, 0.5]])
"""Gallery: v1, v0. Ranks 1, 2, and one and a half, for the third's two videos are level."""


def test_ranks_are_counted_one_by_one():
    rng = np.random.default_rng(5)
    scores = rng.integers(0, 6, (40, 30)).astype(np.float32)
    right = rng.integers(0, 30, 40)
    for row, place, found in zip(scores, right, ranks(scores, right), strict=True):
        places = [1 + n for n, value in enumerate(sorted(row, reverse=True)) if value == row[place]]
        assert found == sum(places) / len(places)


def test_published_numbers(tmp_path):
    np.save(tmp_path / "s.npy", SCORES)
    rows = {row.key: row.value for row in retrieval_rows(CAPTIONS, tmp_path / "s.npy")}
    assert rows == {"R@1": 1 / 3, "R@5": 1.0, "R@10": 1.0, "MdR": 1.5, "MnR": 1.5}


def test_named_scores_may_stand_in_any_order(tmp_path):
    path = tmp_path / "s.npz"
    order = [2, 0, 1]
    np.savez(
        path,
        scores=SCORES[order][:, ::-1],
        caption_ids=[CAPTIONS[n].caption_id for n in order],
        clip_ids=["v0", "v1"],
    )
    np.save(tmp_path / "s.npy", SCORES)
    assert retrieval_rows(CAPTIONS, path) == retrieval_rows(CAPTIONS, tmp_path / "s.npy")


def test_the_score_of_the_data_set(tmp_path):
    np.save(tmp_path / "s.npy", SCORES)
    found = Annotations(clips=[], questions=[], captions=CAPTIONS)
    report = score(find("msrvtt-retrieval"), found, tmp_path / "s.npy")
    assert (report.value("MdR"), report.questions) == (1.5, 3)
    with pytest.raises(InputError, match="whole matrix"):
        score(find("msrvtt-retrieval"), found, tmp_path / "s.npy", compat=True)


NAMED = {"caption_ids": ["ret0", "ret1", "ret2"], "clip_ids": ["v1", "v0"]}
WRONG = {
    "shape": ({"scores": SCORES.T} | NAMED, r"float64 \[2, 3\]; wanted are floats \[3, 2\]"),
    "not finite": ({"scores": SCORES * np.nan} | NAMED, "not finite"),
    "whole numbers": ({"scores": SCORES.astype(int)} | NAMED, "wanted are floats"),
    "no scores": (NAMED, "'scores' is wanted"),
    "no ids": ({"scores": SCORES, "clip_ids": ["v1", "v0"]}, "lacks 'caption_ids'"),
    "other ids": ({"scores": SCORES} | NAMED | {"clip_ids": ["v1", "v9"]}, "'v0', 'v9'"),
    "an id twice": (
        {"scores": SCORES} | NAMED | {"clip_ids": ["v1", "v1"]},
        "1 different ids of 2",
    ),
    "objects": ({"scores": np.array([[None]])} | NAMED, "not an array of numbers"),
}


@pytest.mark.parametrize(("parts", "message"), WRONG.values(), ids=WRONG)
def test_wrong_files_are_refused(tmp_path, parts, message):
    path = tmp_path / "s.npz"
    np.savez(path, **parts)
    with pytest.raises(InputError, match=message):
        retrieval_rows(CAPTIONS, path)


def test_files_that_are_no_arrays_are_refused(tmp_path):
    with pytest.raises(InputError, match="no file of scores"):
        retrieval_rows(CAPTIONS, tmp_path / "absent.npy")
    (tmp_path / "s.npy").write_bytes(b"not numpy")
    with pytest.raises(InputError, match="not an array of numbers"):
        retrieval_rows(CAPTIONS, tmp_path / "s.npy")
    (tmp_path / "s.txt").write_text("1 2")
    with pytest.raises(InputError, match=r"no \.npy or \.npz"):
        retrieval_rows(CAPTIONS, tmp_path / "s.txt")
