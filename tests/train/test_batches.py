import threading
import tracemalloc
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch

from benchmarks.batch_files import question_set
from benchmarks.clip_readers import ClipSize, write_store
from cache_schema import open_store
from train.batches import BatchLoader
from train.epoch_order import START, training_order
from train.features import ResidentFeatures, feature_bytes
from train.question_set import QuestionSet
from train.vocabulary import Vocabulary


@pytest.fixture
def questions(small_needle) -> QuestionSet:
    vocabulary = Vocabulary(("one", "two", "three"))
    return QuestionSet(small_needle.questions, small_needle.sentences, vocabulary)


def order_of(questions):
    return training_order(questions.clip_of_question, 1, 3, 2, START)


def check(batch, rows, needle, questions):
    """A batch holds, each clip once, what its questions ask about."""
    assert len(batch.cls) == len(set(questions.clip_of_question[rows].tolist()))
    for place, row in enumerate(rows):
        clip = needle.questions[row].clip_id
        position = batch.clip_of_pair[place]
        assert torch.equal(batch.cls[position].cpu(), torch.from_numpy(needle.store.cls[clip]))
        assert torch.equal(batch.patch[position].cpu(), torch.from_numpy(needle.store.patch[clip]))
    text = questions.text_features(questions.pairs(rows).texts)
    np.testing.assert_array_equal(batch.text.cpu(), text)
    np.testing.assert_array_equal(batch.answer.cpu(), questions.answer[rows])
    assert batch.question_ids == questions.ids(rows)


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("resident", [False, True], ids=["store", "resident"])
def test_a_batch_holds_what_its_questions_ask_about(small_needle, questions, threads, resident):
    store = small_needle.store
    reader = ResidentFeatures(store, store.clip_ids) if resident else store
    loader = BatchLoader(questions, reader, clips=3, read_ahead=2, threads=threads)
    expected = islice(order_of(questions), 20)
    batches = loader.batches(islice(order_of(questions), 20))
    for (at, batch), (expected_at, rows) in zip(batches, expected, strict=True):
        assert at == expected_at
        check(batch, rows, small_needle, questions)


@pytest.mark.gpu
@pytest.mark.parametrize("resident", [False, True], ids=["store", "resident"])
def test_batches_come_to_a_gpu(small_needle, questions, resident):
    device, store = torch.device("cuda"), small_needle.store
    reader = ResidentFeatures(store, store.clip_ids, device) if resident else store
    loader = BatchLoader(questions, reader, clips=3, read_ahead=2, threads=4, device=device)
    order = list(islice(order_of(questions), 50))
    for rows, batch in loader.batches((rows, rows) for _, rows in order):
        assert batch.patch.device.type == "cuda"
        check(batch, rows, small_needle, questions)


@pytest.mark.gpu
@pytest.mark.parametrize("resident", [False, True], ids=["store", "resident"])
def test_a_gpu_that_lags_behind_still_sees_its_own_batch(small_needle, questions, resident):
    """Each batch is looked at long after the host went on, and the first order is left early."""
    device, store = torch.device("cuda"), small_needle.store
    reader = ResidentFeatures(store, store.clip_ids, device) if resident else store
    loader = BatchLoader(questions, reader, clips=3, read_ahead=1, threads=4, device=device)
    order, seen = [rows for _, rows in islice(order_of(questions), 12)], []
    for some in (order[:1], order[1:]):
        batches = loader.batches((rows, rows) for rows in [*some, *order[:2]])
        for rows, batch in islice(batches, len(some)):
            torch.cuda._sleep(50_000_000)  # cycles: some 30 ms, in which all reading could end
            seen.append((rows, replace(batch, cls=batch.cls.clone(), patch=batch.patch.clone())))
        batches.close()
    assert len(seen) == 12
    for rows, batch in seen:
        check(batch, rows, small_needle, questions)


def test_batches_are_on_the_device_asked_for(small_needle, questions):
    """The device that computes nothing stands for any that is not the host."""
    device = torch.device("meta")
    loader = BatchLoader(questions, small_needle.store, clips=3, read_ahead=1, device=device)
    for _, batch in loader.batches(islice(order_of(questions), 3)):
        tensors = (batch.cls, batch.patch, batch.text, batch.clip_of_pair, batch.answer)
        assert {tensor.device for tensor in tensors} == {device}


@pytest.mark.parametrize(
    ("batches_of_memory", "memories"),
    [(0, 1), (0.9, 1), (1, 1), (2.5, 2), (100, 4), (None, 4)],
)
def test_reading_ahead_keeps_to_its_memory(small_needle, questions, batches_of_memory, memories):
    limit = None
    if batches_of_memory is not None:
        limit = int(batches_of_memory * feature_bytes(small_needle.store.identity, 3))
    loader = BatchLoader(
        questions, small_needle.store, clips=3, read_ahead=3, read_ahead_bytes=limit, threads=2
    )
    seen = set()
    for _ in range(2):  # the memories stay for the next order
        order = list(islice(order_of(questions), 12))
        for rows, batch in loader.batches((rows, rows) for _, rows in order):
            seen.add(batch.patch.data_ptr())
            check(batch, rows, small_needle, questions)
    assert len(seen) == memories


def test_no_batch_allocates_room_for_features(tmp_path):
    size, names = ClipSize(frames=40, patches=49, dim=128), [f"clip-{n}" for n in range(12)]
    features = np.random.default_rng(0).standard_normal((12, *size.shape)).astype(np.float16)
    write_store(tmp_path / "store", names, features, size)
    asked = question_set(names, 4, size.dim)
    loader = BatchLoader(asked, open_store(tmp_path / "store"), clips=6, read_ahead=2, threads=2)
    batches = loader.batches(training_order(asked.clip_of_question, 1, 6, 4, START))
    for _ in islice(batches, 4):
        pass
    tracemalloc.start()
    try:
        for _, batch in islice(batches, 10):
            assert len(batch.patch) == 6
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        batches.close()
    assert peak < 0.5 * size.bytes


def test_without_patches_none_are_read(small_needle, questions):
    loader = BatchLoader(questions, small_needle.store, clips=3, read_ahead=2, patches=False)
    (_, batch), *_ = loader.batches(islice(order_of(questions), 1))
    assert batch.patch.shape[2] == 0
    assert small_needle.store.frames_read == 0


@pytest.mark.parametrize("threads", [1, 4])
def test_an_error_of_a_reading_thread_reaches_the_consumer(small_needle, questions, threads):
    del small_needle.store.patch[small_needle.questions[0].clip_id]
    loader = BatchLoader(questions, small_needle.store, clips=3, read_ahead=2, threads=threads)
    with pytest.raises(KeyError, match=small_needle.questions[0].clip_id):
        list(loader.batches(islice(order_of(questions), 100)))


def test_leaving_early_ends_the_threads(small_needle, questions):
    loader = BatchLoader(questions, small_needle.store, clips=3, read_ahead=2, threads=3)
    batches = loader.batches(order_of(questions))
    next(batches)
    assert [t for t in threading.enumerate() if t.name.startswith("batch-reader")]
    batches.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("batch-reader")]


def test_several_clips_are_read_at_a_time(small_needle, questions):
    """Every reading thread waits for another one, so that one alone would wait for ever."""
    barrier = threading.Barrier(2, timeout=20)
    read = small_needle.store.read_cls

    def together(clip_ids, out=None):
        barrier.wait()
        return read(clip_ids, out=out)

    small_needle.store.read_cls = together
    loader = BatchLoader(questions, small_needle.store, clips=4, read_ahead=1, threads=2)
    rows = np.flatnonzero(questions.clip_of_question < 4)
    ((_, batch),) = loader.batches([(None, rows)])
    assert len(batch.cls) == 4


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
