import json
import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
import torch

from cache_schema.errors import IdentityMismatch, InputError
from train.checkpoint import CorruptCheckpoint, read_checkpoint
from train.curves import read_curves
from train.evaluation import evaluate_run
from train.loop import BEST, DIVERGED, INITIAL, TrainingDiverged
from train.metrics import accuracy, mean_frame_hit
from train.run import train_run
from train.run_state import LAST, PREVIOUS


def train(needle, config, run_dir, **options):
    return train_run(config, needle.store, needle.questions, needle.sentences, run_dir, **options)


def evaluate(needle, run_dir, **options):
    return evaluate_run(run_dir, needle.store, needle.questions, needle.sentences, **options)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_learned_sampler_finds_the_needle(needle, needle_config, tmp_path, precision):
    result = train(needle, replace(needle_config, precision=precision), tmp_path)
    predictions = evaluate(needle, tmp_path)
    untrained = evaluate(needle, tmp_path, checkpoint=INITIAL)
    assert accuracy(untrained) < 0.4
    assert mean_frame_hit(untrained, needle.evidence) < mean_frame_hit(predictions, needle.evidence)
    assert result.best_accuracy > 0.9
    assert accuracy(predictions) > 0.9
    assert mean_frame_hit(predictions, needle.evidence) > 0.8


@pytest.mark.parametrize(
    ("model", "changes"),
    [
        pytest.param({"sampler": "uniform"}, {}, id="uniform frames"),
        pytest.param({}, {"method": "mean_frame"}, id="mean frame"),
        pytest.param({}, {"method": "single_random_frame"}, id="random frame"),
        pytest.param({}, {"visual": "static"}, id="no video"),
    ],
)
def test_the_blind_rivals_do_not(needle, needle_config, tmp_path, model, changes):
    config = replace(needle_config, model=replace(needle_config.model, **model), **changes)
    train(needle, config, tmp_path)
    assert accuracy(evaluate(needle, tmp_path)) < 0.45


def test_hiding_the_video_takes_the_skill_away(needle, needle_config, tmp_path):
    train(needle, needle_config, tmp_path)
    for visual in ("static", "noise"):
        assert accuracy(evaluate(needle, tmp_path, visual=visual)) < 0.4


class Interrupted(Exception):  # noqa: N818
    pass


def interrupt_after(step: int):
    def on_step(report):
        if report.step == step:
            raise Interrupted

    return on_step


class Cut(NamedTuple):
    """Where and how a run is interrupted; checkpoints are at steps 4 and 8."""

    after: int
    precision: str
    threads: int


@pytest.mark.parametrize(
    "cut",
    [
        pytest.param(Cut(4, "fp32", 1), id="right after a checkpoint"),
        pytest.param(Cut(5, "bf16", 1), id="bf16, a step is lost"),
        # Two busy threads on a shared machine wait for each other: slow, and the one place where
        # an unordered sum would show.
        pytest.param(Cut(7, "fp32", 2), id="two threads", marks=pytest.mark.slow),
    ],
)
def test_an_interrupted_run_ends_bit_for_bit_like_one_that_was_not(
    small_needle, short_config, tmp_path, cut
):
    model = replace(short_config.model, head_dropout=0.2)
    config = replace(short_config, precision=cut.precision, model=model)
    torch.set_num_threads(cut.threads)
    train(small_needle, config, tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(small_needle, config, tmp_path / "cut", on_step=interrupt_after(cut.after))
    train(small_needle, config, tmp_path / "cut")

    whole, again = (read_checkpoint(tmp_path / name / LAST) for name in ("whole", "cut"))
    assert again.progress == whole.progress
    assert all(torch.equal(again.tensors[name], whole.tensors[name]) for name in whole.tensors)
    timeless = [
        [{k: v for k, v in line.items() if not k.endswith("_s")} for line in read_curves(path)]
        for path in (tmp_path / "whole", tmp_path / "cut")
    ]
    assert timeless[0] == timeless[1]


def test_a_finished_run_is_not_trained_again(small_needle, short_config, tmp_path):
    first = train(small_needle, short_config, tmp_path)
    before = (tmp_path / LAST).read_bytes()
    assert train(small_needle, short_config, tmp_path) == first
    assert (tmp_path / LAST).read_bytes() == before


def test_without_resume_the_run_starts_again(small_needle, short_config, tmp_path):
    train(small_needle, short_config, tmp_path)
    steps = []
    train(
        small_needle,
        short_config,
        tmp_path,
        resume=False,
        on_step=lambda report: steps.append(report.step),
    )
    assert steps == list(range(1, 9))


def test_a_run_leaves_its_record(small_needle, short_config, tmp_path):
    result = train(small_needle, short_config, tmp_path)
    assert json.loads((tmp_path / "config.json").read_text()) == short_config.to_dict()
    lines = read_curves(tmp_path)
    assert [line["step"] for line in lines if line["kind"] == "train"] == list(range(1, 9))
    assert [line["step"] for line in lines if line["kind"] == "validation"] == [4, 8]
    assert {"loss", "accuracy", "lr", "tau", "grad_norm", "data_wait_s"} <= set(lines[0])
    assert (lines[0]["tau"], lines[-2]["tau"]) == (1.0, 0.5)
    best = max(line["accuracy"] for line in lines if line["kind"] == "validation")
    assert result.best_accuracy == best
    assert result.steps == 8


def test_the_best_checkpoint_is_the_one_of_the_best_validation(
    small_needle, short_config, tmp_path
):
    result = train(small_needle, short_config, tmp_path)
    best = read_checkpoint(tmp_path / BEST)
    assert best.progress.step == result.best_step
    assert not best.part("optimizer")


def test_classes_come_from_training_answers_alone(small_needle, short_config, tmp_path):
    questions = [
        replace(question, answer="never seen") if question.split != "train" else question
        for question in small_needle.questions
    ]
    train_run(short_config, small_needle.store, questions, small_needle.sentences, tmp_path)
    assert "never seen" not in read_checkpoint(tmp_path / LAST).vocabulary.answers
    predictions = evaluate_run(tmp_path, small_needle.store, questions, small_needle.sentences)
    assert accuracy(predictions) == 0


def test_answers_beyond_the_limit_are_left_out_and_counted(small_needle, short_config, tmp_path):
    result = train(small_needle, replace(short_config, vocabulary_limit=3), tmp_path)
    training = [question for question in small_needle.questions if question.split == "train"]
    kept = read_checkpoint(tmp_path / LAST).vocabulary.answers
    assert len(kept) == 3
    assert result.unknown_answers == sum(question.answer not in kept for question in training) > 0


def test_reading_from_the_store_equals_reading_from_memory(small_needle, short_config, tmp_path):
    states = []
    for cache in ("always", "never"):
        train(small_needle, replace(short_config, cache_in_ram=cache), tmp_path / cache)
        states.append(read_checkpoint(tmp_path / cache / LAST).tensors)
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_auto_stays_under_the_memory_limit(small_needle, short_config, tmp_path):
    train(small_needle, replace(short_config, ram_limit_mib=0), tmp_path / "none")
    from_store = small_needle.store.frames_read
    train(small_needle, short_config, tmp_path / "all")
    assert small_needle.store.frames_read - from_store < from_store


def test_the_callers_random_state_is_left_alone(small_needle, short_config, tmp_path):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    train(small_needle, short_config, tmp_path)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_loss_that_is_no_number_stops_the_run(small_needle, short_config, tmp_path):
    small_needle.store.cls["train-003"][:] = math.nan
    config = replace(short_config, model=replace(short_config.model, standardise=False))
    with pytest.raises(TrainingDiverged, match=r"has norm nan at step \d"):
        train(small_needle, config, tmp_path)
    fatal = json.loads((tmp_path / DIVERGED).read_text())["question_ids"]
    assert any(question_id.startswith("train-003-") for question_id in fatal)


@pytest.mark.parametrize("damage", ["truncated", "empty", "gone"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    small_needle, short_config, tmp_path, damage, caplog
):
    train(small_needle, short_config, tmp_path)
    whole = (tmp_path / LAST).read_bytes()
    if damage == "gone":
        (tmp_path / LAST).unlink()
    else:
        (tmp_path / LAST).write_bytes(whole[: len(whole) // 2] if damage == "truncated" else b"")
    steps = []
    train(small_needle, short_config, tmp_path, on_step=lambda report: steps.append(report.step))
    assert steps == [5, 6, 7, 8]
    assert (tmp_path / LAST).read_bytes() == whole
    assert ("going on from previous" in caplog.text) is (damage != "gone")


def test_without_a_sound_checkpoint_the_damage_is_named(small_needle, short_config, tmp_path):
    train(small_needle, short_config, tmp_path)
    for name in (LAST, PREVIOUS):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(CorruptCheckpoint, match=r"last\.safetensors is not a whole"):
        train(small_needle, short_config, tmp_path)


def test_the_parts_of_a_batch_make_the_step_of_the_whole(small_needle, short_config, tmp_path):
    # Without noise, two parts of three clips are the batch of six.
    model = replace(short_config.model, sampler="uniform")
    parts = replace(short_config, steps=3, model=model, clips_per_batch=6, accumulate=2)
    whole = replace(parts, accumulate=1)
    curves = []
    for name, config in (("parts", parts), ("whole", whole)):
        train(small_needle, config, tmp_path / name)
        lines = [line for line in read_curves(tmp_path / name) if line["kind"] == "train"]
        curves.append([(line["loss"], line["accuracy"], line["grad_norm"]) for line in lines])
    np.testing.assert_allclose(curves[0], curves[1], rtol=1e-4)


def test_the_average_is_that_of_all_steps(small_needle, short_config, tmp_path, monkeypatch):
    config = replace(short_config, steps=4, ema_decay=0.5)
    past = []
    original = torch.optim.AdamW.step

    def step(optimizer, *args):
        original(optimizer, *args)
        past.append([p.detach().clone() for g in optimizer.param_groups for p in g["params"]])

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    train(small_needle, config, tmp_path)
    # torch copies the first weights, then averages.
    expected = past[0]
    for weights in past[1:]:
        expected = [0.5 * e + 0.5 * w for e, w in zip(expected, weights, strict=True)]
    kept = read_checkpoint(tmp_path / LAST).part("average")
    for value in expected:
        assert any(torch.allclose(value, k) for k in kept.values() if k.shape == value.shape)


def test_an_averaged_run_resumes_bit_for_bit_and_keeps_the_average_as_best(
    small_needle, short_config, tmp_path
):
    config = replace(short_config, ema_decay=0.9)
    train(small_needle, config, tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(small_needle, config, tmp_path / "cut", on_step=interrupt_after(6))
    train(small_needle, config, tmp_path / "cut")
    whole, again = (read_checkpoint(tmp_path / name / LAST) for name in ("whole", "cut"))
    assert all(torch.equal(again.tensors[name], whole.tensors[name]) for name in whole.tensors)
    best = read_checkpoint(tmp_path / "whole" / BEST)
    assert best.progress.step in {4, 8}
    assert best.part("model").keys() == whole.part("model").keys()


def test_a_run_without_progress_stops_early_and_is_complete(small_needle, short_config, tmp_path):
    # A rate near zero: no validation is better than the first.
    config = replace(short_config, steps=40, validate_every=4, patience=2, lr=1e-12)
    result = train(small_needle, config, tmp_path)
    assert (result.steps, result.best_step) == (12, 4)
    assert read_checkpoint(tmp_path / LAST).progress.finished(config)
    assert train(small_needle, config, tmp_path) == result


def test_another_configuration_does_not_go_on_with_the_run(small_needle, short_config, tmp_path):
    train(small_needle, short_config, tmp_path)
    with pytest.raises(InputError, match="holds a run with another configuration"):
        train(small_needle, replace(short_config, lr=0.5), tmp_path)


def test_options_that_came_later_have_their_defaults(small_needle, short_config, tmp_path):
    train(small_needle, short_config, tmp_path)
    path = tmp_path / "config.json"
    told = json.loads(path.read_text())
    del told["model"]["whitened_text"]
    path.write_text(json.dumps(told))
    train(small_needle, short_config, tmp_path)
    path.write_text("[]")
    with pytest.raises(InputError, match="holds no configuration"):
        train(small_needle, short_config, tmp_path)


def test_other_features_do_not_go_on_with_the_run(
    small_needle, short_config, tmp_path, make_identity
):
    train(small_needle, short_config, tmp_path)
    other = make_identity("other weights")
    small_needle.store.identity = other
    small_needle.sentences = replace(small_needle.sentences, weights_sha256=other.weights_sha256)
    for act in (lambda: train(small_needle, short_config, tmp_path),
                lambda: evaluate(small_needle, tmp_path)):  # fmt: skip
        with pytest.raises(IdentityMismatch, match="weights_sha256"):
            act()


@pytest.mark.parametrize("split", ["train", "val"])
def test_training_and_validation_questions_are_needed(small_needle, short_config, tmp_path, split):
    questions = [question for question in small_needle.questions if question.split != split]
    with pytest.raises(InputError, match=f"no questions or captions in the split '{split}'"):
        train_run(short_config, small_needle.store, questions, small_needle.sentences, tmp_path)


def test_a_device_that_is_not_there_is_refused_before_anything_is_written(
    small_needle, short_config, tmp_path, monkeypatch
):
    with pytest.raises(InputError, match=r"device is 'cdua', .*--set device=cpu"):
        train(small_needle, replace(short_config, device="cdua"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    train(small_needle, short_config, tmp_path / "run")

    def no_driver(*size, device):
        raise RuntimeError(f"no driver for {device}\nand more of it")

    monkeypatch.setattr("train.device_choice.torch.empty", no_driver)
    with pytest.raises(InputError, match=r"cannot use here \(no driver for cpu\)"):
        evaluate(small_needle, tmp_path / "run")


def test_test_questions_are_needed_to_evaluate(small_needle, short_config, tmp_path):
    train(small_needle, short_config, tmp_path)
    small_needle.questions = [q for q in small_needle.questions if q.split != "test"]
    with pytest.raises(InputError, match="no questions or captions in the split 'test'"):
        evaluate(small_needle, tmp_path)


def test_a_run_reports_time_left_and_data_wait(small_needle, short_config, tmp_path):
    reports = []
    train(small_needle, short_config, tmp_path, on_step=reports.append)
    assert reports[-1].eta_s == 0
    assert reports[0].eta_s > 0
    assert all(0 <= report.data_wait_share <= 1 for report in reports)
    assert reports[2].best_accuracy == -1 < reports[-1].best_accuracy
