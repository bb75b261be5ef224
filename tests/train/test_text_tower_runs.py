"""Runs with a text tower: frozen it is the sentence table, trained it is the run's own."""

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from cache_schema.errors import InputError
from tests.train.needle_tasks import asked_as
from tests.train.word_tower import END, WordTower, fresh, with_tower
from train.checkpoint import read_checkpoint
from train.config import ModelConfig, PretrainingConfig, TrainConfig
from train.curves import read_curves
from train.evaluation import evaluate_run
from train.loop import BEST, INITIAL
from train.methods import restore_model
from train.optimisation import build_optimizer, set_learning_rate
from train.options import ConfigError
from train.predictions import Prediction
from train.question_set import QuestionSet
from train.retrieval import retrieve_run
from train.run import train_run
from train.run_state import LAST
from train.text_tower import sentence_features, survey
from train.vocabulary import NO_ANSWERS

TASKS = ("answer", "choose", "pretrain")


@pytest.fixture
def config(short_config) -> TrainConfig:
    """A run that trains its tower, without any draw but the sampler's."""
    model = replace(short_config.model, text="finetune")
    return replace(short_config, model=model, lr=1e-2, text_lr_scale=0.5)


def asked(needle, config):
    """The needle as the task has it, and the tower that filled its sentence table."""
    needle = asked_as(config.task, needle)
    sentences, tower = with_tower(needle.sentences, config)
    return replace(needle, sentences=sentences), tower


def train(needle, config, run_dir, tower, **options):
    load = None if tower is None else fresh(tower)
    return train_run(
        config,
        needle.store,
        needle.questions,
        needle.sentences,
        run_dir,
        load_tower=load,
        **options,
    )


def losses(run_dir, name="loss") -> list[float]:
    return [line[name] for line in read_curves(run_dir) if line["kind"] == "train"]


def tower_tensors(path) -> dict[str, torch.Tensor]:
    model = read_checkpoint(path).part("model")
    return {name: value for name, value in model.items() if name.startswith("tower.")}


@pytest.mark.parametrize("task", ["answer", "choose"])
def test_a_tower_that_does_not_learn_is_the_sentence_table(small_needle, config, tmp_path, task):
    # Clipping would count the gradient of the tower, which is not used.
    frozen = replace(config, task=task, text_lr_scale=0.0, clip_norm=1e6, lr=1e-3)
    needle, tower = asked(small_needle, frozen)
    train(needle, frozen, tmp_path / "tower", tower)
    table = replace(frozen, model=replace(frozen.model, text="none"))
    train(needle, table, tmp_path / "table", None)
    np.testing.assert_allclose(
        losses(tmp_path / "tower"), losses(tmp_path / "table"), atol=1e-6, rtol=0
    )


@pytest.mark.parametrize("task", TASKS)
def test_the_tower_learns_and_is_kept(small_needle, config, tmp_path, task):
    config = replace(config, task=task)
    needle, tower = asked(small_needle, config)
    result = train(needle, config, tmp_path, tower)
    start, best = tower_tensors(tmp_path / INITIAL), tower_tensors(tmp_path / BEST)
    assert all(torch.equal(start[f"tower.{n}"], t) for n, t in tower.network.state_dict().items())
    changed = {name for name in best if not torch.equal(start[name], best[name])}
    assert changed == {f"tower.{name}" for name, _ in tower.network.named_parameters()}

    # A tower fresh from its files takes the checkpoint's weights, and answers as in validation.
    if task != "pretrain":
        load = fresh(tower)
        at = (tmp_path, needle.store, needle.questions, needle.sentences)
        first = evaluate_run(*at, split="val", keep_logits=True, load_tower=load)
        again = evaluate_run(*at, split="val", keep_logits=True, load_tower=load)
        assert first == again
        assert np.mean([p.correct for p in first]) == pytest.approx(result.best_accuracy)
        untrained = evaluate_run(
            *at, split="val", keep_logits=True, checkpoint=INITIAL, load_tower=load
        )
        assert any(a.logit != b.logit for a, b in zip(first, untrained, strict=True))


def test_answers_are_those_of_a_table_that_the_trained_tower_fills(small_needle, config, tmp_path):
    needle, tower = asked(small_needle, config)
    train(needle, config, tmp_path, tower)
    at = (tmp_path, needle.store, needle.questions)
    found = evaluate_run(*at, needle.sentences, keep_logits=True, load_tower=fresh(tower))

    trained = copy.deepcopy(tower)
    model = restore_model(read_checkpoint(tmp_path / BEST), trained).eval()
    texts = [q.question for q in needle.questions if q.split == "test"]
    features = sentence_features(texts, needle.sentences, trained, config)
    assert not np.allclose(features, needle.sentences.lookup(texts), atol=1e-3)
    questions = [q for q in needle.questions if q.split == "test"]
    with torch.inference_mode():
        for question, feature, prediction in zip(questions, features, found, strict=True):
            logits = model(
                torch.from_numpy(needle.store.cls[question.clip_id])[None],
                torch.from_numpy(needle.store.patch[question.clip_id])[None],
                torch.from_numpy(feature)[None],
                torch.tensor([0]),
                tau=config.tau_end,
            ).logits
            assert_same_logits(prediction, logits[0])


def assert_same_logits(prediction: Prediction, logits: torch.Tensor) -> None:
    torch.testing.assert_close(torch.tensor(prediction.logit), logits, atol=1e-5, rtol=0)


def test_pretraining_tells_hidden_words_and_gives_its_tower_on(small_needle, config, tmp_path):
    pretraining = replace(config, task="pretrain", questions_per_clip=1, clips_per_batch=8)
    captions, tower = asked(small_needle, pretraining)
    train(captions, pretraining, tmp_path / "captions", tower)
    terms = [losses(tmp_path / "captions", f"loss_{name}") for name in
             ("matching", "contrastive", "masked_words")]  # fmt: skip
    np.testing.assert_allclose(np.sum(terms, 0), losses(tmp_path / "captions"), rtol=1e-5)
    before = read_checkpoint(tmp_path / "captions" / BEST).part("model")
    words = {
        word for row in captions.questions if row.split == "train" for word in row.question.split()
    }
    assert before["masked_words.word_id"].tolist() == sorted(tower.known[word] for word in words)

    tuned = replace(config, start_from="../captions")
    answers, _ = asked(small_needle, config)
    answers = replace(answers, sentences=captions.sentences)
    train(answers, tuned, tmp_path / "tuned", tower)
    after = read_checkpoint(tmp_path / "tuned" / INITIAL).part("model")
    shared = [name for name in after if not name.startswith("head.")]
    assert not [name for name in after if name.startswith("masked_words.")]
    assert [name for name in shared if name.startswith("tower.")]
    assert all(torch.equal(before[name], after[name]) for name in shared)

    # The other run's words are not this one's: what tells them starts anew, even of the same shape.
    train(captions, replace(pretraining, start_from="../captions"), tmp_path / "again", tower)
    again = read_checkpoint(tmp_path / "again" / INITIAL).part("model")
    assert torch.equal(before["tower.mix.weight"], again["tower.mix.weight"])
    assert not torch.equal(before["masked_words.word.weight"], again["masked_words.word.weight"])


def test_hidden_words_with_a_frozen_tower_leave_it_out_of_the_checkpoint(
    small_needle, short_config, tmp_path
):
    config = replace(short_config, task="pretrain", ema_decay=0.5)
    needle, tower = asked(small_needle, config)
    train(needle, config, tmp_path, tower)
    assert losses(tmp_path, "loss_masked_words")[0] > 0
    assert not tower_tensors(tmp_path / LAST)
    at = (tmp_path, needle.store, needle.questions, needle.sentences)
    assert retrieve_run(*at).scores.any()  # asked, such a run needs no tower


@pytest.mark.slow
def test_hidden_words_are_learned(small_needle, short_config, tmp_path):
    config = replace(
        short_config,
        task="pretrain",
        pretraining=PretrainingConfig(matching=False, exchange=0.0),
        steps=60,
        validate_every=60,
        clips_per_batch=12,
        lr=2e-2,
    )
    needle, tower = asked(small_needle, config)
    train(needle, config, tmp_path, tower)
    found = losses(tmp_path, "loss_masked_words")
    assert np.mean(found[-5:]) < 0.7 * np.mean(found[:5])


class Interrupted(Exception):  # noqa: N818
    pass


@pytest.mark.parametrize("text", ["linear", "finetune"])
def test_an_interrupted_pretraining_ends_bit_for_bit_like_one_that_was_not(
    small_needle, short_config, tmp_path, text
):
    config = replace(
        short_config, task="pretrain", ema_decay=0.9, model=replace(short_config.model, text=text)
    )
    needle, tower = asked(small_needle, config)

    def cut(report):
        if report.step == 5:
            raise Interrupted

    train(needle, config, tmp_path / "whole", tower)
    with pytest.raises(Interrupted):
        train(needle, config, tmp_path / "cut", tower, on_step=cut)
    train(needle, config, tmp_path / "cut", tower)
    whole, again = (read_checkpoint(tmp_path / name / LAST).tensors for name in ("whole", "cut"))
    assert whole.keys() == again.keys()
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    assert losses(tmp_path / "whole") == losses(tmp_path / "cut")


def test_retrieval_encodes_captions_with_the_trained_tower(small_needle, config, tmp_path):
    config = replace(config, task="pretrain")
    needle, tower = asked(small_needle, config)
    train(needle, config, tmp_path, tower)
    at = (tmp_path, needle.store, needle.questions, needle.sentences)
    found = retrieve_run(*at, load_tower=fresh(tower))
    trained = copy.deepcopy(tower)
    restore_model(read_checkpoint(tmp_path / BEST), trained)
    filled = replace(
        needle.sentences,
        features=sentence_features(needle.sentences.texts, needle.sentences, trained, config),
    )
    plain = replace(config, model=replace(config.model, text="none"))
    assert np.array_equal(found.scores, retrieve_run_as(tmp_path, plain, needle, filled).scores)


def retrieve_run_as(run_dir, config, needle, sentences):
    """The same weights as a run that reads sentence features."""
    from train.checkpoint import write_checkpoint

    state = read_checkpoint(run_dir / BEST)
    tensors = {n: t for n, t in state.tensors.items() if not n.startswith("model.tower.")}
    write_checkpoint(run_dir / "plain.safetensors", replace(state, config=config, tensors=tensors))
    return retrieve_run(
        run_dir, needle.store, needle.questions, sentences, checkpoint="plain.safetensors"
    )


def test_a_sentence_of_several_pairs_is_encoded_once(small_needle, config, tmp_path):
    config = replace(config, clips_per_batch=12, steps=1, warmup_steps=0, validate_every=1)
    needle, tower = asked(small_needle, config)
    tower.network.encoded.clear()
    train_run(
        config,
        needle.store,
        needle.questions,
        needle.sentences,
        tmp_path,
        load_tower=lambda: tower,
    )
    # 12 clips x 4 questions, of which there are four kinds; then the same in validation.
    assert tower.network.encoded == [4, 4]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param(
            {"task": "pretrain"},
            r"has pretraining.masked_words = true, .* --set pretraining.masked_words=false",
            id="hidden words",
        ),
        pytest.param(
            {"model": ModelConfig(selected=4, heads=4, text="finetune")},
            'has model.text = "finetune", .* --set model.text=linear',
            id="fine-tuning",
        ),
    ],
)
def test_a_missing_tower_says_what_to_do(small_needle, short_config, tmp_path, changes, message):
    config = replace(short_config, **changes)
    needle, _ = asked(small_needle, config)
    with pytest.raises(InputError, match=message):
        train(needle, config, tmp_path / "run", None)
    assert not (tmp_path / "run").exists()


def test_the_tower_of_another_encoder_is_refused(small_needle, config, tmp_path):
    needle, tower = asked(small_needle, config)
    tower.weights_sha256 = "f" * 64
    with pytest.raises(InputError, match="text tower has weights ffffffffffff, the sentence feat"):
        train(needle, config, tmp_path / "run", tower)


def test_a_trained_tower_is_needed_to_be_asked(small_needle, config, tmp_path):
    needle, tower = asked(small_needle, config)
    train(needle, config, tmp_path, tower)
    with pytest.raises(InputError, match="needs the text tower"):
        evaluate_run(tmp_path, needle.store, needle.questions, needle.sentences)


def test_only_runs_that_need_a_tower_load_one(small_needle, short_config, tmp_path):
    def load():
        raise AssertionError("nobody needs it")

    at = (small_needle.store, small_needle.questions, small_needle.sentences)
    train_run(short_config, *at, tmp_path, load_tower=load)
    evaluate_run(tmp_path, *at, load_tower=load)


def test_baselines_read_cached_sentences():
    with pytest.raises(
        ConfigError, match="method is 'mean_frame', must be 'videodistill' for model"
    ):
        TrainConfig(method="mean_frame", model=ModelConfig(text="finetune"))


def test_texts_that_lose_their_end_are_counted(small_needle, config, tmp_path):
    questions = [
        replace(question, question=f"{question.question} in all of this clip")
        if question.split == "train" and number % 3 == 0
        else question
        for number, question in enumerate(small_needle.questions)
    ]
    texts = {question.question for question in questions}
    longer = replace(
        small_needle.sentences,
        texts=tuple(texts),
        features=np.zeros((len(texts), small_needle.sentences.dim), np.float32),
    )
    needle, tower = asked(replace(small_needle, questions=questions, sentences=longer), config)
    cut = [q for q in questions if q.split == "train" and len(q.question.split()) > 5]
    assert train(needle, config, tmp_path / "tower", tower).truncated_texts == len(cut) > 0
    table = replace(config, model=replace(config.model, text="linear"))
    counted = train(needle, table, tmp_path / "table", None).truncated_texts
    assert counted == len({q.question for q in cut})


def test_words_are_those_of_the_training_texts(small_needle):
    tower = WordTower(["how many red? round? tall? loud? never"], 4)
    training = [q for q in small_needle.questions if q.split == "train"]
    found = survey(QuestionSet(training, small_needle.sentences, NO_ANSWERS), tower)
    seen = {word for question in training for word in question.question.split()}
    assert found.word_ids.tolist() == sorted(tower.known[word] for word in seen)
    assert tower.known["never"] not in found.word_ids
    assert found.word_ids.min() > END
    assert found.truncated == 0


def test_the_tower_has_a_rate_of_its_own(small_needle, config, tmp_path):
    needle, tower = asked(small_needle, config)
    train(needle, replace(config, steps=1, warmup_steps=0), tmp_path, tower)
    model = restore_model(read_checkpoint(tmp_path / LAST), tower)
    optimizer = build_optimizer(model, replace(config, text_lr_scale=0.25))
    set_learning_rate(optimizer, 0.8)
    rate = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        expected = 0.2 if name.startswith("tower.") else 0.8
        assert rate[id(parameter)] == pytest.approx(expected), name
    kept = {id(p) for g in optimizer.param_groups if not g["weight_decay"] for p in g["params"]}
    assert id(tower.network.token_embedding.weight) in kept
    assert id(tower.network.mix.weight) not in kept


def test_the_run_says_what_it_did(small_needle, config, tmp_path):
    needle, tower = asked(small_needle, config)
    train(needle, config, tmp_path, tower)
    written = json.loads((tmp_path / "config.json").read_text())
    assert (written["model"]["text"], written["text_lr_scale"]) == ("finetune", 0.5)
