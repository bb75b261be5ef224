"""Choices and pretraining on the needle: the whole run, from questions to predictions."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cache_schema.errors import InputError
from cache_schema.tables.question_table import Question
from tests.train.conftest import ANSWERS
from tests.train.needle_tasks import captions_of, sentences_with_candidates, with_candidates
from train.config import PretrainingConfig, TrainConfig
from train.evaluation import evaluate_run
from train.options import ConfigError
from train.question_set import QuestionSet
from train.run import train_run
from train.vocabulary import NO_ANSWERS


def between_clips(questions: list[Question]) -> list[Question]:
    """Which of three clips is this sentence about?"""
    asked = []
    for number, question in enumerate(questions):
        same_split = [q.clip_id for q in questions if q.split == question.split]
        others = [c for c in dict.fromkeys(same_split) if c != question.clip_id][:2]
        clips = [*others]
        clips.insert(number % 3, question.clip_id)
        asked.append(
            replace(
                question,
                clip_id=clips[0],
                clip_ids=tuple(clips),
                answer=question.clip_id,
                answer_index=number % 3,
            )
        )
    return asked


def test_pairs_of_candidates_and_of_clips(small_needle):
    questions = [with_candidates(q) for q in small_needle.questions[:3]]
    pairs = QuestionSet(questions, sentences_with_candidates(small_needle), None).pairs(
        np.array([2, 0])
    )
    assert pairs.question.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert pairs.texts[:4] == [f"{questions[2].question} {word}" for word in ANSWERS]

    questions = between_clips(small_needle.questions)[:3]
    chosen = QuestionSet(questions, small_needle.sentences, None)
    pairs = chosen.pairs(np.array([1, 2]))
    assert chosen.clips_per_question == 3
    assert pairs.question.tolist() == [0, 0, 0, 1, 1, 1]
    assert chosen.names(pairs.clip) == [*questions[1].clip_ids, *questions[2].clip_ids]
    assert pairs.texts == [questions[1].question] * 3 + [questions[2].question] * 3


def test_open_questions_are_no_choice(small_needle):
    with pytest.raises(InputError, match="give nothing to choose from"):
        QuestionSet(small_needle.questions, small_needle.sentences, None)


def test_choosing_learns(needle, needle_config, tmp_path):
    questions = [with_candidates(q) for q in needle.questions]
    config = replace(needle_config, task="choose", questions_per_clip=2)
    result = train_run(config, needle.store, questions, sentences_with_candidates(needle), tmp_path)
    predictions = evaluate_run(
        tmp_path,
        needle.store,
        questions,
        sentences_with_candidates(needle),
        split="val",
        keep_logits=True,
    )
    right = np.mean([p.correct for p in predictions])
    assert result.best_accuracy == pytest.approx(right)
    assert right > 0.4  # chance is 0.25
    assert {len(p.logit) for p in predictions} == {4}
    assert evaluate_run(
        tmp_path, needle.store, questions, sentences_with_candidates(needle), split="val"
    ) == [replace(p, logit=()) for p in predictions]


def test_choices_between_clips_run_and_name_the_clip(small_needle, needle_config, tmp_path):
    questions = between_clips(small_needle.questions)
    config = replace(needle_config, task="choose", steps=4, warmup_steps=1, validate_every=2)
    train_run(config, small_needle.store, questions, small_needle.sentences, tmp_path)
    test = [q for q in questions if q.split == "test"]
    predictions = evaluate_run(tmp_path, small_needle.store, questions, small_needle.sentences)
    for question, prediction in zip(test, predictions, strict=True):
        assert prediction.predicted in question.clip_ids
        assert prediction.answer == question.clip_ids[question.answer_index]
        assert len(prediction.frame_index) == config.model.selected


def test_pretraining_learns_to_match_and_starts_another_run(needle, needle_config, tmp_path):
    captions, said = captions_of(needle), sentences_with_candidates(needle)
    config = replace(
        needle_config,
        task="pretrain",
        pretraining=PretrainingConfig(masked_words=False),
        questions_per_clip=1,
        clips_per_batch=32,
        steps=240,
    )
    result = train_run(config, needle.store, captions, said, tmp_path / "pretrain")
    assert result.best_accuracy > 0.6  # chance is 0.5
    curves = (tmp_path / "pretrain" / "curves.jsonl").read_text()
    assert '"loss_matching"' in curves
    assert '"loss_contrastive"' in curves

    questions = [with_candidates(q) for q in needle.questions]
    zero_shot = evaluate_run(tmp_path / "pretrain", needle.store, questions, said, split="val")
    assert np.mean([p.correct for p in zero_shot]) > 0.3  # chance is 0.25

    tuned = replace(needle_config, steps=2, warmup_steps=1, start_from="../pretrain")
    train_run(tuned, needle.store, needle.questions, needle.sentences, tmp_path / "tuned")
    from train.checkpoint import read_checkpoint

    before = read_checkpoint(tmp_path / "pretrain" / "best.safetensors").part("model")
    after = read_checkpoint(tmp_path / "tuned" / "initial.safetensors").part("model")
    shared = [name for name in after if not name.startswith("head.")]
    assert all(torch.equal(before[name], after[name]) for name in shared)


def test_starting_from_another_model_is_refused(small_needle, needle_config, tmp_path):
    short = replace(needle_config, steps=2, warmup_steps=1, validate_every=1)
    asked = (small_needle.store, small_needle.questions, small_needle.sentences)
    train_run(short, *asked, tmp_path / "first")
    larger = replace(short, start_from="../first", model=replace(short.model, sampling_blocks=2))
    with pytest.raises(InputError, match="holds another model"):
        train_run(larger, *asked, tmp_path / "second")
    with pytest.raises(InputError, match="which is not there"):
        train_run(replace(short, start_from="../absent"), *asked, tmp_path / "third")


def test_only_the_model_itself_is_pretrained():
    with pytest.raises(ConfigError, match="the losses are on"):
        TrainConfig(task="pretrain", method="atp")
    assert len(NO_ANSWERS) == 0
