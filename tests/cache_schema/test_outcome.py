"""Outcomes: complete when ok, explained when failed, and the same after a trip through JSON."""

import json
import pickle
from collections.abc import Callable

import numpy as np
import pytest

from cache_schema import ClipOutcome, SchemaError, Status

Make = Callable[..., ClipOutcome]


def test_json_round_trip(ok_outcome: Make, failed_outcome: Make) -> None:
    for outcome in (ok_outcome("c1"), failed_outcome("c2")):
        copy = ClipOutcome.from_json(json.loads(json.dumps(outcome.to_json())))
        assert copy == outcome
        assert hash(copy) == hash(outcome)
        assert pickle.loads(pickle.dumps(outcome)) == outcome  # noqa: S301
        assert copy.status is outcome.status
    assert ok_outcome("c1") != ok_outcome("c2")
    assert ok_outcome("c1") != "c1"


def test_arrays_are_owned_and_typed(ok_outcome: Make) -> None:
    times = np.arange(5, dtype=np.float32)
    outcome = ok_outcome("c1", frame_time=times, frame_index=[0, 1, 2, 3, 4])
    times[0] = 9
    assert outcome.frame_index.dtype == np.int32
    assert outcome.frame_time.dtype == np.float64
    assert outcome.frame_time[0] == 0
    with pytest.raises(ValueError, match="read-only"):
        outcome.frame_time[0] = 1


def test_foreign_text_becomes_one_short_line() -> None:
    detail = "first\nsecond\x1b[31m  \u202ethird " + "x" * 400
    outcome = ClipOutcome(clip_id="c", status=Status.FAILED, reason="io", detail=detail)
    assert outcome.detail.startswith("first second [31m third xxx")
    assert len(outcome.detail) == 300
    assert outcome.detail.endswith("...")


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"status": "maybe"}, "status"),
        ({"reason": "io"}, "reason"),
        ({"frame_time": None}, "frame_time"),
        ({"frame_index": np.arange(4)}, "frame_time"),
        ({"frame_index": np.array([0.5] * 5)}, "frame_index"),
        ({"frame_index": [-1, 0, 1, 2, 3]}, "frame_index"),
        ({"frame_time": [0.0, 1.0, 0.5, 2.0, 3.0]}, "frame_time"),
        ({"frame_time": [0.0, 1.0, float("nan"), 2.0, 3.0]}, "frame_time"),
        ({"distinct_frames": 0}, "distinct_frames"),
        ({"distinct_frames": 6}, "distinct_frames"),
        ({"source_path": "/data/a.mp4"}, "source_path"),
        ({"source_path": "../a.mp4"}, "source_path"),
        ({"source_digest": "xyz"}, "source_digest"),
        ({"source_bytes": -1}, "source_bytes"),
        ({"clip_id": "a\tb"}, "clip_id"),
        ({"start_s": -0.5}, "start_s"),
        ({"start_s": "1"}, "start_s"),
        ({"end_s": 0.0}, "end_s"),
        ({"end_s": float("inf")}, "end_s"),
        ({"start_s": 2.0, "end_s": 2.0}, "end_s"),
    ],
)
def test_broken_outcomes_are_refused(
    ok_outcome: Make, changes: dict[str, object], path: str
) -> None:
    with pytest.raises(SchemaError) as caught:
        ok_outcome(**{"clip_id": "c1", **changes})
    assert path in {found for found, _ in caught.value.problems}


@pytest.mark.parametrize(
    "unknown", [{"frame_index": None}, {"frame_index": None, "frame_time": None}], ids=len
)
def test_an_import_may_not_know_its_frames(ok_outcome: Make, unknown: dict[str, None]) -> None:
    outcome = ok_outcome("c1", **unknown)
    assert ClipOutcome.from_json(json.loads(json.dumps(outcome.to_json()))) == outcome


def test_a_failure_needs_a_reason() -> None:
    with pytest.raises(SchemaError, match="reason: is missing"):
        ClipOutcome(clip_id="c", status=Status.FAILED)
    with pytest.raises(SchemaError, match="reason"):
        ClipOutcome(clip_id="c", status=Status.FAILED, reason="Disk is full")


def test_other_json_is_no_outcome(ok_outcome: Make) -> None:
    with pytest.raises(SchemaError, match="not an object"):
        ClipOutcome.from_json([])
    document = {**ok_outcome("c").to_json(), "colour": 1}
    del document["backend"]
    with pytest.raises(SchemaError) as caught:
        ClipOutcome.from_json(document)
    assert {path for path, _ in caught.value.problems} == {"backend", "colour"}


def test_bounds_are_kept_and_absent_ones_leave_no_trace(ok_outcome: Make) -> None:
    whole = ok_outcome("c").to_json()
    assert not {"start_s", "end_s"} & whole.keys()
    for bounds in ({"start_s": 1.5}, {"end_s": 4.0}, {"start_s": 0.0, "end_s": 4.0}):
        outcome = ok_outcome("c", **bounds)
        assert outcome.to_json() == whole | bounds
        assert ClipOutcome.from_json(json.loads(json.dumps(outcome.to_json()))) == outcome
        assert outcome != ok_outcome("c")
    row = {"start_s": None, "end_s": None}
    assert ClipOutcome.from_json(whole | row) == ok_outcome("c")
