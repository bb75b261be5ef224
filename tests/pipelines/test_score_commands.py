"""`videodistill score` and `videodistill table` through the command line."""

import json

import pytest
from typer.testing import CliRunner

from cache_schema.errors import InputError
from pipelines.cli import app
from train.config import TrainConfig
from train.predictions import Prediction, write_predictions


def run(*words):
    done = CliRunner().invoke(app, [str(word) for word in words])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.output


@pytest.fixture
def home(tmp_path):
    """MSVD-QA in miniature, four test questions."""
    root = tmp_path / "data" / "msvd"
    root.mkdir(parents=True)
    (root / "youtube_mapping.txt").write_text("abc_1_2 vid1\n")
    asked = ["what is it?", "who runs?", "who sits?", "is it red?"]
    for split, first in (("train", 0), ("val", 10), ("test", 20)):
        rows = [
            {"id": first + n, "video_id": 1, "question": question, "answer": f"a{n}"}
            for n, question in enumerate(asked)
        ]
        (root / f"{split}_qa.json").write_text(json.dumps(rows))
    return tmp_path


def test_score_of_msvd(home):
    lines = [{"question_id": 20 + n, "prediction": f"a{n % 3}"} for n in range(4)]
    path = home / "given.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    text = run("score", "msvd-qa", path, "--home", home)
    shown = {" ".join(line.split()) for line in text.splitlines()}
    assert {"msvd-qa, split test: 4 questions", "all 75.00 % 4", "who 100.00 % 2"} <= shown
    assert "when" not in text  # no question begins so
    tree = json.loads(run("score", "msvd-qa", path, "--home", home, "--json"))
    assert tree["sections"][""][0] == {
        "key": "all", "label": "all", "value": 0.75, "questions": 4, "unit": "share",
    }  # fmt: skip


def test_score_of_our_own_table_on_another_split(home):
    path = home / "predictions_val.parquet"
    rows = [Prediction(question_id=str(10 + n), predicted="a1", answer="?") for n in range(4)]
    write_predictions(path, rows)
    data = ("--data-root", home / "data" / "msvd")
    assert "25.00 %" in run("score", "msvd-qa", path, "--split", "val", *data)
    with pytest.raises(InputError, match="4 of them are of another split"):
        run("score", "msvd-qa", path, *data)
    with pytest.raises(InputError, match="--split is 'dev'; it can be train, val, test"):
        run("score", "msvd-qa", path, "--split", "dev", *data)


def test_table_without_runs_is_the_papers():
    tree = json.loads(run("table", "1", "--json"))
    assert (tree["table"], len(tree["columns"]), tree["rows"][-1]) == (1, 8, "All")
    assert tree["columns"][-1]["values"][-1] == 55.80
    assert "| world | 39.73 |" in run("table", "2", "--markdown")
    assert "Uniform Sampling" in run("table", "4")
    with pytest.raises(InputError, match="choose one"):
        run("table", "1", "--json", "--markdown")


def test_table_with_a_run(tmp_path, write_agqa):
    write_agqa(tmp_path / "data" / "agqa")
    folder = tmp_path / "runs" / "agqa" / "videodistill"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(TrainConfig().to_dict()))
    write_predictions(
        folder / "predictions_test.parquet",
        [Prediction(question_id="q2", predicted="yes", answer="yes")],
    )
    tree = json.loads(run("table", "1", folder, "--home", tmp_path, "--json"))
    ours = {column["label"]: column["values"] for column in tree["columns"] if column["ours"]}
    assert ours["videodistill"][-1] == 100.0
    assert ours["videodistill minus VideoDistill"][-1] == pytest.approx(44.2)
    assert ours["videodistill"][0] is None  # no question on object-relation
