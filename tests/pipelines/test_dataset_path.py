"""Data sets in their own formats, with real videos, through `make extract`, `train` and `evaluate`."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cache_schema import open_questions, open_store
from pipelines.cli import app
from pipelines.datasets.demo.encoder_files import CONFIG_PATH, WEIGHTS_PATH
from pipelines.datasets.demo.generate import generate, video_path
from pipelines.datasets.registry import find
from pipelines.prepared import prepare

PROJECT = Path(__file__).parents[2]
ENCODER = f"--model demo-clip --weights {WEIGHTS_PATH} --model-config {CONFIG_PATH}"
FRAMES = 12
PRESET = """
[train]
steps = 2
clips_per_batch = 2
warmup_steps = 1
validate_every = 2
[train.model]
selected = 2
sampling_blocks = 1
refinement_blocks = 1
heads = 4
[runs.videodistill]
[runs.mean_frame]
method = "mean_frame"
"""
FIRST_OF_SPLIT = {"train": 1, "val": 1201, "test": 1451}
"""MSVD numbers its videos by split."""


def make(
    target: str, dataset: str, root: Path, home: Path, arguments: str = "", code: int = 0
) -> str:
    """Run a target of the Makefile with this interpreter; make has its own exit code for failures."""
    ready = home / "ready"
    ready.touch()
    done = subprocess.run(
        [
            "make",
            "--silent",
            target,
            f"DATASET={dataset}",
            f"DATA_ROOT={root}",
            f"READY={ready}",
            f"RUN={sys.executable} -c 'from pipelines.cli import main; main()'",
            f"ARGS=--home {home} {arguments}",
        ],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=200,
        env=os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"},
        check=False,
    )
    printed = done.stdout + done.stderr
    assert done.returncode == (2 if code else 0), printed
    assert f"Error {code}" in printed or not code, printed
    assert "Traceback" not in printed
    return printed


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("rendered")
    generate(root, 7, {"train": 2, "val": 1, "test": 1}, workers=1)
    return root


@pytest.fixture
def msvd(rendered: Path, tmp_path: Path) -> Path:
    """The rendered videos and questions as MSVD-QA's owners would hand them out."""
    root = tmp_path / "videos of msvd"
    (root / "videos").mkdir(parents=True)
    mapping, number = [], 0
    for split, first in FIRST_OF_SPLIT.items():
        videos, rows = dict[str, int](), []
        for line in (
            (rendered / "annotations" / f"questions_{split}.jsonl").read_text().splitlines()
        ):
            row = json.loads(line)
            video = videos.setdefault(row["video_id"], first + len(videos))
            number += 1
            rows.append(
                {
                    "answer": row["answer"],
                    "id": number,
                    "question": row["question"],
                    "video_id": video,
                }
            )
        for name, video in videos.items():
            mapping.append(f"-{name}_5_15 vid{video}\n")
            # Converted since: the owners' are .avi.
            shutil.copyfile(video_path(rendered, name), root / "videos" / f"-{name}_5_15.mp4")
        (root / f"{split}_qa.json").write_text(json.dumps(rows))
    (root / "youtube_mapping.txt").write_text("".join(mapping))
    return root  # fmt: skip


def test_msvd_qa_from_its_files_to_numbers(msvd: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "tiny.toml").write_text(PRESET)
    printed = make("extract", "msvd-qa", msvd, home, f"{ENCODER} --frames {FRAMES} --workers 0")
    assert "4 extracted, 0 failed" in printed
    assert not (home / "data").exists()
    (path,) = (p.parent for p in (home / "stores" / "msvd").glob("*/zarr.json"))
    store = open_store(path)
    assert sorted(store.clip_ids) == ["vid1", "vid1201", "vid1451", "vid2"]
    assert store.identity.frames == FRAMES

    asked = sum(len(json.loads((msvd / f"{s}_qa.json").read_text())) for s in FIRST_OF_SPLIT)
    made = prepare(find("msvd-qa"), msvd)
    assert (made.clips, made.questions) == (4, asked)
    assert len(open_questions(msvd / "prepared" / "msvd-qa" / "questions.parquet")) == asked

    preset = f"--preset {home / 'tiny.toml'}"
    assert "videodistill: best validation accuracy" in make("train", "msvd-qa", msvd, home, preset)
    assert "Test accuracy on msvd-qa" in make("evaluate", "msvd-qa", msvd, home, preset)
    summary = json.loads((home / "runs" / "msvd-qa" / "summary.json").read_text())
    tested = len(json.loads((msvd / "test_qa.json").read_text()))
    assert summary["questions"]["core"] == tested
    assert sum(t["questions"] for t in summary["per_type"].values()) == tested
    assert set(summary["accuracy"]) == {
        "videodistill", "mean_frame", "majority", "majority_all"
    }  # fmt: skip

    main_runs = home / "runs" / "msvd-qa"
    scored = json.loads(
        command("score", "msvd-qa", main_runs / "mean_frame" / "predictions_test.parquet", "--json",
                "--data-root", msvd)
    )  # fmt: skip
    accuracy = scored["sections"][""][0]["value"]
    assert accuracy == pytest.approx(summary["accuracy"]["mean_frame"], abs=1e-4)
    ablation(home, msvd)
    assert json.loads((main_runs / "summary.json").read_text()) == summary


def ablation(home: Path, msvd: Path) -> None:
    """Table 4 of the data set: trained, evaluated and reported in a folder of its own."""
    where = ("msvd-qa", "--home", home, "--data-root", msvd, "--preset", "table4")
    small = (
        "steps=2 clips_per_batch=2 warmup_steps=1 validate_every=2 model.selected=2 model.heads=4"
    )
    changes = [word for change in small.split() for word in ("--set", change)]
    command("train", *where, *changes)
    assert "a-baseline" in command("evaluate", *where, *changes)
    command("report", *where, *changes)
    folder = home / "runs" / "msvd-qa" / "table4"
    variants = {path.parent.name for path in folder.glob("*/predictions_test.parquet")}
    assert variants == {
        "a-baseline", "b-uniform-sampling", "c-soft-sampling", "d-without-refinement",
        "e-cross-attention", "videodistill",
    }  # fmt: skip
    assert set(json.loads((folder / "summary.json").read_text())["accuracy"]) == {
        *variants,
        "majority",
        "majority_all",
    }
    assert (folder / "report.html").is_file()


def command(*words: object) -> str:
    """Run the command line in this process."""
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.slow
def test_webvid_from_its_files_to_a_ranking(rendered: Path, tmp_path: Path) -> None:
    root, home = tmp_path / "webvid", tmp_path / "home"
    home.mkdir()
    (home / "tiny.toml").write_text(PRESET.partition("[runs.mean_frame]")[0])
    lines = dict[str, list[str]](train=[], val=[])
    for number, path in enumerate(sorted((rendered / "videos").iterdir())):
        folder = f"00000{number}_000050"
        (root / "videos" / folder).mkdir(parents=True)
        shutil.copyfile(path, root / "videos" / folder / f"00{number}.mp4")
        line = (
            f'00{number},"Shapes, drifting: {number}",{number},{folder},PT00H00M10S,http://none\n'
        )
        lines["train" if number < 2 else "val"].append(line)
    header = "videoid,name,page_idx,page_dir,duration,contentUrl\n"
    for split, rows in lines.items():
        (root / f"results_2M_{split}.csv").write_text(header + "".join(rows))
    printed = make("extract", "webvid", root, home, f"{ENCODER} --frames 4 --workers 0")
    assert "4 extracted, 0 failed" in printed
    assert "encoded 4 distinct sentences" in printed

    # Hidden words are told from the text tower of the encoder that the store was made with.
    preset = f"--preset {home / 'tiny.toml'} --set task=pretrain"
    printed = make("pretrain", "webvid", root, home, preset)
    assert "videodistill: best validation accuracy" in printed
    curves = (home / "runs" / "webvid" / "videodistill" / "curves.jsonl").read_text()
    losses = {key for line in curves.splitlines() for key in json.loads(line)}
    assert {"loss_matching", "loss_contrastive", "loss_masked_words"} <= losses
    printed = make("evaluate", "webvid", root, home, preset)
    assert "4 pairs of a caption and a clip" in printed
    assert "Val retrieval on webvid" in printed
    found = json.loads((home / "runs" / "webvid" / "summary.json").read_text())["retrieval"]
    assert (found["queries"], found["clips"]) == (2, 2)
    assert found["runs"]["videodistill"]["R@5"] == 1


def test_make_with_nothing_there_says_what_to_put_where(tmp_path: Path) -> None:
    printed = make("extract", "agqa", tmp_path / "none", tmp_path, code=2)
    assert str(tmp_path / "none" / "train_balanced.txt") in printed
    assert "AGQA project page" in printed
    assert "licence" in printed
    assert "49.2 GB" in printed
