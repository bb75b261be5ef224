"""The commands take a store's URL wherever they take its path."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cache_schema import open_store
from pipelines.datasets.demo.encoder_files import CONFIG_PATH, WEIGHTS_PATH
from pipelines.datasets.demo.generate import generate

ENCODER = ("--model", "demo-clip", "--weights", str(WEIGHTS_PATH), "--model-config", str(CONFIG_PATH))  # fmt: skip
PRESET = """
[train]
steps = 2
clips_per_batch = 2
warmup_steps = 1
validate_every = 1
[train.model]
selected = 4
sampling_blocks = 1
refinement_blocks = 1
heads = 4
[runs.videodistill]
"""


def run(*words: str, code: int = 0) -> str:
    """Starts the real program in a process of its own; returns all that it printed."""
    program = (sys.executable, "-c", "from pipelines.cli import main; main()")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    done = subprocess.run(
        [*program, *words],
        capture_output=True,
        text=True,
        timeout=200,
        env=environment,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A data set of six short videos with their questions."""
    demo, custom = tmp_path / "rendered", tmp_path / "home" / "data" / "custom"
    generate(demo, 5, {"train": 2, "val": 2, "test": 2}, workers=1)
    custom.mkdir(parents=True)
    (demo / "videos").rename(custom / "videos")
    names = sorted(path.stem for path in (custom / "videos").iterdir())
    clips = ["clip_id,path,start_s,end_s", *(f"{name},videos/{name}.mp4,," for name in names)]
    (custom / "clips.csv").write_text("\n".join(clips) + "\n")
    rows = []
    for split in ("train", "val", "test"):
        for line in (demo / "annotations" / f"questions_{split}.jsonl").read_text().splitlines():
            row = json.loads(line)
            rows.append(row | {"clip_id": row["video_id"], "split": split})
    (custom / "questions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "home" / "tiny.toml").write_text(PRESET)
    return tmp_path / "home"


@pytest.mark.slow
def test_a_store_at_a_url_is_extracted_looked_at_and_trained_from(
    home: Path, bucket_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = ("--home", str(home), "--store", bucket_url)
    planned = run("extract", "custom", *there, *ENCODER, "--frames", "8", "--dry-run")
    assert f"{bucket_url}: 6 of 6 clips" in planned
    assert "6 extracted, 0 failed" in run(
        "extract", "custom", *there, *ENCODER, "--frames", "8", "--workers", "0"
    )
    assert len(open_store(bucket_url)) == 6
    # Of a remote store, what belongs to it and is no feature stays in the workspace.
    name = bucket_url.rpartition("/")[2]
    local = {path.name for path in (home / "stores" / "custom").iterdir()}
    assert local == {f"{name}.sentences"}
    assert json.loads(run("store", "info", bucket_url, "--json"))["clips"] == 6
    assert "sound" in run("store", "verify", bucket_url)
    run("train", "custom", *there, "--preset", str(home / "tiny.toml"))
    assert (home / "runs" / "custom" / "videodistill").is_dir()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-and-private")
    refused = run("store", "info", bucket_url, code=1)
    assert "check the credentials in the environment" in refused
    assert "wrong-and-private" not in refused


def test_a_url_that_lacks_a_slash_is_an_error_of_the_input() -> None:
    assert "Give it as text" in run("store", "info", "s3:/bucket/store", code=2)
