"""Retrieval against the loop over all pairs, one pair at a time."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cache_schema.errors import InputError
from cache_schema.tables.caption_table import Caption
from cache_schema.tables.sentence_table import SentenceTable
from train import retrieval
from train.caption_pairs import caption_questions, told_apart
from train.config import PretrainingConfig
from train.evaluation import evaluate_run
from train.methods import build_model, sizes_of
from train.model.matching_head import matching_score
from train.retrieval import highest, mean_cosine, retrieve_run, score_pairs
from train.run import train_run

TEXTS = 7


@pytest.fixture
def config(short_config):
    losses = PretrainingConfig(masked_words=False)
    return replace(short_config, task="pretrain", pretraining=losses, evaluation_questions=5)


@pytest.fixture
def store(small_needle, monkeypatch):
    monkeypatch.setattr(retrieval, "CLIPS_PER_READ", 4)
    return small_needle.store


@pytest.fixture
def model(config, store):
    torch.manual_seed(0)
    return build_model(config, sizes_of(store.identity), 0).eval()


@pytest.fixture
def texts(store):
    dim = store.identity.dim
    return np.random.default_rng(3).standard_normal((TEXTS, dim)).astype(np.float32)


def one_by_one(model, config, store, texts):
    """The score of each pair from a pass of its own."""
    scores = np.empty((len(texts), len(store.clip_ids)), np.float32)
    for column, clip_id in enumerate(store.clip_ids):
        cls, patch = (
            torch.from_numpy(read([clip_id])) for read in (store.read_cls, store.read_patches)
        )
        for row, text_D in enumerate(torch.from_numpy(texts)):
            logits, *_ = model(cls, patch, text_D[None], torch.tensor([0]), tau=config.tau_end)
            scores[row, column] = matching_score(logits).item()
    return scores


def wanted(store, share=1.0):
    return np.random.default_rng(4).random((TEXTS, len(store.clip_ids))) < share


@pytest.mark.parametrize("method", ["videodistill", "mean_frame"])
def test_equals_the_loop_over_pairs(config, store, texts, method):
    config = replace(config, task="choose", method=method)
    torch.manual_seed(0)
    model = build_model(config, sizes_of(store.identity), 0).eval()
    found = score_pairs(model, config, store, store.clip_ids, texts, wanted(store))
    with torch.inference_mode():
        slow = one_by_one(model, config, store, texts)
    assert np.ptp(slow) > 1e-3
    np.testing.assert_allclose(found, slow, rtol=0, atol=2e-5)


def test_without_a_matching_loss_the_score_is_the_cosine_that_was_trained(config, store, texts):
    config = replace(config, pretraining=PretrainingConfig(matching=False, masked_words=False))
    torch.manual_seed(0)
    model = build_model(config, sizes_of(store.identity), 0).eval()
    found = score_pairs(model, config, store, store.clip_ids, texts, wanted(store))
    cls, patch = (torch.from_numpy(read(store.clip_ids)) for read in (store.read_cls, store.read_patches))  # fmt: skip
    for row, text_D in enumerate(torch.from_numpy(texts)):
        clips = torch.arange(len(cls))
        with torch.inference_mode():
            answering = model(cls, patch, text_D.repeat(len(cls), 1), clips, tau=config.tau_end)
        for column, (video, text) in enumerate(zip(answering.video, answering.text, strict=True)):
            slow = (video @ text / video.norm() / text.norm()).item()
            assert found[row, column] == pytest.approx(slow, abs=2e-5)


def test_only_the_pairs_wanted_are_scored(model, config, store, texts):
    some = wanted(store, 0.3)
    some[:, 2] = False
    found = score_pairs(model, config, store, store.clip_ids, texts, some)
    whole = score_pairs(model, config, store, store.clip_ids, texts, wanted(store))
    np.testing.assert_allclose(found, np.where(some, whole, 0), rtol=0, atol=2e-5)


def test_the_patches_of_a_clip_are_read_once(model, config, store, texts):
    some = wanted(store, 0.3)
    some[:, 2], some[0, 5] = False, True
    store.frames_read = 0
    score_pairs(model, config, store, store.clip_ids, texts, some)
    assert store.frames_read == some.any(axis=0).sum() * store.identity.frames


def test_the_cost_is_told_before_the_first_pass_and_its_time_after_every_one(
    model, config, store, texts
):
    told = []
    score_pairs(model, config, store, store.clip_ids, texts, wanted(store), told.append)
    clips = len(store.clip_ids)
    pairs = TEXTS * clips
    assert {(report.pairs, report.clips) for report in told} == {(pairs, clips)}
    assert [told[0].done, told[1].done, told[-1].done] == [0, config.evaluation_questions, pairs]
    assert told[1].left_s == pytest.approx(told[1].seconds * (pairs - 5) / 5)
    assert told[-1].left_s == 0


def test_the_shortlist_is_by_the_cosine_with_the_mean_frame(store, texts):
    cosine = mean_cosine(store, store.clip_ids, texts)
    for row, text in enumerate(texts):
        for column, clip_id in enumerate(store.clip_ids):
            mean = store.read_cls([clip_id])[0].astype(np.float64).mean(0)
            slow = mean @ text / np.linalg.norm(mean) / np.linalg.norm(text)
            assert cosine[row, column] == pytest.approx(slow, abs=1e-5)
    chosen = highest(cosine, 3)
    assert (chosen.sum(axis=1) == 3).all()
    assert cosine[chosen].reshape(TEXTS, 3).min(axis=1) == pytest.approx(
        np.sort(cosine, axis=1)[:, -3]
    )
    with pytest.raises(InputError, match="ranks nothing"):
        highest(cosine, 0)


@pytest.fixture
def captions(store):
    """A caption of each clip, two of the first of each split."""
    texts = {clip_id: f"what happens in {clip_id}" for clip_id in store.clip_ids}
    rows = [
        Caption(
            caption_id=f"{clip_id}-{n}", clip_id=clip_id, text=text, split=clip_id.split("-")[0]
        )
        for clip_id, text in texts.items()
        for n in range(2 if clip_id.endswith("000") else 1)
    ]
    features = np.random.default_rng(5).standard_normal((len(texts), store.identity.dim))
    sentences = SentenceTable(
        texts=tuple(texts.values()),
        features=features.astype(np.float32),
        encoder="tiny",
        weights_sha256=store.identity.weights_sha256,
        context_length=16,
        truncated=0,
    )
    return caption_questions(rows), sentences


def test_a_run_ranks_the_clips_of_a_split_and_a_full_shortlist_changes_nothing(
    config, store, captions, tmp_path
):
    train_run(config, store, *captions, tmp_path)
    exact = retrieve_run(tmp_path, store, *captions, output=tmp_path / "scores.npz")
    assert exact.clip_ids == tuple(clip for clip in store.clip_ids if clip.startswith("test"))
    assert [exact.clip_ids[n] for n in exact.right] == [n[:-2] for n in exact.caption_ids]
    assert exact.scores.shape == (len(exact.clip_ids) + 1, len(exact.clip_ids))
    assert exact.pairs == exact.scores.size
    with np.load(tmp_path / "scores.npz", allow_pickle=False) as file:
        assert (file["scores"] == exact.scores).all()
        assert tuple(file["clip_ids"].tolist()) == exact.clip_ids
    full = retrieve_run(tmp_path, store, *captions, shortlist=len(exact.clip_ids))
    assert (full.scores == exact.scores).all()

    short = retrieve_run(tmp_path, store, *captions, shortlist=2)
    assert short.pairs == 2 * len(short.caption_ids)
    texts = captions[1].lookup([f"what happens in {n[:-2]}" for n in short.caption_ids])
    cosine = mean_cosine(store, short.clip_ids, texts)
    looked = highest(cosine, 2)
    np.testing.assert_allclose(short.scores[looked], exact.scores[looked], rtol=0, atol=2e-5)
    for row, inside in zip(short.scores, looked, strict=True):
        assert row[~inside].max() < row[inside].min()
    order = np.argsort(np.where(looked, -np.inf, cosine), axis=1)
    assert (order == np.argsort(np.where(looked, -np.inf, short.scores), axis=1)).all()


def test_a_run_that_answers_in_words_ranks_nothing(small_needle, short_config, captions, tmp_path):
    train_run(
        short_config, small_needle.store, small_needle.questions, small_needle.sentences, tmp_path
    )
    with pytest.raises(InputError, match="no matching head"):
        retrieve_run(tmp_path, small_needle.store, *captions)


def test_validation_ranks_pairs_as_retrieval_does(config, store, captions, tmp_path):
    config = replace(config, pretraining=PretrainingConfig(matching=False, masked_words=False))
    table, sentences = captions
    result = train_run(config, store, table, sentences, tmp_path)
    choices = told_apart(table.in_split("val"), config.seed)
    chosen = evaluate_run(tmp_path, store, choices, sentences, split="val", keep_logits=True)
    assert result.best_accuracy == np.mean([row.correct for row in chosen])
    found = retrieve_run(tmp_path, store, table, sentences, split="val")
    for question, row in zip(choices, chosen, strict=True):
        text = found.caption_ids.index(question.question_id)
        columns = [found.clip_ids.index(clip_id) for clip_id in question.clip_ids]
        assert row.logit == pytest.approx(found.scores[text, columns], abs=2e-5)
