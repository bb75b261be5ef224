"""The commands `videodistill data ...`, as scripts and people meet them."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cache_schema.errors import VideoDistillError
from pipelines.cli import app
from pipelines.datasets.registry import known


def run(*words: object, code: int = 0) -> str:
    """All that a command prints; an error's message counts, as `main` prints it."""
    done = CliRunner().invoke(app, [str(word) for word in words])
    if isinstance(done.exception, VideoDistillError):
        assert done.exception.exit_code == code, done.exception
        return f"{done.output}{done.exception}"
    assert done.exit_code == code, done.output
    return done.output


def test_ls_names_every_data_set_with_its_task():
    printed = run("data", "ls")
    for name, dataset in known().items():
        assert f"{name:20} {dataset.task}" in printed
    assert {row["name"] for row in json.loads(run("data", "ls", "--json"))} == known().keys()


def test_info_tells_what_is_there_and_ends_with_its_absence(tmp_path, write_agqa):
    printed = run("data", "info", "agqa", "--home", tmp_path, code=1)
    assert printed.count("ABSENT") == 3
    assert "49.2 GB" in printed
    write_agqa(tmp_path / "data" / "agqa")
    (tmp_path / "data" / "agqa" / "videos").mkdir()
    (tmp_path / "data" / "agqa" / "videos" / "AB12C.mp4").touch()
    printed = run("data", "info", "agqa", "--home", tmp_path)
    assert "ABSENT" not in printed
    record = json.loads(run("data", "info", "agqa", "--home", tmp_path, "--json"))
    assert [file["there"] for file in record["files"]] == [True, True]
    assert record["videos"]["there"] == 1
    assert {c["encoder"]: c["bytes"] for c in record["store"]}["ViT-B-32"] == 49_152_000_000


@pytest.mark.parametrize("words", [("extract",), ("train", "--preset", "demo", "--store", "x")])
def test_a_step_of_an_absent_data_set_prints_the_same_description(tmp_path, words):
    command, *options = words
    described = run("data", "info", "agqa", "--home", tmp_path, code=1)
    assert described.strip() in run(command, "agqa", "--home", tmp_path, *options, code=2)
    assert list(tmp_path.iterdir()) == []


def test_check_counts_finds_and_fails(tmp_path, write_agqa, agqa_record):
    write_agqa(tmp_path, train={"q1": agqa_record, "q9": agqa_record | {"answer": None}})
    printed = run("data", "check", "agqa", "--data-root", tmp_path, code=1)
    assert "0 of 1 clips have a video" in printed
    assert "1 rows are refused" in printed
    assert "train_balanced.txt line 1 ('q9').answer: is null" in printed
    assert "published: 669,207" in printed
    assert "4 wrong" in printed
    record = json.loads(run("data", "check", "agqa", "--data-root", tmp_path, "--json", code=1))
    assert record["wrong"] == 4
    assert {c["split"]: c["found"] for c in record["counts"]}["test"] == 1


def test_check_of_a_whole_data_set_ends_well(tmp_path):
    run("data", "template", "--data-root", tmp_path)
    (tmp_path / "videos").mkdir()
    for name in ("kitchen.mp4", "street.mp4"):
        (tmp_path / "videos" / name).touch()
    printed = run("data", "check", "custom", "--data-root", tmp_path)
    assert "3 of 3 clips have a video" in printed
    assert "0 wrong" in printed


def test_prepare_writes_and_says_what(tmp_path, write_agqa, agqa_record):
    write_agqa(tmp_path)
    assert "would write" in run("data", "prepare", "agqa", "--data-root", tmp_path, "--dry-run")
    assert not (tmp_path / "prepared").exists()
    assert "1 clips, 2 questions, 0 captions" in run(
        "data", "prepare", "agqa", "--data-root", tmp_path
    )
    write_agqa(tmp_path, train={"q1": agqa_record, "q9": agqa_record | {"answer": None}})
    assert "answer: is null" in run("data", "prepare", "agqa", "--data-root", tmp_path, code=1)
    words = ("data", "prepare", "agqa", "--data-root", tmp_path, "--skip-bad-rows")
    printed = run(*words, code=1)
    assert "skipped: train_balanced.txt line 1 ('q9').answer: is null" in printed
    assert "1 rows were skipped" in printed
    record = json.loads(run(*words, "--json", code=1))
    assert (record["questions"], record["bad_rows"], len(record["problems"])) == (2, 1, 1)


def test_template_writes_once(tmp_path):
    assert "clip_id,path" in run("data", "template", "--home", tmp_path, "--dry-run")
    assert not list(tmp_path.iterdir())
    assert str(tmp_path / "data" / "custom" / "clips.csv") in run(
        "data", "template", "--home", tmp_path
    )
    assert "is there already" in run("data", "template", "--home", tmp_path, code=2)


def test_what_cannot_be_rendered_says_what_it_wants(tmp_path):
    printed = run("data", "make", "msvd-qa", "--home", tmp_path, code=2)
    assert "cannot be rendered" in printed
    assert "youtube_mapping.txt" in printed


def test_a_broken_file_of_an_owner_is_named_where_extraction_starts(tmp_path, write_agqa):
    root: Path = write_agqa(tmp_path)
    (root / "test_balanced.txt").write_text("{}\n}")
    words = ("--model", "ViT-B-16", "--weights", __file__)
    printed = run("extract", "agqa", "--data-root", root, "--home", tmp_path, *words, code=2)
    assert "test_balanced.txt, line 2, column 1" in printed
