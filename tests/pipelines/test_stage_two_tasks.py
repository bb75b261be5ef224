"""Choices, clips to choose from, and captions: trained, asked and scored on features made here."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cache_schema import (
    ClipOutcome,
    FeatureIdentity,
    Preprocess,
    Status,
    StoreWriter,
    create_store,
)
from cache_schema.errors import InputError, StoreAbsent, VideoDistillError
from extract import encoder as extract_encoder
from extract.encoder_spec import EncoderSpec
from pipelines.cli import app
from pipelines.datasets.annotations import Annotations
from pipelines.datasets.registry import find
from pipelines.prepared import load
from pipelines.sentences import encode_sentences, load_sentences
from pipelines.task_questions import held_out, require_training, task_questions
from pipelines.workspace import Workspace
from train.caption_pairs import caption_questions
from train.predictions import read_predictions

FRAMES, PATCHES, DIM = 6, 2, 16
IDENTITY = FeatureIdentity(
    encoder="made-up",
    weights_sha256="0" * 64,
    quick_gelu=False,
    token_space="joint",  # noqa: S106 -- no password
    dim=DIM,
    patches=PATCHES,
    frames=FRAMES,
    precision="fp32",
    preprocess=Preprocess(
        image_size=32,
        resize_mode="shortest",
        interpolation="bicubic",
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
    ),
)
PRESET = """
[train]
steps = 2
clips_per_batch = 4
questions_per_clip = 1
warmup_steps = 1
validate_every = 2
[train.pretraining]
masked_words = false
[train.model]
selected = 2
sampling_blocks = 1
refinement_blocks = 1
heads = 2
[runs.videodistill]
"""
ANSWERS = ["a cat", "a dog", "a cow", "a hen", "a pig"]


def write_nextqa(root: Path) -> None:
    """Three questions of five answers to a split."""
    root.mkdir(parents=True)
    for first, split in enumerate(("train", "val", "test")):
        with (root / f"{split}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(
                ["video", "question", "answer", "qid", "type", *(f"a{n}" for n in range(5))]
            )
            for number in range(3):
                video = f"{first}{number}"
                writer.writerow(
                    [video, "what runs", number, number, ("CW", "TN", "DO")[number], *ANSWERS]
                )


def write_msrvtt(root: Path) -> None:
    """Four test videos to be found by a sentence and to choose a sentence for; sixteen to train on."""
    root.mkdir(parents=True)
    tests, training = [f"video{n}" for n in range(4)], [f"video{n}" for n in range(10, 50)]
    rows = [f"ret{n},msr{n},{video},something {n}" for n, video in enumerate(tests)]
    (root / "MSRVTT_JSFUSION_test.csv").write_text(
        "key,vid_key,video_id,sentence\n" + "\n".join(rows)
    )
    (root / "MSRVTT_train.9k.csv").write_text("video_id\n" + "\n".join(training))
    sentences = [
        {"video_id": video, "sen_id": n, "caption": f"{video} happens"}
        for n, video in enumerate(training)
    ]
    (root / "MSRVTT_data.json").write_text(json.dumps({"sentences": sentences}))
    choices = [
        {"qid": f"mc{n}", "clip_name": video, "answer": n, "options": [f"{n}{c}" for c in "abcde"]}
        for n, video in enumerate(tests)
    ]
    (root / "msrvtt_mc_test.jsonl").write_text("\n".join(map(json.dumps, choices)))


def write_ego4d(root: Path) -> None:
    """Narrations of forty clips, and three times five of them to choose from."""
    root.mkdir(parents=True)
    clips = [
        {"video_uid": f"uid{n % 8}", "clip_start": n, "clip_end": n + 1, "clip_text": f"#C C does {n}"}
        for n in range(40)
    ]  # fmt: skip
    with (root / "egoclip.csv").open("w", newline="") as file:
        writer = csv.writer(file, delimiter="\t")
        writer.writerow(["clip_idx", *clips[0], "tag_verb", "tag_noun"])
        for number, clip in enumerate(clips):
            writer.writerow([number, *clip.values(), "[1]", "[2, 3]"])
    found = {}
    for number, chosen in enumerate((range(5), range(5, 10), range(0, 40, 8))):
        choices = {str(n): clips[clip] for n, clip in enumerate(chosen)}
        found[str(number)] = {
            "answer": number, "types": 1 + number // 2, "query": choices[str(number)], "choices": choices
        }  # fmt: skip
    (root / "egomcq.json").write_text(json.dumps(found))


def write_store(path: Path, clip_ids: list[str]) -> None:
    """Random features; of any clip the same every time."""
    create_store(path, IDENTITY, block_slots=16, segment_slots=64)
    with StoreWriter(path, IDENTITY, job="test") as writer:
        for start in range(0, len(clip_ids), 16):
            claim = writer.claim(clip_ids[start : start + 16])
            assert claim is not None
            outcomes = [
                ClipOutcome(
                    clip_id=clip,
                    status=Status.OK,
                    frame_index=np.arange(FRAMES, dtype=np.int32),
                    frame_time=np.arange(0.5, FRAMES),
                    distinct_frames=FRAMES,
                )
                for clip in claim.clip_ids
            ]
            random = np.random.default_rng(start)
            features = random.standard_normal((len(outcomes), FRAMES, 1 + PATCHES, DIM))
            half = features.astype(np.float16)
            writer.write_block(claim, outcomes, half[:, :, 0], half[:, :, 1:])
        writer.compact()


class RandomEncoder:
    """A text tower that knows nothing."""

    context_length = 77

    def encode_text(self, texts: list[str]) -> tuple[np.ndarray, int]:
        random = np.random.default_rng(1)
        return random.standard_normal((len(texts), DIM)).astype(np.float32), 0

    def identity(self, *, frames: int) -> FeatureIdentity:
        assert frames
        return IDENTITY


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three folders of data sets as their owners hand them out, with stores and sentence features."""
    root = tmp_path_factory.mktemp("home")
    write_nextqa(root / "data" / "nextqa")
    write_msrvtt(root / "data" / "msrvtt")
    write_ego4d(root / "data" / "ego4d")
    (root / "tiny.toml").write_text(PRESET)
    spec = EncoderSpec(model="made-up", weights=root / "none", model_config=None)
    clips: dict[Path, dict[str, None]] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extract_encoder, "load_encoder", lambda _: RandomEncoder())
        for name in ("nextqa", "msrvtt-retrieval", "msrvtt-mc", "egoclip", "egomcq"):
            space = Workspace(home=root, dataset=find(name), seed=1)
            annotations = load(space.dataset, space.data)
            store = space.stores / "made-up"
            store.parent.mkdir(parents=True, exist_ok=True)
            clips.setdefault(store, {}).update(dict.fromkeys(c.clip_id for c in annotations.clips))
            assert encode_sentences(spec, store, annotations)
            assert not encode_sentences(spec, store, annotations)
    for store, names in clips.items():
        write_store(store, list(names))
    return root


def run(home: Path, *words: object) -> str:
    """Run the command line in this process, in the miniatures' workspace."""
    done = CliRunner().invoke(app, [*map(str, words), "--home", str(home)])
    if isinstance(done.exception, VideoDistillError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def tiny(home: Path, task: str) -> tuple[object, ...]:
    return ("--preset", home / "tiny.toml", "--set", f"task={task}")


def score(home: Path, dataset: str, file: Path) -> dict[str, float]:
    sections = json.loads(run(home, "score", dataset, file, "--json"))["sections"]
    return {row["key"]: row["value"] for rows in sections.values() for row in rows}


@pytest.fixture(scope="module")
def pretrained(home: Path) -> Path:
    """A run on the captions of MSR-VTT."""
    printed = run(home, "pretrain", "msrvtt-retrieval", *tiny(home, "pretrain"))
    assert "train: val: " in printed
    return home / "runs" / "msrvtt-retrieval" / "videodistill"


def test_choices_are_trained_asked_reported_and_scored(home: Path) -> None:
    run(home, "train", "nextqa", *tiny(home, "choose"))
    printed = run(home, "evaluate", "nextqa", *tiny(home, "choose"))
    assert "Test accuracy on nextqa" in printed
    folder = home / "runs" / "nextqa"
    summary = json.loads((folder / "summary.json").read_text())
    assert set(summary["accuracy"]) == {"videodistill"}
    assert {name: each["questions"] for name, each in summary["per_type"].items()} == {
        "CW": 1, "TN": 1, "DO": 1,
    }  # fmt: skip
    file = folder / "videodistill" / "predictions_test.parquet"
    assert {row.predicted for row in read_predictions(file)} <= set(ANSWERS)
    all_right = score(home, "nextqa", file)["all"]
    assert all_right == pytest.approx(summary["accuracy"]["videodistill"], abs=1e-4)
    again = ("evaluate", "nextqa", *tiny(home, "choose"))
    assert "nothing to do" in run(home, *again)
    with pytest.raises(InputError, match=r"videodistill was trained with model\.selected=2, not 3"):
        run(home, *again, "--set", "model.selected=3")
    with pytest.raises(StoreAbsent):
        run(home, *again, "--store", home / "nope")
    assert "nothing to do" not in run(home, *again, "--skip-missing")
    assert "nothing to do" in run(home, *again, "--skip-missing")


def test_captions_are_found_and_the_scores_are_those_of_the_data_set(
    home: Path, pretrained: Path
) -> None:
    printed = run(home, "evaluate", "msrvtt-retrieval", *tiny(home, "pretrain"))
    assert "16 pairs of a caption and one of 4 clips" in printed
    assert "R@10 (%)" in printed
    summary = json.loads((pretrained.parent / "summary.json").read_text())
    found = summary["retrieval"]
    assert (found["queries"], found["clips"], found["shortlist"]) == (4, 4, None)
    numbers = found["runs"]["videodistill"]
    scored = score(home, "msrvtt-retrieval", pretrained / "retrieval_test.npz")
    assert {key: numbers[key] for key in scored} == scored

    short = run(home, "evaluate", "msrvtt-retrieval", *tiny(home, "pretrain"), "--shortlist", 2)
    assert "8 pairs of a caption and one of 4 clips" in short
    assert "looked at 2 clips" in " ".join(short.split())
    summary = json.loads((pretrained.parent / "summary.json").read_text())
    assert summary["retrieval"]["shortlist"] == 2
    assert "accuracy" not in summary
    run(home, "report", "msrvtt-retrieval", *tiny(home, "pretrain"))
    page = (pretrained.parent / "report.html").read_text()
    assert "Clips found by their captions" in page
    assert "looked at 2 clips" in page


def test_a_pretrained_run_answers_a_test_that_nothing_is_trained_on(
    home: Path, pretrained: Path
) -> None:
    for command in ("train", "evaluate", "report"):
        with pytest.raises(InputError, match="evaluate msrvtt-mc --run"):
            run(home, command, "msrvtt-mc")
    printed = run(home, "evaluate", "msrvtt-mc", "--run", pretrained)
    assert "Test accuracy on msrvtt-mc" in printed
    folder = home / "runs" / "msrvtt-mc" / "by-msrvtt-retrieval-videodistill"
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["run"] == str(pretrained)
    right = score(home, "msrvtt-mc", folder / "videodistill" / "predictions_test.parquet")["all"]
    assert right == summary["accuracy"]["videodistill"]
    assert not (pretrained / "predictions_test.parquet").exists()
    with pytest.raises(InputError, match="asked as it was trained"):
        run(home, "evaluate", "msrvtt-mc", "--run", pretrained, "--preset", "demo")
    with pytest.raises(InputError, match="these runs answer questions"):
        run(home, "evaluate", "msrvtt-mc", "--run", pretrained, "--shortlist", 3)


def test_narrations_are_learned_and_their_clips_chosen(home: Path) -> None:
    printed = run(home, "pretrain", "egoclip", *tiny(home, "pretrain"))
    assert "train: val: 2 of 2 questions" in printed
    trained = home / "runs" / "egoclip" / "videodistill"
    assert "Val retrieval on egoclip" in run(home, "evaluate", "egoclip", *tiny(home, "pretrain"))
    assert (trained / "retrieval_val.npz").is_file()
    run(home, "evaluate", "egomcq", "--run", trained)
    with pytest.raises(InputError, match="asked as it was trained"):
        run(home, "evaluate", "egomcq", "--run", trained, "--set", "model.selected=1")
    folder = home / "runs" / "egomcq" / "by-egoclip-videodistill"
    summary = json.loads((folder / "summary.json").read_text())
    assert {name: each["questions"] for name, each in summary["per_type"].items()} == {
        "inter": 2, "intra": 1,
    }  # fmt: skip
    file = folder / "videodistill" / "predictions_test.parquet"
    scored = score(home, "egomcq", file)
    for kind in ("inter", "intra"):
        accuracy = summary["per_type"][kind]["accuracy"]["videodistill"]
        assert scored[f"type:{kind}"] == accuracy
    run(home, "report", "egomcq", "--run", trained)
    page = (folder / "report.html").read_text()
    # The frames are of the clip that was chosen, which need not be the question's first.
    assert all(f"· {row.predicted}<" in page for row in read_predictions(file))


def test_training_goes_on_from_a_pretrained_run(home: Path, pretrained: Path) -> None:
    start = (*tiny(home, "choose"), "--start-from", pretrained)
    run(home, "train", "nextqa", *start)
    folder = home / "runs" / "nextqa" / "from-msrvtt-retrieval-videodistill"
    config = json.loads((folder / "videodistill" / "config.json").read_text())
    assert (folder / "videodistill" / config["start_from"]).resolve() == pretrained.resolve()
    run(home, "evaluate", "nextqa", *start)
    assert (folder / "summary.json").is_file()
    assert "complete" in run(home, "train", "nextqa", *start)


def test_captions_of_two_data_sets_are_learned_together(home: Path) -> None:
    both = ("pretrain", "msrvtt-retrieval", "egoclip", *tiny(home, "pretrain"))
    printed = run(home, *both)
    alone = [read(home, name) for name in ("msrvtt-retrieval", "egoclip")]
    training = sum(
        len(task_questions(find("webvid"), part, "pretrain").in_split("train")) for part in alone
    )
    assert f"train: train: {training} of {training} questions" in printed
    folder = home / "runs" / "msrvtt-retrieval+egoclip" / "videodistill"
    assert "complete" in run(home, *both)
    run(home, "evaluate", "egomcq", "--run", folder)
    assert (home / "runs" / "egomcq" / "by-msrvtt-retrieval+egoclip-videodistill").is_dir()
    with pytest.raises(InputError, match="are of one data set"):
        run(home, *both, "--store", home)


WRONG = {
    "words of choices": (("train", "nextqa"), "answer", "'nextqa' gives choices"),
    "choices of captions": (("train", "egoclip"), "choose", "videodistill pretrain egoclip"),
    "captions of choices": (("pretrain", "nextqa"), "pretrain", "no captions to pretrain on"),
}


@pytest.mark.parametrize(("words", "task", "message"), WRONG.values(), ids=WRONG)
def test_a_preset_of_another_task_is_refused(
    home: Path, words: tuple[str, ...], task: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        run(home, *words, *tiny(home, task))


def test_runs_of_several_tasks_are_refused(home: Path, tmp_path: Path) -> None:
    mixed = tmp_path / "mixed.toml"
    mixed.write_text(PRESET + 'task = "choose"\n[runs.other]\n')
    with pytest.raises(InputError, match="tasks answer, choose"):
        run(home, "train", "nextqa", "--preset", mixed)


def read(home: Path, name: str) -> Annotations:
    space = Workspace(home=home, dataset=find(name), seed=1)
    return load(space.dataset, space.data)


def test_sentences_are_questions_choices_both_in_one_and_captions(home: Path) -> None:
    store = home / "stores" / "nextqa" / "made-up"
    texts = set(load_sentences(store, read(home, "nextqa")).texts)
    assert texts == {"what runs", *ANSWERS, *(f"what runs {answer}" for answer in ANSWERS)}
    store = home / "stores" / "msrvtt" / "made-up"
    texts = set(load_sentences(store, read(home, "msrvtt-mc")).texts)
    # These choices are sentences of their own.
    assert texts == {"which caption describes the video?"} | {f"{n}{c}" for n in range(4) for c in "abcde"}  # fmt: skip
    annotations = read(home, "msrvtt-retrieval")
    assert {c.text for c in annotations.captions} == set(load_sentences(store, annotations).texts)


def test_validation_is_lent_whole_clips_where_there_is_none(home: Path) -> None:
    captions = read(home, "egoclip").captions
    doubled = caption_questions([*captions, *captions])
    lent = held_out(doubled)
    split = dict(
        zip(lent.column("clip_id").to_pylist(), lent.column("split").to_pylist(), strict=True)
    )
    assert sorted(split.values()).count("val") == len(captions) // 20
    assert len(lent.in_split("val")) == 2 * (len(captions) // 20)
    reversed_rows = held_out(caption_questions(list(reversed(captions))))
    assert set(reversed_rows.in_split("val").column("clip_id").to_pylist()) == {
        clip for clip, name in split.items() if name == "val"
    }
    official = task_questions(find("webvid"), read(home, "msrvtt-retrieval"), "pretrain")
    assert held_out(official) is official


def test_a_test_alone_cannot_be_trained_on(home: Path) -> None:
    with pytest.raises(InputError, match="none of its 3 questions is in 'train'"):
        require_training(find("egomcq"), read(home, "egomcq"))
