"""`videodistill store export|import|convert|sentences` as people and scripts use them."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from safetensors.numpy import save_file
from typer.testing import CliRunner

from cache_schema import (
    ClipOutcome,
    FeatureIdentity,
    InputError,
    Preprocess,
    SentenceTable,
    Status,
    StoreWriter,
    create_store,
    open_store,
    read_sentences,
    write_sentences,
)
from pipelines.cli import app
from pipelines.datasets.demo.encoder_files import CONFIG_PATH, WEIGHTS_PATH

N, P, D = 4, 49, 16
IDENTITY = FeatureIdentity(
    encoder="ViT-B-32",
    weights_sha256="0123456789abcdef" * 4,
    quick_gelu=True,
    token_space="joint",  # noqa: S106 -- no password
    dim=D,
    patches=P,
    preprocess=Preprocess(
        image_size=224,
        resize_mode="shortest",
        interpolation="bicubic",
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
    ),
    frames=N,
    precision="fp32",
)
CLIPS = ["11", "12", "13"]


def run(*words: object, code: int = 0) -> str:
    """Runs a command in this process; returns what it printed to standard output."""
    done = CliRunner().invoke(app, ["store", *map(str, words)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, done.output
    return done.stdout


@pytest.fixture
def store(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    path = tmp_path / "store"
    create_store(path, IDENTITY, block_slots=2, segment_slots=4)
    with StoreWriter(path, IDENTITY) as writer:
        for clips in (CLIPS[:2], CLIPS[2:]):
            claim = writer.claim(clips)
            outcomes = [
                ClipOutcome(
                    clip_id=clip,
                    status=Status.OK,
                    frame_index=np.arange(N),
                    frame_time=np.arange(N) / 2,
                    distinct_frames=N,
                )
                for clip in clips
            ]
            cls, patch = (
                rng.standard_normal((len(clips), N, *shape, D)).astype(np.float16)
                for shape in ((), (P,))
            )
            writer.write_block(claim, outcomes, cls, patch)
        writer.compact()
    return path


@pytest.fixture
def mist(tmp_path: Path) -> Path:
    features = np.random.default_rng(1).standard_normal((3, N, 5, D)).astype(np.float32)
    features[1, 0, 0, 0] = np.nan
    with h5py.File(tmp_path / "mist.h5", "w") as file:
        file.create_dataset("features", data=features)
        file.create_dataset("ids", data=np.array([b"a", b"b", b"c"], dtype="S20"))
    return tmp_path / "mist.h5"


@pytest.mark.parametrize("layout", ["rows", "mist", "per-clip"])
def test_export(store: Path, tmp_path: Path, layout: str) -> None:
    target = tmp_path / "x.h5"
    options = ("--layout", layout, "--dtype", "float32", "--json")
    planned = json.loads(run("export", store, target, *options, "--dry-run"))
    assert planned["dry_run"]
    assert not target.exists()
    done = json.loads(run("export", store, target, *options))
    assert (done["clips"], done["bytes"]) == (3, target.stat().st_size)
    assert done["bytes"] <= planned["bytes"]
    assert "3 clips, about" in run("export", store, tmp_path / "y.h5", "--dry-run")


def test_export_for_hcrn(store: Path, tmp_path: Path) -> None:
    words = ("--features-name", "resnet", "--numeric-ids")
    assert "written to" in run("export", store, tmp_path / "x.h5", *words)
    with h5py.File(tmp_path / "x.h5") as file:
        assert file["ids"][()].tolist() == [11, 12, 13]
        assert file["resnet_features"].shape == (3, N, D)


def test_import_tells_what_is_unknown_and_what_failed(mist: Path, tmp_path: Path) -> None:
    target = tmp_path / "imported"
    words = ("import", mist, target, "--layout", "mist", "--origin", "MIST, AGQA")
    planned = run(*words, "--dry-run")
    assert "3 of 3 clips to import" in planned
    assert "unknown: encoder, weights_sha256" in planned
    assert json.loads(run(*words, "--dry-run", "--json"))["identity"]["origin"] == "MIST, AGQA"
    assert not target.exists()
    printed = run(*words, code=1)
    assert "2 clips imported, 1 failed" in printed
    assert "failed: b: nonfinite" in printed
    again = json.loads(run(*words, "--json"))
    assert (again["imported"], again["skipped"], again["failed"]) == (0, 3, {})
    retried = json.loads(run(*words, "--json", "--retry-failed", code=1))
    assert list(retried["failed"]) == ["b"]
    assert open_store(target).clip_ids == ["a", "c"]


def test_import_takes_what_it_is_told(mist: Path, tmp_path: Path) -> None:
    weights = tmp_path / "w.safetensors"
    save_file({"w": np.zeros(3, dtype=np.float32)}, weights)
    words = ("--encoder", "ViT-B-32", "--weights", weights, "--no-quick-gelu")
    words = (*words, "--token-space", "joint", "--precision", "fp16", "--origin", "x", "--json")
    told = json.loads(run("import", mist, tmp_path / "s", "--layout", "mist", *words, code=1))
    assert told["unknown"] == ["preprocess", "frame_policy"]
    assert told["rounding_to_float16"]["max_abs"] > 0
    identity = open_store(tmp_path / "s").identity
    assert (identity.quick_gelu, identity.precision) == (False, "fp16")
    assert len(identity.weights_sha256) == 64


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--layout", "parquet", "--origin", "x"), "it can be rows, mist, hcrn, per-clip"),
        (("--layout", "hcrn", "--origin", "x"), r"0 datasets called \*_features"),
        (("--layout", "clip-video-encode", "--origin", "x"), "no folder"),
    ],
    ids=["unknown", "other", "file"],
)
def test_import_refuses_other_things(
    mist: Path, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        run("import", mist, tmp_path / "s", *words)
    assert not (tmp_path / "s").exists()


def test_convert_reports_sizes_and_losses(store: Path, tmp_path: Path) -> None:
    target = tmp_path / "small"
    words = ("convert", store, target, "--int8", "--pool", "4x4")
    assert "3 of 3 clips to convert" in run(*words, "--dry-run")
    assert not target.exists()
    done = json.loads(run(*words, "--json"))
    assert done["converted"] == 3
    assert done["bytes"] < done["source_bytes"] / 4
    assert set(done["loss"]) == {
        "tokens", "reference_patches", "max_abs", "relative", "mean_cosine", "min_cosine",
    }  # fmt: skip
    assert open_store(target).identity.digest == done["digest"]
    again = run(*words)
    assert "0 clips converted, 3 skipped" in again
    assert "loss: at most" in again


def test_a_variant_keeps_the_questions_of_its_source(store: Path, tmp_path: Path) -> None:
    folder = tmp_path / "store.sentences"
    folder.mkdir()
    table = SentenceTable(
        texts=("what?",),
        features=np.ones((1, D), dtype=np.float32),
        encoder="ViT-B-32",
        weights_sha256=IDENTITY.weights_sha256,
        context_length=77,
        truncated=0,
    )
    write_sentences(folder / "0123.parquet", table)
    run("convert", store, tmp_path / "small", "--int8")
    copied = read_sentences(tmp_path / "small.sentences" / "0123.parquet")
    assert copied.texts == ("what?",)


def test_convert_without_a_wish_is_refused(store: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Say what to reduce"):
        run("convert", store, tmp_path / "small")
    with pytest.raises(InputError, match="write rows and columns"):
        run("convert", store, tmp_path / "small", "--pool", "four")


def test_sentences_of_another_encoder_are_refused(store: Path, tmp_path: Path) -> None:
    words = ("--model", "demo-clip", "--weights", WEIGHTS_PATH, "--model-config", CONFIG_PATH)
    with pytest.raises(InputError, match="must be encoded by one CLIP"):
        run("sentences", store, "custom", *words, "--home", tmp_path)


def test_an_import_gets_its_questions(tmp_path: Path) -> None:
    data = tmp_path / "data" / "custom"
    (data / "videos").mkdir(parents=True)
    (data / "clips.csv").write_text("clip_id,path,start_s,end_s\na,videos/a.mp4,,\n")
    question = {"clip_id": "a", "question": "what?", "answer": "this", "split": "train"}
    (data / "questions.jsonl").write_text(json.dumps(question | {"question_id": "q"}))
    (tmp_path / "npy").mkdir()
    np.save(tmp_path / "npy" / "a.npy", np.ones((N, 128), dtype=np.float32))
    target = tmp_path / "imported"
    run("import", tmp_path / "npy", target, "--layout", "clip-video-encode", "--origin", "x")
    words = ("--model", "demo-clip", "--weights", WEIGHTS_PATH, "--model-config", CONFIG_PATH)
    home = ("--home", tmp_path)
    assert "1 questions and 0 captions, to" in run(
        "sentences", target, "custom", *words, *home, "--dry-run"
    )
    assert "1 distinct sentences encoded" in run("sentences", target, "custom", *words, *home)
    (file,) = (tmp_path / "imported.sentences").iterdir()
    assert read_sentences(file).features.shape == (1, 128)
    assert "all sentences are there" in run("sentences", target, "custom", *words, *home)
