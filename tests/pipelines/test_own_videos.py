import pytest

from cache_schema import InputError
from pipelines.own_videos import own_videos


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "v"
    for name in ("b.mp4", "a.MKV", "sub/c.webm", "sub/a.mp4", "sub/notes.txt", ".hidden.mp4",
                 ".cache/d.mp4"):  # fmt: skip
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return root


def ids(found):
    return [clip.clip_id for clip in found.clips]


def test_a_folder_is_searched_by_suffix(folder):
    found = own_videos([folder])
    assert ids(found) == ["a", "b", "sub/a", "sub/c"]
    assert found.root == folder
    assert [clip.path for clip in found.clips] == [
        folder / "a.MKV", folder / "b.mp4", folder / "sub/a.mp4", folder / "sub/c.webm"
    ]  # fmt: skip


def test_named_videos_have_the_ids_that_their_folder_gives_them(folder):
    assert ids(own_videos([folder / "b.mp4", folder / "a.MKV"])) == ["b", "a"]
    assert ids(own_videos([folder / "sub" / "notes.txt"])) == ["notes"]


def test_one_video_named_twice_is_one_clip(folder, monkeypatch):
    monkeypatch.chdir(folder)
    from pathlib import Path

    assert ids(own_videos([folder / "b.mp4", Path("b.mp4"), folder / "b.mp4"])) == ["b"]


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (["a.mp4"], ["a.MKV", "a.mp4", "b", "sub/a", "sub/c"]),
        (["sub/a.avi"], ["a", "b", "sub/a.avi", "sub/a.mp4", "sub/c"]),
    ],
    ids=["beside", "below"],
)
def test_ids_that_would_be_equal_keep_their_suffix(folder, more, expected):
    for name in more:
        (folder / name).write_bytes(b"")
    assert ids(own_videos([folder])) == expected


def test_two_folders_with_equal_names_are_told_apart(folder):
    assert ids(own_videos([folder / "sub", folder / "a.MKV"])) == ["sub/a.mp4", "c", "a.MKV"]


def test_names_that_no_id_may_have(tmp_path):
    for name in (b"x\ny.mp4", b"\xff.mp4", "ü.mp4".encode()):
        (tmp_path / "v").mkdir(exist_ok=True)
        import os

        with open(os.path.join(os.fsencode(tmp_path / "v"), name), "wb"):  # noqa: PTH118, PTH123
            pass
    assert sorted(ids(own_videos([tmp_path / "v"]))) == ["%FF", "x%0Ay", "ü"]


def test_lists_bring_their_own_ids(folder):
    (folder / "list.csv").write_text(
        "clip_id,path,start_s,end_s\none,sub/a.mp4,0,1.5\ntwo,sub/a.mp4,1.5,\n"
    )
    found = own_videos([folder / "list.csv", folder / "b.mp4"])
    assert ids(found) == ["one", "two", "b"]
    assert (found.clips[0].end_s, found.clips[1].start_s) == (1.5, 1.5)
    (folder / "list.csv").write_text("clip_id,path,start_s,end_s\nb,sub/a.mp4,,\n")
    with pytest.raises(InputError, match="'b' comes twice"):
        own_videos([folder / "list.csv", folder / "b.mp4"])
    for content, message in (
        ("id,path\n", "header"),
        ("clip_id,path,start_s,end_s\nb,sub/a.mp4,-1,\n", r"row 1\.start_s"),
    ):
        (folder / "list.csv").write_text(content)
        with pytest.raises(InputError, match=message):
            own_videos([folder / "list.csv"])


def test_a_folder_without_videos_says_what_was_looked_for(tmp_path):
    with pytest.raises(InputError, match=r"no video below .*\.mp4"):
        own_videos([tmp_path])


def test_links(folder, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "x.mp4").write_bytes(b"")
    (other / "back").symlink_to(folder)
    (folder / "linked").symlink_to(other)
    assert "linked/x" not in ids(own_videos([folder]))
    assert ids(own_videos([folder], follow_links=True)).count("linked/x") == 1
    (folder / "named.mp4").symlink_to(other / "x.mp4")
    assert other in own_videos([folder / "named.mp4"]).extra_roots
