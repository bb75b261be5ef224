"""What holds for every data set: it is known by name, says what it wants, and is refused with reasons."""

import json

import pytest

from cache_schema.errors import InputError
from pipelines.datasets.dataset import Dataset
from pipelines.datasets.description import describe, description_record
from pipelines.datasets.extraction_cost import ENCODERS, costs, describe_costs
from pipelines.datasets.registry import find, known, require_files, require_videos
from pipelines.datasets.seeded_draw import drawn, train_or_val
from pipelines.datasets.video_files import located, without_video

EVERY = list(known().values())


def test_unknown_names_list_the_known_ones_and_the_closest():
    with pytest.raises(
        InputError, match=r"(?s)no data set 'agqaa'. Did you mean 'agqa'.*demo-shortcut"
    ):
        find("agqaa")


def test_names_are_one_each_and_fit_a_command_line():
    assert len(known()) >= 25
    assert all(name == name.lower() and " " not in name for name in known())


@pytest.mark.parametrize("dataset", EVERY, ids=lambda d: d.name)
def test_every_data_set_says_what_belongs_where_and_what_is_there(dataset: Dataset, tmp_path):
    text = describe(dataset, tmp_path)
    assert str(tmp_path) in text
    assert dataset.licence in text
    assert dataset.offered in text
    for file in dataset.files:
        assert file.name in text
        assert file.holds in text
    required = [file for file in dataset.files if not file.optional]
    assert text.count("ABSENT") == len(required) + 1  # the videos too
    assert {f.name for f in dataset.missing(tmp_path)} == {f.name for f in required}
    # One line a fact: what is too wide for a terminal is not read.
    assert max(map(len, text.splitlines())) < 200
    json.dumps(description_record(dataset, tmp_path))


@pytest.mark.parametrize("dataset", EVERY, ids=lambda d: d.name)
def test_absent_files_are_named_with_the_whole_description(dataset: Dataset, tmp_path):
    with pytest.raises(InputError) as caught:
        require_files(dataset, tmp_path)
    assert describe(dataset, tmp_path) in str(caught.value)


def test_data_sets_that_share_videos_share_the_folder_of_the_store():
    folders = {d.name: d.folder for d in EVERY}
    assert folders["msrvtt-qa"] == folders["msrvtt-mc"] == folders["msrvtt-retrieval"]
    assert folders["egomcq"] == folders["egoclip"]
    assert folders["nextqa"] == folders["nextqa-open"] == folders["intentqa"]


@pytest.mark.parametrize("dataset", EVERY, ids=lambda d: d.name)
def test_files_that_data_sets_of_one_folder_read_do_not_take_each_others_names(dataset: Dataset):
    mine = {file.name for file in dataset.files}
    for other in EVERY:
        shared = mine & {file.name for file in other.files}
        if other.folder == dataset.folder and other is not dataset and shared:
            # The same file, not another of the same name.
            holds = {f.name: f.holds for f in (*dataset.files, *other.files)}
            assert all(
                f.holds == holds[f.name] for f in (*dataset.files, *other.files) if f.name in shared
            )


def test_missing_videos_say_what_to_put_where(tmp_path, write_agqa):
    agqa = find("agqa")
    clips = agqa.read(write_agqa(tmp_path)).clips
    with pytest.raises(InputError, match=r"(?s)None of the 1 videos.*AB12C\.mp4.*Charades"):
        require_videos(agqa, clips, tmp_path)
    clips[0].path.parent.mkdir()
    clips[0].path.touch()
    require_videos(agqa, clips, tmp_path)


@pytest.mark.parametrize(
    ("there", "found"),
    [
        pytest.param(["AB12C.mp4", "AB12C.webm"], "AB12C.mp4", id="the owners' ending first"),
        pytest.param(["AB12C.webm", "AB12C.mkv"], "AB12C.mkv", id="then by a fixed order"),
        pytest.param(["AB12C.txt"], "AB12C.mp4", id="no video"),
        pytest.param(["ab12c.mp4"], "AB12C.mp4", id="another case is another video"),
        pytest.param([], "AB12C.mp4", id="nothing"),
    ],
)
def test_a_video_with_another_ending_is_found(tmp_path, write_agqa, there, found):
    read = find("agqa").read(write_agqa(tmp_path))
    (tmp_path / "videos").mkdir()
    for name in there:
        (tmp_path / "videos" / name).touch()
    clips = located(read.clips)
    assert [clip.path.name for clip in clips] == [found]
    assert bool(without_video(clips)) == (found not in there)


def test_the_size_of_a_store_is_the_arithmetic_of_its_identity():
    (cost,) = [c for c in costs(9_600, frames=100) if c.encoder == "ViT-B-32"]
    assert cost.bytes == 9_600 * 100 * 50 * 512 * 2
    assert cost.seconds == pytest.approx(9_600 * 100 / cost.frames_per_s)
    assert "49.2 GB" in describe_costs(9_600)[0]
    assert {e.encoder for e in ENCODERS} >= {"ViT-B-32", "ViT-B-16", "ViT-L-14"}


def test_held_out_videos_are_about_the_share_asked_for_and_never_change():
    names = [f"V{number:05d}" for number in range(5000)]
    held = [name for name in names if train_or_val(name, 10) == "val"]
    assert 400 < len(held) < 600
    assert held[:3] == [n for n in names if drawn(n, 100) < 10][:3]
    # Frozen: another answer would silently be another split.
    assert [drawn(name, 100) for name in ("YSKX3", "video7010", "")] == FROZEN_DRAWS


FROZEN_DRAWS = [13, 68, 79]
