from dataclasses import replace

import numpy as np
import pytest
import torch

from cache_schema.errors import InputError
from train.batches import BatchLoader
from train.epoch_order import evaluation_batches
from train.evaluation import Predictor, evaluate_run
from train.methods import build_model, sizes_of
from train.predictions import read_predictions
from train.question_set import QuestionSet
from train.run import train_run
from train.vocabulary import Vocabulary

VOCABULARY = Vocabulary(("one", "two", "three"))


@pytest.fixture
def questions(small_needle) -> QuestionSet:
    return QuestionSet(small_needle.questions, small_needle.sentences, VOCABULARY)


@pytest.fixture
def model(small_needle, short_config):
    torch.manual_seed(0)
    return build_model(short_config, sizes_of(small_needle.store.identity), len(VOCABULARY))


@pytest.mark.parametrize("sampler", ["learned", "uniform", "random", "clip_similarity"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_reading_only_the_selected_frames_changes_no_bit(
    small_needle, short_config, questions, precision, sampler
):
    options = replace(short_config.model, sampler=sampler)
    config = replace(short_config, precision=precision, evaluation_questions=10, model=options)
    torch.manual_seed(0)
    model = build_model(config, sizes_of(small_needle.store.identity), len(VOCABULARY))
    lazy = Predictor(config, questions, small_needle.store, VOCABULARY, keep_logits=True)
    predictions = lazy.predict(model)

    loader = BatchLoader(questions, small_needle.store, clips=10, read_ahead=1)
    order = evaluation_batches(questions.clip_of_question, 10)
    for rows, batch in loader.batches(zip(order, order, strict=True)):
        with (
            torch.inference_mode(),
            torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"),
        ):
            whole = model(
                batch.cls, batch.patch, batch.text, batch.clip_of_pair, tau=config.tau_end
            )
        for place, row in enumerate(rows):
            assert predictions[row].frame_index == tuple(whole.frame_index[place].tolist())
            assert predictions[row].logit == tuple(whole.logits[place].float().tolist())


@pytest.mark.parametrize("questions_per_batch", [1, 100])
def test_only_the_selected_frames_are_read(
    small_needle, short_config, questions, model, questions_per_batch
):
    """And those that several questions of a batch select, once."""
    config = replace(short_config, evaluation_questions=questions_per_batch, read_threads=1)
    predictions = Predictor(config, questions, small_needle.store, VOCABULARY).predict(model)
    selected = [
        (row if questions_per_batch == 1 else question.clip_id, frame)
        for row, question in enumerate(questions.questions)
        for frame in set(predictions[row].frame_index)
    ]
    assert small_needle.store.frames_read == len(set(selected))


def test_two_passes_are_equal_and_in_question_order(small_needle, short_config, questions, model):
    predictor = Predictor(short_config, questions, small_needle.store, VOCABULARY)
    first = predictor.predict(model.train())
    assert first == predictor.predict(model)
    assert [row.question_id for row in first] == [q.question_id for q in questions.questions]
    right = [row.predicted == q.answer for row, q in zip(first, questions.questions, strict=True)]
    assert predictor.accuracy(model) == np.mean(right)


def test_times_are_those_of_the_selected_frames(small_needle, short_config, questions, model):
    predictor = Predictor(short_config, questions, small_needle.store, VOCABULARY)
    for row in predictor.predict(model):
        assert row.frame_time == tuple((index + 0.5) * 0.5 for index in row.frame_index)
        assert row.logit == ()


@pytest.mark.parametrize("method", ["videodistill", "mean_frame", "single_random_frame"])
def test_every_method_gives_the_same_kind_of_table(small_needle, short_config, tmp_path, method):
    config = replace(short_config, method=method)
    asked = (small_needle.store, small_needle.questions, small_needle.sentences)
    train_run(config, *asked, tmp_path)
    table = tmp_path / "predictions.parquet"
    predictions = evaluate_run(tmp_path, *asked, output=table)
    assert read_predictions(table) == predictions
    assert {row.question_id for row in predictions} == {
        question.question_id for question in small_needle.questions if question.split == "test"
    }
    selected = {"videodistill": config.model.selected, "mean_frame": 0}.get(method, 1)
    assert {len(row.frame_index) for row in predictions} == {selected}


def test_the_last_validation_is_what_evaluation_finds(small_needle, short_config, tmp_path):
    asked = (small_needle.store, small_needle.questions, small_needle.sentences)
    result = train_run(short_config, *asked, tmp_path)
    predictions = evaluate_run(tmp_path, *asked, split="val")
    assert np.mean([row.correct for row in predictions]) == result.best_accuracy


def test_there_must_be_a_run(small_needle, tmp_path):
    with pytest.raises(InputError, match="train the run first"):
        evaluate_run(tmp_path, small_needle.store, small_needle.questions, small_needle.sentences)
