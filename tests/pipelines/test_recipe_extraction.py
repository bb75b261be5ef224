"""A recipe makes the same store again, byte for byte, and says why where it does not."""

import dataclasses
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.numbered_videos import encode
from cache_schema import Clip, IdentityMismatch, InputError, open_store
from cache_schema.sharing.recipe import Recipe, recipe_of, write_recipe
from extract.encoder_spec import EncoderSpec
from extract.job import JobOptions, run_extraction
from pipelines.cli import app
from pipelines.datasets.demo.encoder_files import CONFIG_PATH, WEIGHTS_PATH
from pipelines.recipe_extraction import recipe_job

FRAMES = 6
SPEC = EncoderSpec(model="demo-clip", weights=WEIGHTS_PATH, model_config=CONFIG_PATH)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A data set's folder: two videos, and a file that is none."""
    root = tmp_path_factory.mktemp("data")
    (root / "videos").mkdir()
    for name, frames in (("short", 4), ("long", 40)):
        encode(root / "videos" / f"{name}.mp4", frames)
    (root / "videos" / "broken.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + b"no video" * 99)
    return root


@pytest.fixture(scope="module")
def recipe(data: Path, tmp_path_factory) -> Recipe:
    """What the first team sends: of four clips, one cut out of a video, and one that failed."""
    clips = [
        Clip(clip_id=name, path=data / "videos" / f"{name}.mp4")
        for name in ("short", "long", "broken")
    ]
    part = Clip(clip_id="part", path=data / "videos" / "long.mp4", start_s=0.4, end_s=1.2)
    store = tmp_path_factory.mktemp("stores") / "first"
    options = JobOptions(root=data, decoders=1)
    run_extraction([*clips, part], store, SPEC, frames=FRAMES, workers=0, options=options)
    return recipe_of(open_store(store))


def test_the_recipe_tells_bounds_paths_and_failures(recipe: Recipe):
    clips = {clip.clip_id: clip for clip in recipe.clips}
    assert (clips["part"].start_s, clips["part"].end_s) == (0.4, 1.2)
    assert clips["part"].source_path == "videos/long.mp4"
    assert clips["broken"].reason
    assert clips["long"].start_s is None


@pytest.mark.parametrize("layout", ["as the recipe names them", "by their names alone"])
def test_the_same_store_comes_out_again(recipe: Recipe, data: Path, tmp_path: Path, layout: str):
    videos = tmp_path / "copy"
    target = videos / "videos" if layout.startswith("as") else videos
    shutil.copytree(data / "videos", target)
    job = recipe_job(recipe, videos)
    assert (job.absent, job.other_size) == ((), ())
    assert len(job.plan(str(tmp_path / "again")).pending) == 4
    assert not (tmp_path / "again").exists()
    tally, check = job.run(str(tmp_path / "again"), workers=0)
    assert (tally.ok, tally.failed) == (3, 1)
    assert check.same
    assert check.equal == 4


def test_other_and_absent_videos_are_named(recipe: Recipe, data: Path, tmp_path: Path):
    shutil.copytree(data / "videos", tmp_path / "videos")
    encode(tmp_path / "videos" / "long.mp4", 41)
    (tmp_path / "videos" / "short.mp4").unlink()
    job = recipe_job(recipe, tmp_path)
    assert job.absent == ("short",)
    assert job.other_size == ("long", "part")
    _, check = job.run(str(tmp_path / "again"), workers=0)
    assert not check.same
    assert check.other_videos == ("long", "part")
    assert check.missing == ("short",)
    assert check.equal == 1


def test_another_encoder_is_refused_before_anything_is_done(recipe: Recipe, data: Path):
    wrong = dataclasses.replace(
        recipe, identity=dataclasses.replace(recipe.identity, weights_sha256="0" * 64)
    )
    with pytest.raises(IdentityMismatch, match="weights_sha256: '0000"):
        recipe_job(wrong, data)
    policy = dataclasses.replace(recipe.identity, frame_policy="every-second-1")
    with pytest.raises(IdentityMismatch, match="frame_policy"):
        recipe_job(dataclasses.replace(recipe, identity=policy), data)


def test_the_command_extracts_compares_and_asks_for_what_it_needs(
    recipe: Recipe, data: Path, tmp_path: Path
):
    file, out = tmp_path / "recipe.json", tmp_path / "again"
    write_recipe(file, recipe)
    ask = ["extract", "--recipe", str(file), "--videos", str(data), "--out", str(out)]
    ask += ["--workers", "0"]
    planned = CliRunner().invoke(app, [*ask, "--dry-run"])
    assert (planned.exit_code, out.exists()) == (0, False)
    assert "4 of 4 clips to extract" in planned.output
    done = CliRunner().invoke(app, ask)
    assert done.exit_code == 0, done.output
    assert "the same: 4 clips equal" in done.output
    (tmp_path / "fewer").mkdir()
    shutil.copy(data / "videos" / "short.mp4", tmp_path / "fewer")
    fewer = [*ask[:4], str(tmp_path / "fewer"), "--out", str(tmp_path / "fewer.store"), *ask[7:]]
    again = CliRunner().invoke(app, fewer)
    assert again.exit_code == 1
    assert "3 clips have no video in" in again.output
    for words in (["demo", *ask[1:]], ask[1:5]):
        refused = CliRunner().invoke(app, ["extract", *words])
        assert isinstance(refused.exception, InputError)


def test_a_reduced_variant_is_extracted_as_such(recipe: Recipe, data: Path):
    reduced = dataclasses.replace(recipe, identity=recipe.identity.reduced(pool=(2, 2), int8=True))
    options = recipe_job(reduced, data).options
    assert (options.pool, options.int8) == ((2, 2), True)


def test_what_is_lacking_is_said(recipe: Recipe, data: Path, tmp_path: Path):
    other = dataclasses.replace(recipe, identity=dataclasses.replace(recipe.identity, encoder="B"))
    with pytest.raises(InputError, match="give its weights with --weights; their SHA-256 is 93dd"):
        recipe_job(other, data)
    with pytest.raises(InputError, match="no folder of videos"):
        recipe_job(recipe, tmp_path / "nothing")
    with pytest.raises(InputError, match="None of the recipe's 4 clips"):
        recipe_job(recipe, tmp_path)
    with pytest.raises(InputError, match="The decoder is 'vlc'"):
        recipe_job(recipe, data, backend="vlc")
