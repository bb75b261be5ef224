"""The command `extract` on videos of one's own, and what it says when it is asked for the impossible."""

import csv
import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.numbered_videos import encode
from cache_schema import open_store
from cache_schema.errors import VideoDistillError
from pipelines.cli import app

DEMO = ("--encoder", "demo", "--frames", "4", "--workers", "0", "--device", "cpu")


def run(*words, code=0):
    """Calls the command here: a process of its own would load torch each time."""
    result = CliRunner().invoke(app, ["extract", *map(str, words)])
    if isinstance(result.exception, VideoDistillError):
        assert result.exception.exit_code == code, result.exception
        return str(result.exception)
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    (folder / "sub").mkdir()
    encode(folder / "a.mp4", 20)
    encode(folder / "sub" / "b.mkv", 20)
    (folder / "broken.mp4").write_bytes(b"no video" * 99)
    return folder


def test_a_folder_of_videos_becomes_a_store(videos, tmp_path):
    store, status = tmp_path / "s", tmp_path / "status.json"
    planned = run(videos, "--out", store, *DEMO, "--dry-run")
    assert "3 of 3 clips to extract" in planned
    assert "on cpu" in planned
    assert not store.exists()

    printed = run(videos, "--out", store, *DEMO, "--status", status, code=1)
    assert "failed: broken: not_a_video" in printed
    opened = open_store(store)
    assert sorted(opened.manifest()["clip_id"].to_pylist()) == ["a", "broken", "sub/b"]
    assert opened.outcome("sub/b").source_path == "sub/b.mkv"
    with (tmp_path / "s.failures.csv").open(newline="") as file:
        assert [row["clip_id"] for row in csv.DictReader(file)] == ["broken"]
    document = json.loads(status.read_text())
    assert (document["state"], document["done"], document["failed"]) == ("ended", 2, 1)
    assert document["exit_code"] == 1

    encode(videos / "broken.mp4", 20)
    try:
        assert "0 of 3 clips" in run(videos, "--out", store, *DEMO, "--dry-run")
        run(videos, "--out", store, *DEMO, "--retry-failed")
    finally:
        (videos / "broken.mp4").write_bytes(b"no video" * 99)
    assert open_store(store).outcome("broken").reason == ""


def test_single_videos_and_lists(videos, tmp_path):
    run(videos / "a.mp4", videos / "sub" / "b.mkv", "--out", tmp_path / "s", *DEMO)
    assert sorted(open_store(tmp_path / "s").manifest()["clip_id"].to_pylist()) == ["a", "b"]
    (videos / "list.csv").write_text("clip_id,path,start_s,end_s\nfirst,a.mp4,0,1\n")
    run(videos / "list.csv", "--out", tmp_path / "t", *DEMO)
    assert open_store(tmp_path / "t").outcome("first").end_s == 1.0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "Name a data set"),
        (("none.mp4", "--out", "s"), "no file or folder none.mp4"),
        (("demo", "none.mp4"), "no file or folder"),
        (("demmo",), "Did you mean 'demo'"),
        (("demo", "--out", "s"), "named with --store"),
        (("VIDEOS",), "need --out STORE"),
        (("VIDEOS", "--out", "s"), "Name an encoder for these videos"),
        (("VIDEOS", "--out", "s", "--encoder", "demo", "--store", "t"), "are for data sets"),
        (("VIDEOS", "--out", "s", "--encoder", "ViT-B-32", "--weights", "w.pt"), "no weights file"),
        (("VIDEOS", "--out", "s", "--encoder", "ViT-B-32", "--weights", "none"), "open_clip knows"),
        (("VIDEOS", "--out", "s", *DEMO, "--backend", "x"), "--backend is 'x'"),
        (("VIDEOS", "--out", "s", *DEMO, "--device", "gpu"), "--device is 'gpu'"),
        (("VIDEOS", "--out", "s", *DEMO, "--slurm-set", "jobs=2"), "without --slurm"),
        (("VIDEOS", "--out", "s", *DEMO, "--slurm", "--scheduler", "tcp://x:1"), "give one"),
        (("VIDEOS", "--out", "s", *DEMO, "--slurm", "--slurm-set", "time=x"), "HH:MM:SS"),
        (("VIDEOS", "--out", "s", *DEMO, "--status", "none/x.json"), "no such folder"),
    ],
)
def test_what_cannot_be_done_is_said(words, message, videos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message in run(*(videos if word == "VIDEOS" else word for word in words), code=2)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_called_like_a_data_set_is_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("demo").mkdir()
    assert "'demo' is a data set too" in run("demo", code=2)


def test_a_dry_run_prints_the_script_of_a_slurm_job(videos, tmp_path):
    words = ("--slurm", "--slurm-set", "partition=gpu", "--slurm-set", "gpus=1", "--dry-run")
    printed = run(videos, "--out", tmp_path / "s", "--encoder", "demo", *words)
    assert "#SBATCH -p gpu" in printed
    assert "on cuda" in printed
    assert "distributed.cli.dask_worker" in printed


def test_weights_are_fetched_by_their_tag(videos, tmp_path, monkeypatch):
    """No hub is asked: what open_clip's own function returns is taken, and its errors are told."""
    import open_clip

    from extract.weights_download import fetched_weights

    file = tmp_path / "w.safetensors"
    asked = []
    monkeypatch.setattr(
        open_clip, "download_pretrained", lambda cfg: asked.append(cfg) or str(file)
    )
    assert fetched_weights("ViT-B-32", "laion2b_s34b_b79k") == file
    assert "laion2b" in asked[0]["hf_hub"].lower()

    def offline(_cfg):
        raise ConnectionError("no route to the hub\nand more")

    monkeypatch.setattr(open_clip, "download_pretrained", offline)
    words = ("--encoder", "ViT-B-32", "--weights", "laion2b_s34b_b79k")
    printed = run(videos, "--out", tmp_path / "s", *words, code=2)
    assert "no route to the hub" in printed
    assert "--weights FILE --tag laion2b_s34b_b79k" in printed


def test_weights_are_not_fetched_where_nothing_is_extracted(videos, tmp_path, monkeypatch):
    import huggingface_hub
    import open_clip

    def fetch(_cfg):
        raise AssertionError("weights were fetched")

    monkeypatch.setattr(open_clip, "download_pretrained", fetch)
    words = ("--out", tmp_path / "s", "--encoder", "ViT-B-32", "--frames", "4", "--weights")
    (tmp_path / "empty").mkdir()
    assert "no video below" in run(tmp_path / "empty", *words, "laion2b_s34b_b79k", code=2)
    assert "trained with QuickGELU" in run(videos, *words, "openai", code=2)

    asked, cached = [], tmp_path / "w.safetensors"
    cached.write_bytes(b"weights")
    files = {}
    monkeypatch.setattr(
        huggingface_hub, "try_to_load_from_cache", lambda *at: asked.append(at) or files.get(at)
    )
    told = run(videos, *words, "laion2b_s34b_b79k", "--dry-run")
    assert "would fetch the weights laion2b_s34b_b79k of ViT-B-32 first" in told
    assert {repo for repo, _ in asked} == {"laion/CLIP-ViT-B-32-laion2B-s34B-b79K"}
    assert [name.rpartition(".")[2] for _, name in asked] == ["safetensors", "bin"]
    files[asked[-1]] = str(cached)
    told = run(videos, *words, "laion2b_s34b_b79k", "--dry-run")
    assert "3 of 3 clips to extract" in told
    assert {path.name for path in tmp_path.iterdir()} == {"empty", "w.safetensors"}


def test_help_does_not_load_what_the_work_needs():
    import subprocess

    code = "import sys, pipelines.cli; print({'torch', 'dask', 'av'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
