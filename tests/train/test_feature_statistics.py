import numpy as np
import pytest
import torch

from train.feature_statistics import fit_standardisation
from train.model.standardisation import Standardisation
from train.question_set import QuestionSet
from train.vocabulary import Vocabulary


@pytest.fixture
def questions(small_needle) -> QuestionSet:
    training = [question for question in small_needle.questions if question.split == "train"]
    return QuestionSet(training, small_needle.sentences, Vocabulary(("one",)))


def test_moments_of_the_training_clips_and_questions(small_needle, questions):
    model = Standardisation(32)
    fit_standardisation(model, small_needle.store, questions, clips=100, seed=0)
    cls = np.concatenate([small_needle.store.cls[clip] for clip in questions.clip_ids])
    patch = np.concatenate([small_needle.store.patch[clip] for clip in questions.clip_ids])
    patch = patch.reshape(-1, 32)
    for found, rows in (
        ((model.cls_mean, model.cls_std), cls.astype(np.float64)),
        ((model.patch_mean, model.patch_std), patch.astype(np.float64)),
    ):
        np.testing.assert_allclose(found[0], rows.mean(0), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found[1], rows.std(0), rtol=1e-5)
    text = questions.text_features(questions.pairs(np.arange(len(questions))).texts)
    np.testing.assert_allclose(model.text_mean, text.mean(0), rtol=1e-4, atol=1e-6)


def test_other_splits_are_not_read(small_needle, questions):
    for clip in list(small_needle.store.cls):
        if not clip.startswith("train"):
            del small_needle.store.cls[clip], small_needle.store.patch[clip]
    fit_standardisation(Standardisation(32), small_needle.store, questions, clips=100, seed=0)


def test_reads_no_more_clips_than_asked(small_needle, questions):
    fit_standardisation(Standardisation(32), small_needle.store, questions, clips=5, seed=0)
    assert small_needle.store.frames_read == 5 * small_needle.store.identity.frames


def test_a_constant_dimension_is_not_divided_by_zero(small_needle, questions):
    for cls in small_needle.store.cls.values():
        cls[:, 3] = 1.0
    model = Standardisation(32)
    fit_standardisation(model, small_needle.store, questions, clips=100, seed=0)
    assert model.cls_std[3] > 0
    assert model.cls(model.cls_mean)[3] == 0


def test_whitened_questions_are_uncorrelated(small_needle, questions):
    model = Standardisation(32, whiten_text=True)
    fit_standardisation(model, small_needle.store, questions, clips=5, seed=0)
    text = questions.text_features(questions.pairs(np.arange(len(questions))).texts)
    centred = text - text.mean(0, dtype=np.float64)
    strong = np.linalg.svd(centred, full_matrices=False)[2][:2]
    rows = model.text_rows(torch.from_numpy(text), torch.from_numpy(text))[:, 1].numpy()
    assert abs(rows.mean(0)).max() < 1e-3
    covariance = np.cov((rows @ strong.T).T, bias=True)
    np.testing.assert_allclose(covariance, np.diag(np.diag(covariance)), atol=1e-3)
    assert (np.diag(covariance) <= 1.001).all()
    assert np.diag(covariance)[0] > 0.9


def test_questions_that_are_all_the_same_whiten_nothing(small_needle, questions, monkeypatch):
    monkeypatch.setattr(questions, "text_features", lambda texts: np.ones((len(texts), 32)))
    model = Standardisation(32, whiten_text=True)
    fit_standardisation(model, small_needle.store, questions, clips=5, seed=0)
    assert model.text_whitening.isfinite().all()
