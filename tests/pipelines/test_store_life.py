"""A store's life on the command line: damaged and repaired, compacted, pinned, collected."""

import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from benchmarks.numbered_videos import encode
from cache_schema import Clip, InputError, StoreWriter, open_store, verify_store
from extract.encoder_spec import EncoderSpec
from extract.job import JobOptions, run_extraction
from pipelines.cli import app
from pipelines.datasets.demo.encoder_files import CONFIG_PATH, WEIGHTS_PATH
from pipelines.store_life_commands import seconds_of

SPEC = EncoderSpec(model="demo-clip", weights=WEIGHTS_PATH, model_config=CONFIG_PATH)
PATCH, CLS = "seg-000000/patch/c.0.0.0.0", "seg-000000/cls/c.0.0.0"


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data")
    for name, frames in (("short", 4), ("long", 40)):
        encode(root / f"{name}.mp4", frames)
    return root


@pytest.fixture(scope="module")
def pristine(videos: Path, tmp_path_factory) -> Path:
    """A store of three extracted clips, one of them a part of a video."""
    clips = [Clip(clip_id=name, path=videos / f"{name}.mp4") for name in ("short", "long")]
    part = Clip(clip_id="part", path=videos / "long.mp4", start_s=0.4, end_s=1.2)
    store = tmp_path_factory.mktemp("stores") / "first"
    options = JobOptions(root=videos, decoders=1)
    run_extraction([*clips, part], store, SPEC, frames=6, workers=0, options=options)
    return store


@pytest.fixture
def store(pristine: Path, tmp_path: Path) -> Path:
    shutil.copytree(pristine, tmp_path / "store")
    return tmp_path / "store"


def run(*words: object, code: int = 0) -> str:
    done: Result = CliRunner().invoke(app, ["store", *map(str, words)])
    assert done.exit_code == code, (done.output, done.exception)
    return done.stdout


def contents(path: Path) -> tuple[object, ...]:
    store = open_store(path)
    ids = store.clip_ids
    outcomes = [store.outcome(clip_id).to_json() for clip_id in ids]
    return ids, outcomes, store.read_cls(ids).tobytes(), store.read_patches(ids).tobytes()


def test_lost_features_are_extracted_again(store: Path, pristine: Path, videos: Path):
    for name in (PATCH, CLS, "manifest/CURRENT", "seg-000000/patch/zarr.json"):
        (store / name).write_bytes(b"")
    planned = run("repair", store, "--dry-run", code=1)
    assert "not repaired: " + CLS in planned
    assert (store / CLS).stat().st_size == 0
    printed = run("repair", store, "--videos", videos)
    assert "sound again" in printed
    assert contents(store) == contents(pristine)
    assert {finding.code for finding in verify_store(store)} == {"temporary"}
    # The same features came out, so the files are the same, and nothing else is left of it.
    assert (store / CLS).read_bytes() == (pristine / CLS).read_bytes()
    assert [path.name for path in store.parent.iterdir() if "lost" in path.name] == []


def test_a_copy_brings_everything_back_and_a_script_can_read_what_was_done(
    store: Path, pristine: Path
):
    (store / PATCH).unlink()
    (store / "commits/000000.000000.json").write_bytes(b"{}")
    told = json.loads(run("repair", store, "--json", code=1))
    assert [step["action"] for step in told["done"]] == ["rewrite"]
    assert len(told["left"]) == 1
    told = json.loads(run("repair", store, "--from", pristine, "--json"))
    assert [(step["action"], step["place"]) for step in told["done"]] == [("restore", PATCH)]
    assert told["left"] == []
    assert contents(store) == contents(pristine)


def test_what_nobody_has_can_be_dropped(store: Path):
    (store / PATCH).unlink()
    run("repair", store, "--drop")
    assert len(open_store(store)) == 2
    assert json.loads(run("verify", store, "--json"))["sound"]


def test_sources_exclude_each_other(store: Path, videos: Path):
    done = CliRunner().invoke(
        app, ["store", "repair", str(store), "--from", "x", "--videos", str(videos)]
    )
    assert isinstance(done.exception, InputError)


def test_compact_shows_what_a_killed_job_has_left(store: Path):
    opened = open_store(store)
    with StoreWriter(store, opened.identity) as writer:
        claim = writer.claim(["again"])
        outcome = opened.outcome("long").to_json() | {"clip_id": "again"}
        cls, patch = opened.read_cls(["long"]), opened.read_patches(["long"])
        writer.write_block(claim, [type(opened.outcome("long")).from_json(outcome)], cls, patch)
    assert json.loads(run("compact", store, "--json"))["clips"] == 4
    assert "version 2, 4 clips" in run("compact", store)
    np.testing.assert_array_equal(open_store(store).read_patches(["again"]), patch)


def test_collecting_spares_pinned_versions(store: Path):
    (store / PATCH).unlink()
    run("pin", store, "paper", "--note", "table 2")
    assert json.loads(run("pins", store, "--json"))[0]["version"] == 1
    assert "table 2" in run("pins", store)
    run("repair", store, "--drop", code=1)
    then = time.time() - 8 * 86400
    (store / "claims/.tmp-old").write_bytes(b"four")
    for file in store.rglob("*"):
        if file.is_file():
            os.utime(file, (then, then))
    planned = run("gc", store, "--dry-run")
    assert "would be removed: 1 temporary" in planned
    assert (store / "claims/.tmp-old").exists()
    assert json.loads(run("gc", store, "--older-than", "9d", "--json"))["garbage"] == []
    assert "versions kept: 1, 2" in run("gc", store)
    run("unpin", store, "paper")
    told = json.loads(run("gc", store, "--json"))
    assert {item["place"] for item in told["garbage"]} >= {"manifest/v000001.json"}
    assert told["kept_versions"] == [2]
    assert json.loads(run("verify", store, "--json"))["findings"] == []


@pytest.mark.parametrize(("text", "seconds"), [("7d", 604800), ("90m", 5400), ("0s", 0)])
def test_ages(text: str, seconds: float):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["7", "d", "-1d", "1.5h", "1w", ""])
def test_what_is_no_age(text: str):
    with pytest.raises(InputError, match="as in 7d"):
        seconds_of(text)
