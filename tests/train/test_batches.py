import threading
from itertools import islice

import numpy as np
import pytest
import torch

from train.batches import BatchLoader
from train.epoch_order import START, training_order
from train.question_set import QuestionSet
from train.vocabulary import Vocabulary


@pytest.fixture
def questions(small_needle) -> QuestionSet:
    vocabulary = Vocabulary(("one", "two", "three"))
    return QuestionSet(small_needle.questions, small_needle.sentences, vocabulary)


def order_of(questions):
    return training_order(questions.clip_of_question, 1, 3, 2, START)


def test_a_batch_holds_what_its_questions_ask_about(small_needle, questions):
    loader = BatchLoader(questions, small_needle.store, clips=3, read_ahead=2)
    expected = islice(order_of(questions), 20)
    batches = loader.batches(islice(order_of(questions), 20))
    for (at, batch), (expected_at, rows) in zip(batches, expected, strict=True):
        assert at == expected_at
        assert len(batch.cls) == len(set(questions.clip_of_question[rows].tolist()))
        for place, row in enumerate(rows):
            clip = small_needle.questions[row].clip_id
            position = batch.clip_of_pair[place]
            assert torch.equal(batch.cls[position], torch.from_numpy(small_needle.store.cls[clip]))
            assert torch.equal(
                batch.patch[position], torch.from_numpy(small_needle.store.patch[clip])
            )
        np.testing.assert_array_equal(
            batch.text, questions.text_features(questions.pairs(rows).texts)
        )
        np.testing.assert_array_equal(batch.answer, questions.answer[rows])


def test_memory_is_used_again(small_needle, questions):
    loader = BatchLoader(questions, small_needle.store, clips=3, read_ahead=2)
    places = {
        batch.patch.data_ptr() for _, batch in loader.batches(islice(order_of(questions), 12))
    }
    assert len(places) <= 3


def test_without_patches_none_are_read(small_needle, questions):
    loader = BatchLoader(questions, small_needle.store, clips=3, read_ahead=2, patches=False)
    (_, batch), *_ = loader.batches(islice(order_of(questions), 1))
    assert batch.patch.shape[2] == 0
    assert small_needle.store.frames_read == 0


def test_an_error_of_the_reading_thread_reaches_the_consumer(small_needle, questions):
    del small_needle.store.patch[small_needle.questions[0].clip_id]
    loader = BatchLoader(questions, small_needle.store, clips=3, read_ahead=2)
    with pytest.raises(KeyError, match=small_needle.questions[0].clip_id):
        list(loader.batches(islice(order_of(questions), 100)))


def test_leaving_early_ends_the_thread(small_needle, questions):
    loader = BatchLoader(questions, small_needle.store, clips=3, read_ahead=2)
    batches = loader.batches(order_of(questions))
    next(batches)
    batches.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("batch-reader")]


def test_waiting_is_counted(small_needle, questions):
    release = threading.Event()
    read = small_needle.store.read_cls

    def slow(clip_ids, out=None):
        release.wait(0.05)
        return read(clip_ids, out=out)

    small_needle.store.read_cls = slow
    loader = BatchLoader(questions, small_needle.store, clips=3, read_ahead=1)
    list(loader.batches(islice(order_of(questions), 3)))
    assert loader.waited_s > 0.1
