"""`videodistill runs`: what run folders tell, made by hand in every state that a run can be in."""

import hashlib
import json
import os

import pytest
import torch
from typer.testing import CliRunner

from cache_schema import FeatureIdentity, Preprocess, Question
from cache_schema.errors import InputError
from pipelines.cli import app
from pipelines.run_comparison import compare_folders
from pipelines.run_record import find_runs, read_run
from train.checkpoint import Checkpoint, Progress, write_checkpoint
from train.config import ModelConfig, TrainConfig
from train.predictions import Prediction, write_predictions
from train.vocabulary import Vocabulary

IDENTITY = FeatureIdentity(
    encoder="tiny",
    weights_sha256=hashlib.sha256(b"weights").hexdigest(),
    quick_gelu=False,
    token_space="joint",  # noqa: S106 -- no password
    dim=8,
    patches=4,
    frames=6,
    precision="fp32",
    preprocess=Preprocess(
        image_size=32,
        resize_mode="shortest",
        interpolation="bicubic",
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
    ),
)
TYPES = ("color", "color", "shape", "shape")


def make_run(folder, *, step=20, steps=20, seed=1, selected=4, best=0.5, right=None):
    """A run's folder; `right` says question by question whether it was answered right."""
    config = TrainConfig(
        steps=steps,
        warmup_steps=1,
        seed=seed,
        validate_every=10,
        model=ModelConfig(selected=selected),
    )
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config.to_dict()))
    lines = [{"kind": "train", "step": s, "loss": 1.0, "step_s": 0.5} for s in range(1, step + 6)]
    lines.append({"kind": "validation", "step": 10, "accuracy": best})
    (folder / "curves.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    checkpoint = Checkpoint(
        config=config,
        vocabulary=Vocabulary(("yes", "no")),
        identity=IDENTITY,
        store_version=3,
        progress=Progress(step=step, best_accuracy=best, best_step=10 if step else 0),
        tensors={"model.weight": torch.ones(200)},
    )
    for name in ("last", "best"):
        write_checkpoint(folder / f"{name}.safetensors", checkpoint)
    if right is not None:
        predictions = [
            Prediction(question_id=f"q{n}", predicted="yes" if hit else "no", answer="yes")
            for n, hit in right.items()
        ]
        write_predictions(folder / "predictions_test.parquet", predictions)
    return folder


@pytest.fixture
def runs(tmp_path):
    """Four finished runs of a data set of one's own, and its question table."""
    folder = tmp_path / "runs" / "custom"
    make_run(folder / "main", right={0: 1, 1: 1, 2: 1, 3: 0})
    make_run(folder / "few", selected=2, seed=2, best=0.25, right={0: 0, 1: 1, 2: 0, 3: 0})
    make_run(folder / "fewer-questions", right={1: 0, 2: 1})
    make_run(folder / "not-evaluated")
    data = tmp_path / "data" / "custom"
    (data / "videos").mkdir(parents=True)
    (data / "clips.csv").write_text("clip_id,path,start_s,end_s\nc,videos/c.mp4,,\n")
    questions = [
        Question(
            question_id=f"q{n}",
            clip_id="c",
            question="?",
            answer="yes",
            split="test",
            tags=(f"type:{kind}",),
        )
        for n, kind in enumerate(TYPES)
    ]
    rows = [
        {"question_id": q.question_id, "clip_id": "c", "question": "?", "answer": "yes", "split": "test",
         "tags": list(q.tags)}
        for q in questions
    ]  # fmt: skip
    (data / "questions.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return folder


def call(*words):
    return CliRunner().invoke(app, ["runs", *map(str, words)], env={"COLUMNS": "200"})


def test_a_finished_run_tells_how_it_ended(runs):
    found = read_run(runs / "main")
    assert (found.state, found.step, found.steps, found.seed) == ("complete", 20, 20, 1)
    assert (found.best_accuracy, found.test_accuracy, found.test_questions) == (0.5, 0.75, 4)
    assert (found.store, found.store_version) == (IDENTITY.name, 3)
    assert found.seconds == 20 * 0.5  # the five steps after the last checkpoint are lost


def test_predictions_older_than_the_best_checkpoint_do_not_count(runs):
    os.utime(runs / "main" / "predictions_test.parquet", (1, 1))
    assert read_run(runs / "main").test_accuracy is None


def _diverge(folder, step):
    found = {"step": step, "loss": "nan", "grad_norm": "1.0", "question_ids": ["q0"]}
    (folder / "diverged.json").write_text(json.dumps(found))


def _cut(path):
    path.write_bytes(path.read_bytes()[:-40])


def test_every_state_has_its_name(tmp_path):
    make_run(tmp_path / "interrupted", step=10)
    _diverge(make_run(tmp_path / "diverged", step=10), 14)
    _diverge(make_run(tmp_path / "went-on-after", step=20, steps=30), 14)
    _cut(make_run(tmp_path / "cut-last") / "last.safetensors")
    (tmp_path / "cut-last" / "last.safetensors").with_name("previous.safetensors").write_bytes(
        (tmp_path / "interrupted" / "last.safetensors").read_bytes()
    )
    _cut(make_run(tmp_path / "damaged") / "last.safetensors")
    new = make_run(tmp_path / "just-begun")
    for name in ("last", "best"):
        (new / f"{name}.safetensors").unlink()
    (make_run(tmp_path / "no-config") / "config.json").write_text("{")
    found = {run.name: run for run in find_runs(tmp_path)}
    assert {name: (run.state, run.step) for name, run in found.items()} == {
        "cut-last": ("interrupted", 10),
        "damaged": ("damaged", 0),
        "diverged": ("diverged", 10),
        "interrupted": ("interrupted", 10),
        "just-begun": ("interrupted", 0),
        "no-config": ("damaged", 0),
        "went-on-after": ("interrupted", 20),
    }
    assert "loss nan at step 14" in found["diverged"].problem
    assert found["just-begun"].steps == 20
    listed = call("ls", tmp_path)
    assert listed.exit_code == 1
    assert "damaged: " in listed.output
    assert "diverged: loss nan at step 14" in listed.output


def test_listing_runs(runs):
    listed = call("ls", runs.parent)
    assert listed.exit_code == 0
    (line,) = [line for line in listed.output.splitlines() if "custom/few " in line]
    assert line.split() == [
        "custom/few", "complete", "20/20", "25.0", "25.0", "2", IDENTITY.name, "v3", "10",
    ]  # fmt: skip
    as_json = json.loads(call("ls", runs, "--json").output)
    assert [run["name"] for run in as_json] == ["few", "fewer-questions", "main", "not-evaluated"]
    assert as_json[2]["test_accuracy"] == 0.75


def test_there_may_be_nothing_to_list(tmp_path):
    assert "no runs in" in call("ls", tmp_path).output
    with pytest.raises(InputError, match="runs lie in"):
        find_runs(tmp_path / "absent")


def test_comparing_two_runs(runs, tmp_path):
    found = compare_folders([runs / "main", runs / "few"], tmp_path, None)
    assert found.options == {"model.selected": (4, 2), "seed": (1, 2)}
    assert {row.key: (row.questions, row.accuracy) for row in found.rows} == {
        "all": (4, (0.75, 0.25)),
        "type:color": (2, (1.0, 0.5)),
        "type:shape": (2, (0.5, 0.0)),
    }
    differences = {row.key: row.difference[0].value for row in found.rows}
    assert differences == {"all": -0.5, "type:color": -0.5, "type:shape": -0.5}
    assert found.notes == ()
    overall = found.rows[0].difference[0]
    assert overall.low < -0.5 < overall.high <= 0  # `few` is right nowhere that `main` is wrong


def test_only_questions_that_both_answered_are_paired(runs, tmp_path):
    folders = [runs / "main", runs / "fewer-questions", runs / "not-evaluated"]
    found = compare_folders(folders, tmp_path, None)
    overall = found.rows[0]
    assert overall.accuracy == (0.75, 0.5, None)
    assert (overall.difference[0].value, overall.difference[0].questions) == (-0.5, 2)
    assert overall.difference[1] is None
    assert "not-evaluated has no test predictions" in found.notes[0]


def test_other_questions_under_the_same_ids_are_not_paired(runs, tmp_path):
    changed = [Prediction(question_id="q0", predicted="no", answer="no")]
    write_predictions(runs / "few" / "predictions_test.parquet", changed)
    found = compare_folders([runs / "main", runs / "few"], tmp_path, None)
    assert found.rows[0].difference == (None,)
    assert "nothing is paired" in found.notes[0]


def test_without_the_data_set_there_is_no_break_down(runs, tmp_path):
    (tmp_path / "data" / "custom" / "questions.jsonl").unlink()
    found = compare_folders([runs / "main", runs / "few"], tmp_path, None)
    assert [row.key for row in found.rows] == ["all"]
    assert found.notes[0].startswith("no break-down: ")


def test_the_comparison_on_the_terminal(runs, tmp_path):
    printed = call("compare", runs / "main", runs / "few", "--home", tmp_path)
    assert printed.exit_code == 0, printed.output
    words = [line.split() for line in printed.output.splitlines()]
    assert ["model.selected", "4", "2"] in words
    (shape,) = [line for line in words if line[:1] == ["type:shape"]]
    assert shape[:4] == ["type:shape", "2", "50.0", "0.0"]
    assert shape[4] == "-50.0"
    as_json = call("compare", runs / "main", runs / "few", "--home", tmp_path, "--json").output
    assert json.loads(as_json)["rows"][0]["difference"][0]["value"] == -0.5


def test_one_run_is_no_comparison(runs, tmp_path):
    with pytest.raises(InputError, match="two runs"):
        compare_folders([runs / "main"], tmp_path, None)


def test_where_the_test_answers_are_secret_validation_counts(runs):
    folder = runs / "main"
    (folder / "predictions_test.parquet").rename(folder / "predictions_val.parquet")
    assert read_run(folder).test_accuracy == 0.75
