"""`videodistill store ...` as people and scripts use it: exit codes, JSON, dry runs, refusals."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cache_schema import (
    ClipOutcome,
    FeatureIdentity,
    InputError,
    Preprocess,
    Question,
    Status,
    StoreAbsent,
    StoreError,
    StoreWriter,
    create_store,
    open_store,
    write_questions,
)
from pipelines.cli import app, main
from pipelines.clip_choice import chosen_clips

IDENTITY = FeatureIdentity(
    encoder="ViT-B-32",
    weights_sha256="0123456789abcdef" * 4,
    quick_gelu=True,
    token_space="joint",  # noqa: S106 -- no password
    dim=8,
    patches=3,
    preprocess=Preprocess(
        image_size=224,
        resize_mode="shortest",
        interpolation="bicubic",
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
    ),
    frames=5,
    precision="fp32",
)


def make_store(
    path: Path, ids: str, identity: FeatureIdentity = IDENTITY, shift: float = 0
) -> Path:
    """A store of one-letter clips whose features follow from their letters; ``x`` failed."""
    create_store(path, identity, block_slots=4, segment_slots=8)
    with StoreWriter(path, identity) as writer:
        for start in range(0, len(ids), 4):
            claim = writer.claim(list(ids[start : start + 4]))
            cls, patch, outcomes = [], [], []
            for clip_id in claim.clip_ids:
                rng = np.random.default_rng(ord(clip_id))
                cls.append(rng.standard_normal((5, 8)) + shift)
                patch.append(rng.standard_normal((5, 3, 8)))
                outcomes.append(_outcome(clip_id))
            writer.write_block(claim, outcomes, np.float16(cls), np.float16(patch))
        writer.compact()
    return path


def _outcome(clip_id: str) -> ClipOutcome:
    video = {"source_path": f"videos/{clip_id}.mp4", "source_digest": "ab" * 16}
    if clip_id == "x":
        return ClipOutcome(clip_id=clip_id, status=Status.FAILED, reason="truncated", **video)
    return ClipOutcome(
        clip_id=clip_id,
        status=Status.OK,
        frame_index=np.arange(5, dtype=np.int32),
        frame_time=np.arange(5) / 7,
        distinct_frames=5,
        backend="pyav 18.1.0",
        **video,
    )


def run(*words: object, code: int = 0) -> str:
    """Runs a command in this process; returns what it printed."""
    done = CliRunner().invoke(app, ["store", *map(str, words)], env={"COLUMNS": "160"})
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, done.output
    return done.output


def told(*words: object, code: int = 0) -> dict:
    return json.loads(run(*words, "--json", code=code))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return make_store(tmp_path / "stores" / "one", "abcdex")


NEEDS_A_STORE = [
    "info STORE", "verify STORE", "diff STORE STORE", "pull STORE new", "merge STORE --out new",
    "recipe STORE --out new.json", "card STORE --out new", "repair STORE", "compact STORE", "gc STORE",
    "pin STORE name", "unpin STORE name", "pins STORE", "export STORE new.h5",
    "convert STORE new --int8", "sentences STORE demo-captions --model demo",
]  # fmt: skip


@pytest.mark.parametrize("words", NEEDS_A_STORE)
@pytest.mark.parametrize("there", [False, True], ids=["absent", "foreign"])
def test_no_store_is_wrong_input(words, there, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if there:
        (tmp_path / "STORE").mkdir()
        (tmp_path / "STORE" / "notes.txt").touch()
    monkeypatch.setattr(sys, "argv", ["videodistill", "store", *words.split()])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "STORE" in capsys.readouterr().err


def test_ls_shows_every_folder_with_its_state(store: Path, tmp_path: Path):
    (store.parent / "notes").mkdir()
    (store.parent / "one.sentences").mkdir()
    broken = shutil.copytree(store, store.parent / "broken")
    next(broken.glob("seg-000000/patch/c.*")).unlink()
    printed = run("ls", store.parent)
    lines = {line.split()[0]: line for line in printed.splitlines() if line.strip()}
    assert "damaged" in lines["broken"]
    cells = ["ViT-B-32", "5", "3", "8", "5", "1", "1"]
    assert lines["one"].split()[1:8] == cells, "encoder, N, P, D, clips, failed, version"
    assert lines["one"].split()[-1] == "sound"
    assert "one.sentences" not in printed
    assert "notes: foreign: " in printed
    rows = json.loads(run("ls", store.parent, "--json", "--no-check"))
    assert [Path(row["location"]).name for row in rows] == ["broken", "notes", "one"]
    assert [row["health"] for row in rows] == ["unchecked", "foreign", "unchecked"]
    with pytest.raises(InputError, match="no folder"):
        run("ls", tmp_path / "nothing")


def test_info_is_for_people_and_for_programs(store: Path):
    document = told("info", store)
    assert (document["clips"], document["failed"], document["version"]) == (5, 1, 1)
    assert document["digest"] == IDENTITY.digest
    printed = run("info", store)
    for part in (IDENTITY.digest, "5 frames x (1 + 3) tokens x 8", "1 x truncated", "5 x pyav 18"):
        assert part in printed
    assert told("info", store, "--version", "0")["clips"] == 0


def test_verify_tells_a_damaged_store(store: Path):
    assert told("verify", store) == {
        "location": str(store), "quick": False, "sound": True, "findings": []
    }  # fmt: skip
    assert f"{store}: sound, 0 notices" in run("verify", store, "--quick")
    next(store.glob("seg-000000/patch/c.*")).unlink()
    (finding,) = told("verify", store, code=1)["findings"]
    assert (finding["severity"], finding["code"]) == ("error", "missing")
    assert "1 findings" in run("verify", store, code=1)


def test_diff_finds_the_one_clip(store: Path, tmp_path: Path):
    same = shutil.copytree(store, tmp_path / "same")
    assert "equal: 5 clips the same, 0 not" in run("diff", store, same)
    other = make_store(tmp_path / "other", "abcdf", shift=0.5)
    document = told("diff", store, other, code=1)
    assert (document["only_a"], document["only_b"]) == (["e"], ["f"])
    assert [clip["clip_id"] for clip in document["differing"]] == list("abcd")
    assert document["differing"][0]["cls"]["max_abs"] == pytest.approx(0.5, abs=2e-3)
    printed = run("diff", store, other, "--sample", "1", code=1)
    assert "different: 0 clips the same, 4 not" in printed
    assert "only in A: 1 clips: e" in printed
    lower = make_store(tmp_path / "lower", "a", replace(IDENTITY, precision="bf16"))
    assert "identity: precision: 'fp32' here, 'bf16' there" in run("diff", store, lower, code=1)


def _questions(path: Path, clips: dict[str, str]) -> Path:
    rows = [
        Question(question_id=clip, clip_id=clip, question="?", answer="!", split=split)
        for clip, split in clips.items()
    ]
    write_questions(path, rows)
    return path


def test_pull_copies_what_a_question_table_needs(store: Path, tmp_path: Path):
    table = _questions(tmp_path / "q.parquet", {"a": "train", "b": "test", "x": "train"})
    part = tmp_path / "part"
    ask = ("pull", store, part, "--questions", table, "--split", "train")
    assert "2 clips to copy, 0 there already" in run(*ask, "--dry-run")
    assert told(*ask, "--dry-run")["take"] == ["x", "a"]
    assert not part.exists()
    assert "1 clips and 1 failures copied, 0 were there" in run(*ask)
    assert open_store(part).clip_ids == ["a"]
    document = told("pull", store, part, "--questions", table)
    assert (document["copied"], document["present"], document["complete"]) == (["b"], 2, True)


def test_pull_lists_what_it_cannot_have(store: Path, tmp_path: Path):
    (tmp_path / "ids.txt").write_text("a\n\nnobody\n")
    ask = ("pull", store, tmp_path / "part", "--clips", tmp_path / "ids.txt")
    assert "1 clips are in no source: nobody" in run(*ask, "--dry-run", code=1)
    assert told(*ask, code=1)["missing"] == ["nobody"]
    assert open_store(tmp_path / "part").clip_ids == ["a"]


def test_merge_puts_stores_together_or_refuses(store: Path, tmp_path: Path):
    second = make_store(tmp_path / "two", "efg")
    out = ("--out", tmp_path / "merged")
    assert told("merge", store, second, *out, "--dry-run")["conflicts"] == []
    assert told("merge", store, second, *out)["complete"]
    assert open_store(tmp_path / "merged").clip_ids == list("abcdefg")
    third = make_store(tmp_path / "three", "a", shift=1)
    (conflict,) = told("merge", store, third, *out, "--dry-run", code=1)["conflicts"]
    assert (conflict["clip_id"], conflict["array"]) == ("a", "cls")
    with pytest.raises(StoreError, match="disagree about 1 clips"):
        run("merge", store, third, "--out", tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_recipe_is_written_and_checked(store: Path, tmp_path: Path):
    recipe = tmp_path / "recipe.json"
    assert "6 clips" in run("recipe", store, "--out", recipe, "--dry-run")
    assert not recipe.exists()
    assert told("recipe", store, "--out", recipe)["bytes"] == recipe.stat().st_size
    assert "the same: 6 clips equal" in run("recipe", store, "--check", recipe)
    other = make_store(tmp_path / "other", "abcd", shift=1)
    document = told("recipe", other, "--check", recipe, code=1)
    assert document["missing"] == ["e", "x"]
    assert [clip["clip_id"] for clip in document["other_bytes"]] == list("abcd")
    assert "other bytes: a: cls; decoded with" in run("recipe", other, "--check", recipe, code=1)
    for options in ((), ("--out", recipe, "--check", recipe)):
        with pytest.raises(InputError, match="either --out"):
            run("recipe", store, *options)


def test_a_card_is_written_where_it_is_wanted(store: Path, tmp_path: Path):
    folder = tmp_path / "card"
    assert "would be written" in run("card", store, "--out", folder, "--dry-run")
    assert not folder.exists()
    files = told("card", store, "--out", folder, "--license", "cc-by-4.0")["files"]
    assert {Path(name).name for name in files} == {"README.md", "croissant.json"}
    assert 'license: "cc-by-4.0"' in (folder / "README.md").read_text()
    with pytest.raises(StoreAbsent):
        run("card", tmp_path / "nothing", "--out", folder)


@pytest.mark.parametrize(
    ("content", "ids"),
    [
        ("a\nb\na\n", ["a", "b"]),
        ("\ufeffa\r\n  b  \r\n", ["a", "b"]),
        ('clip_id,path,start_s,end_s\na,v.mp4,,\n"b,c",v.mp4,1,2\n', ["a", "b,c"]),
    ],
    ids=["lines", "windows", "clip list"],
)
def test_lists_of_clips(tmp_path: Path, content: str, ids: list[str]):
    (tmp_path / "list").write_text(content, newline="")
    assert chosen_clips(clips=tmp_path / "list") == ids
    assert chosen_clips() is None


def test_choices_that_make_no_sense_are_refused(tmp_path: Path):
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    table = _questions(tmp_path / "q.parquet", {"a": "train"})
    refused = {
        "not both": {"questions": table, "clips": tmp_path / "empty"},
        "give --questions": {"split": "train"},
        "it can be train": {"questions": table, "split": "dev"},
        "names none": {"clips": tmp_path / "empty"},
        "not UTF-8": {"clips": tmp_path / "binary"},
        "cannot be read": {"clips": tmp_path / "absent"},
    }
    for message, choice in refused.items():
        with pytest.raises(InputError, match=message):
            chosen_clips(**choice)
