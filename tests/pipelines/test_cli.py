"""The command line as people use it: a frozen surface, clear refusals, and one whole small run."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import pytest
import typer

from pipelines import cli
from pipelines.cli import app
from pipelines.datasets.demo.encoder_files import CONFIG_PATH, WEIGHTS_PATH
from pipelines.datasets.demo.generate import generate

SURFACE = {
    "extract": {
        "--seed", "--home", "--data-root", "--model", "--weights", "--model-config", "--precision", "--frames",
        "--tag", "--token-space", "--tokenizer", "--compile", "--device",
        "--encoder", "--slurm", "--slurm-file", "--slurm-set", "--status",
        "--workers", "--backend", "--scheduler", "--allow-root", "--follow-links", "--retry-failed", "--dry-run",
        "--pool", "--int8", "--recipe", "--videos", "--out", "--store",
    },
    "encoders ls": {"--unsupported", "--frames", "--json"},
    "encoders info": {"--frames", "--json"},
    "frames": {
        "--out", "--frames", "--start", "--end", "--backend", "--tile", "--columns", "--json",
    },
    "train": {
        "--seed", "--home", "--data-root", "--store", "--preset", "--set", "--start-from",
        "--allow-unknown-identity", "--skip-missing", "--min-coverage", "--dry-run",
        "--weights", "--model-config", "--tag", "--tokenizer",
    },
    "pretrain": {
        "--seed", "--home", "--data-root", "--store", "--preset", "--set", "--start-from",
        "--allow-unknown-identity", "--skip-missing", "--min-coverage", "--dry-run",
        "--weights", "--model-config", "--tag", "--tokenizer",
    },
    "evaluate": {
        "--seed", "--home", "--data-root", "--store", "--preset", "--set", "--start-from", "--run",
        "--shortlist", "--skip-missing", "--min-coverage",
        "--weights", "--model-config", "--tag", "--tokenizer",
    },
    "ask": {
        "--choice", "--store", "--top", "--home", "--json",
        "--weights", "--model-config", "--tag", "--tokenizer",
    },
    "report": {
        "--seed", "--home", "--data-root", "--store", "--preset", "--set", "--start-from", "--run",
    },
    "score": {
        "--seed", "--home", "--data-root", "--split", "--allow-missing", "--compat", "--json",
    },
    "table": {"--home", "--data-root", "--markdown", "--json"},
    "demo": {"--seed", "--home"},
    "reproduce": {"--home", "--claims", "--seeds", "--jobs", "--results", "--dry-run"},
    "demo-encoder": {"--folder", "--steps"},
    "data ls": {"--json"},
    "data info": {"--seed", "--home", "--data-root", "--json"},
    "data check": {"--seed", "--home", "--data-root", "--json"},
    "data prepare": {
        "--seed", "--home", "--data-root", "--skip-bad-rows", "--dry-run", "--json",
    },
    "data template": {"--home", "--data-root", "--dry-run"},
    "data make": {"--seed", "--home"},
    "runs ls": {"--json"},
    "runs compare": {"--home", "--data-root", "--json"},
    "store ls": {"--check", "--json"},
    "store info": {"--version", "--json"},
    "store export": {
        "--layout", "--patches", "--dtype", "--features-name", "--numeric-ids", "--dry-run",
        "--json",
    },
    "store import": {
        "--layout", "--origin", "--frames", "--dataset", "--key", "--encoder", "--weights",
        "--quick-gelu", "--token-space", "--precision", "--retry-failed", "--dry-run", "--json",
    },
    "store convert": {"--int8", "--pool", "--dry-run", "--json"},
    "store sentences": {
        "--seed", "--home", "--data-root", "--model", "--weights", "--model-config", "--dry-run",
    },
    "store verify": {"--quick", "--json"},
    "store repair": {
        "--from", "--videos", "--weights", "--model-config", "--tag", "--drop", "--dry-run", "--json",
    },
    "store compact": {"--json"},
    "store gc": {"--older-than", "--dry-run", "--json"},
    "store pin": {"--version", "--note"},
    "store unpin": set(),
    "store pins": {"--json"},
    "store diff": {"--sample", "--json"},
    "store pull": {"--questions", "--split", "--clips", "--dry-run", "--json"},
    "store merge": {"--out", "--dry-run", "--json"},
    "store recipe": {"--out", "--check", "--dry-run", "--json"},
    "store card": {"--out", "--license", "--url", "--dry-run", "--json"},
}  # fmt: skip

ENCODER = (
    "--model",
    "demo-clip",
    "--weights",
    str(WEIGHTS_PATH),
    "--model-config",
    str(CONFIG_PATH),
)

TINY_PRESET = """
[train]
steps = 4
clips_per_batch = 4
warmup_steps = 1
validate_every = 2
[train.model]
selected = 4
sampling_blocks = 1
refinement_blocks = 1
heads = 4
[runs.videodistill]
[runs.uniform]
model.sampler = "uniform"
[runs.language_only]
visual = "static"
[runs.mean_frame]
method = "mean_frame"
[runs.text_only]
method = "text_only"
"""


def run(*words: str, home: Path | None = None, code: int = 0) -> str:
    """Start the real program in a process of its own; returns all that it printed."""
    where = ("--home", str(home)) if home else ()
    program = (sys.executable, "-c", "from pipelines.cli import main; main()")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    done = subprocess.run(
        [*program, *words, *where],
        capture_output=True,
        text=True,
        timeout=200,
        env=environment,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def _commands():
    root = typer.main.get_command(app)
    for name, command in root.commands.items():
        if hasattr(command, "commands"):
            for inner, leaf in command.commands.items():
                yield f"{name} {inner}", leaf
        else:
            yield name, command


def test_the_surface_is_what_people_script_against():
    found = {
        name: {o for p in leaf.params for o in p.opts if o.startswith("--")} - {"--help"}
        for name, leaf in _commands()
    }
    assert found == SURFACE


def test_every_command_and_option_has_a_help_text():
    for name, leaf in _commands():
        assert leaf.help, name
        assert all(getattr(p, "help", None) for p in leaf.params if p.name != "help"), name


def test_help_does_not_load_torch():
    code = (
        "import sys; from typer.testing import CliRunner; from pipelines.cli import app\n"
        "assert CliRunner().invoke(app, ['extract', '--help']).exit_code == 0\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_unknown_data_set_lists_the_known_ones(tmp_path):
    printed = run("extract", "demmo", home=tmp_path, code=2)
    assert "Did you mean 'demo'" in printed
    assert "agqa" in printed


def test_a_data_set_that_is_not_there_says_what_to_put_where(tmp_path):
    printed = run("extract", "agqa", home=tmp_path, code=2)
    assert str(tmp_path / "data" / "agqa" / "train_balanced.txt") in printed
    assert "Charades" in printed


def test_a_dry_run_of_the_demo_renders_nothing(tmp_path):
    run("extract", "demo", "--dry-run", home=tmp_path, code=2)
    assert list(tmp_path.iterdir()) == []


def test_training_without_a_store_says_what_to_run(tmp_path):
    assert "make extract DATASET=custom" in run("train", "custom", home=tmp_path, code=2)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A data set of one's own, made of ten of the demo's videos, one of them broken."""
    root = tmp_path_factory.mktemp("home")
    demo = tmp_path_factory.mktemp("rendered")
    generate(demo, 5, {"train": 6, "val": 2, "test": 2}, workers=1)
    custom = root / "data" / "custom"
    shutil.copytree(demo / "videos", custom / "videos")
    names = sorted(p.stem for p in (custom / "videos").iterdir())
    clips = ["clip_id,path,start_s,end_s", *(f"{n},videos/{n}.mp4,," for n in [*names, "broken"])]
    (custom / "clips.csv").write_text("\n".join(clips) + "\n")
    (custom / "videos" / "broken.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + b"no video" * 99)
    rows = []
    for split in ("train", "val", "test"):
        for line in (demo / "annotations" / f"questions_{split}.jsonl").read_text().splitlines():
            row = json.loads(line)
            rows.append(row | {"clip_id": row["video_id"], "split": split})
    (custom / "questions.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (root / "tiny.toml").write_text(TINY_PRESET)
    return root


def test_from_videos_to_a_report(home):
    planned = run("extract", "custom", "--dry-run", *ENCODER, home=home)
    assert "11 of 11 clips" in planned
    assert not (home / "stores").exists()

    printed = run("extract", "custom", *ENCODER, home=home, code=1)
    assert "10 extracted, 1 failed" in printed
    assert "failed: broken:" in printed
    (failures,) = (home / "stores" / "custom").glob("*.failures.csv")
    assert "broken," in failures.read_text()

    again = run("extract", "custom", *ENCODER, home=home, code=1)
    assert "nothing to do" in again
    assert "0 extracted, 0 failed, 11 skipped (1 failed earlier)" in again

    (store,) = (p.parent for p in (home / "stores" / "custom").glob("*/zarr.json"))
    assert "sound, 0 notices" in run("store", "verify", str(store))
    (store / "seg-000000" / "patch" / ".tmp-left-by-a-kill").touch()
    assert "sound, 1 notices" in run("store", "verify", str(store))
    damaged = store / "seg-000000" / "patch" / "c.0.0.0.0"
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:99] + bytes([whole[99] ^ 1]) + whole[100:])
    assert "c.0.0.0.0" in run("store", "verify", str(store), code=1)
    damaged.write_bytes(whole)
    assert json.loads(run("store", "info", str(store), "--json"))["clips"] == 10
    exported = home / "features.h5"
    assert "10 clips" in run("store", "export", str(store), str(exported), "--dry-run")
    assert not exported.exists()
    run("store", "export", str(store), str(exported))
    with h5py.File(exported) as file:
        assert file["cls_features"].shape == (10, 100, 128)
        assert file.attrs["digest"] in run("store", "info", str(store))

    preset = ("--preset", str(home / "tiny.toml"))
    assert "step 4/4" in run("train", "custom", *preset, home=home)
    assert "nothing to do" in run("train", "custom", *preset, home=home)
    assert "another configuration" in run(
        "train", "custom", *preset, "--set", "lr=0.1", home=home, code=2
    )

    printed = run("evaluate", "custom", *preset, home=home)
    assert "Test accuracy on custom" in printed
    assert "CLIP-cache re-runs" in printed
    assert "nothing to do" in run("evaluate", "custom", *preset, home=home)
    summary = json.loads((home / "runs" / "custom" / "summary.json").read_text())
    assert set(summary["accuracy"]) == {
        "videodistill", "uniform", "language_only", "mean_frame", "text_only", "majority",
        "majority_all"
    }  # fmt: skip
    assert summary["clip_cache_reruns"] == ["text_only"]
    assert summary["questions"]["core"] == 2 * 22
    assert set(summary["seconds"]) == {"extract", "train", "evaluate"}
    assert summary["identity"]["name"] == store.name

    asked = (str(home / "runs/custom/videodistill"), "test-0000", "What color is the star?")
    (told,) = json.loads(run("ask", *asked, "--json", home=home))
    assert (len(told["answers"]), bool(told["frame_times_s"])) == (3, True)

    run("report", "custom", *preset, home=home)
    page = (home / "runs" / "custom" / "report.html").read_text()
    assert page.count("data:image/png;base64,") >= 2
    assert summary["identity"]["name"] in page


@pytest.mark.slow
def test_questions_that_the_store_lacks(home):
    """A question about the broken video, and an answer that training never saw."""
    if not list((home / "stores").glob("custom/*/zarr.json")):
        run("extract", "custom", *ENCODER, home=home, code=1)
    table = home / "data" / "custom" / "questions.jsonl"
    lines = table.read_text().splitlines()
    first = json.loads(lines[0])
    asked = [
        first | {"question_id": "gap", "clip_id": "broken", "split": "train"},
        first | {"question_id": "strange", "answer": "never in training", "split": "test"},
    ]
    table.write_text("\n".join([*lines, *map(json.dumps, asked)]))
    preset = home / "gaps.toml"
    shared = TINY_PRESET.partition("[runs.uniform]")[0]
    preset.write_text(f'inherits = "data set"\n{shared}')
    chosen = ("custom", "--preset", str(preset))

    refused = " ".join(run("train", *chosen, home=home, code=1).split())
    assert "132 of 133 questions and 6 of 7 clips have features" in refused
    assert "--skip-missing" in refused
    run("train", *chosen, "--min-coverage", "0.9", home=home)
    printed = " ".join(run("evaluate", *chosen, "--min-coverage", "0.9", home=home).split())
    assert "train: 1 of 133 questions are left out" in printed
    rows = [json.loads(line) for line in table.read_text().splitlines()]
    known = {
        row["answer"] for row in rows if row["split"] == "train" and row["clip_id"] != "broken"
    }
    test = [row["answer"] for row in rows if row["split"] == "test"]
    unknown = sum(answer not in known for answer in test) / len(test)
    assert f"{unknown:.1%} of the test answers are none of the classes of videodistill" in printed
    summary = json.loads((home / "runs" / "custom" / "gaps" / "summary.json").read_text())
    assert summary["coverage"]["train"]["share"] == pytest.approx(132 / 133)
    assert summary["coverage"]["test"]["share"] == 1
    assert summary["unknown_answers"] == {"videodistill": pytest.approx(unknown, abs=1e-4)}
    assert unknown >= 1 / 45


@pytest.mark.parametrize(
    ("number", "message"),
    [(errno.ENOSPC, "No space left on device"), (errno.EROFS, "Read-only file system")],
)
def test_what_the_machine_lacks_is_one_line(
    number: int, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full() -> None:
        raise OSError(number, os.strerror(number), "store/seg-000000")

    monkeypatch.setattr(cli, "app", full)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    printed = capsys.readouterr().err
    assert printed.startswith(f"videodistill: {message} (store/seg-000000).")
    assert "Traceback" not in printed
