"""Clips and their CSV lists: round trip, and no way out of the root folder."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache_schema import Clip, InputError, SchemaError, read_clips, write_clips

ROOT = Path("/videos")


def _written(tmp_path: Path, *rows: str, header: str = "clip_id,path,start_s,end_s") -> Path:
    path = tmp_path / "clips.csv"
    path.write_text("\n".join([header, *rows]), encoding="utf-8")
    return path


def test_list_round_trip(tmp_path: Path) -> None:
    clips = [
        Clip(clip_id="whole", path=ROOT / "a.mp4"),
        Clip(clip_id='quoted, "and" ünïcode', path=ROOT / "b c/ü,.mp4", start_s=0.1, end_s=1e9),
        Clip(clip_id="from", path=ROOT / "a.mp4", start_s=1.5),
        Clip(clip_id="to", path=ROOT / "a.mp4", end_s=2.0),
    ]
    write_clips(tmp_path / "clips.csv", clips, ROOT)
    assert read_clips(tmp_path / "clips.csv", ROOT) == clips
    moved = read_clips(tmp_path / "clips.csv", Path("/else"))
    assert moved[0].path == Path("/else/a.mp4")


@given(st.floats(0, 1e6), st.floats(1e-6, 1e6))
def test_bounds_survive_exactly(
    tmp_path_factory: pytest.TempPathFactory, start: float, length: float
) -> None:
    end = start + length
    if end <= start:
        return
    path = tmp_path_factory.mktemp("clips") / "clips.csv"
    clip = Clip(clip_id="c", path=ROOT / "a.mp4", start_s=start, end_s=end)
    write_clips(path, [clip], ROOT)
    assert read_clips(path, ROOT) == [clip]


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"clip_id": ""}, "clip_id"),
        ({"clip_id": "a\x00b"}, "clip_id"),
        ({"clip_id": "a\nb"}, "clip_id"),
        ({"clip_id": "a\ud800"}, "clip_id"),
        ({"clip_id": 7}, "clip_id"),
        ({"start_s": -0.1}, "start_s"),
        ({"start_s": float("nan")}, "start_s"),
        ({"end_s": float("inf")}, "end_s"),
        ({"end_s": 0.0}, "end_s"),
        ({"start_s": 2.0, "end_s": 2.0}, "end_s"),
        ({"start_s": 3.0, "end_s": 2.0}, "end_s"),
    ],
)
def test_broken_clips_are_refused(changes: dict[str, object], path: str) -> None:
    with pytest.raises(SchemaError) as caught:
        Clip(**{"clip_id": "c", "path": ROOT / "a.mp4", **changes})
    assert [found for found, _ in caught.value.problems] == [path]


@pytest.mark.parametrize(
    "relative",
    ["/etc/passwd", "../x.mp4", "a/../../x.mp4", "C:\\x.mp4", "\\\\host\\x.mp4", "..\\x.mp4", ""],
)
def test_paths_that_leave_the_root_are_refused(tmp_path: Path, relative: str) -> None:
    with pytest.raises(SchemaError) as caught:
        read_clips(_written(tmp_path, f"c,{relative},,"), ROOT)
    assert [path for path, _ in caught.value.problems] == ["row 1.path"]


def test_writing_a_file_outside_the_root_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match=r"row 1\.path.*absolute"):
        write_clips(tmp_path / "clips.csv", [Clip(clip_id="c", path=Path("/other/a.mp4"))], ROOT)
    assert not (tmp_path / "clips.csv").exists()


def test_all_problems_of_a_list_are_reported(tmp_path: Path) -> None:
    rows = ["a,x.mp4,,", "a,y.mp4,1,soon", "b,x.mp4", ",x.mp4,5,4"]
    with pytest.raises(SchemaError) as caught:
        read_clips(_written(tmp_path, *rows), ROOT)
    paths = [path for path, _ in caught.value.problems]
    assert paths == ["row 2.end_s", "row 3.fields", "row 4.clip_id"]


def test_repeated_ids_are_refused_in_reading_and_writing(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match="'a', already in row 1"):
        read_clips(_written(tmp_path, "a,x.mp4,,", "a,y.mp4,,"), ROOT)
    twice = [Clip(clip_id="a", path=ROOT / "x.mp4")] * 2
    with pytest.raises(SchemaError, match="a second time"):
        write_clips(tmp_path / "out.csv", twice, ROOT)


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no clip list"):
        read_clips(tmp_path / "absent.csv", ROOT)
    with pytest.raises(SchemaError, match="header: is 'id,file'"):
        read_clips(_written(tmp_path, header="id,file"), ROOT)
    (tmp_path / "latin.csv").write_bytes(b"clip_id,path,start_s,end_s\n\xff,a.mp4,,\n")
    with pytest.raises(InputError, match="UTF-8"):
        read_clips(tmp_path / "latin.csv", ROOT)
    with pytest.raises(SchemaError, match="not CSV"):
        read_clips(_written(tmp_path, 'a,"x.mp4,,'), ROOT)
