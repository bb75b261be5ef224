"""How many bytes training and evaluation take from the store's files: counted where they are read."""

import os

import numpy as np
import pytest
import torch

from benchmarks.batch_files import ANSWERS, question_set, questions_about, sentences
from benchmarks.clip_readers import ClipSize, write_store
from cache_schema import open_store
from cache_schema.shards import shard_file
from train.batches import BatchLoader
from train.config import ModelConfig, TrainConfig
from train.epoch_order import epoch_batches, evaluation_batches
from train.evaluation import Predictor
from train.methods import build_model, sizes_of
from train.question_set import QuestionSet
from train.vocabulary import Vocabulary


class Counter:
    """Stands in for `os` where shards are read, and adds up what the files gave."""

    def __init__(self) -> None:
        self.bytes = 0

    def __getattr__(self, name):
        return getattr(os, name)

    def preadv(self, descriptor, buffers, offset):
        count = os.preadv(descriptor, buffers, offset)
        self.bytes += count
        return count

    def pread(self, descriptor, size, offset):
        content = os.pread(descriptor, size, offset)
        self.bytes += len(content)
        return content


@pytest.fixture
def counter(monkeypatch) -> Counter:
    counter = Counter()
    monkeypatch.setattr(shard_file, "os", counter)
    return counter


def make_store(folder, clips, size):
    names = [f"clip-{number:03d}" for number in range(clips)]
    features = np.random.default_rng(0).standard_normal((clips, *size.shape), np.float32)
    write_store(folder / "store", names, features.astype(np.float16), size)
    return names


def bytes_of(size, frames):
    """What some frames of a clip's patches take in a file, with their checksums."""
    return frames * (2 * size.patches * size.dim + 4)


def test_evaluation_reads_a_fifth_of_the_bytes_and_answers_the_same(tmp_path, counter):
    size = ClipSize(frames=100, patches=49, dim=32)
    names = make_store(tmp_path, 6, size)
    asked = QuestionSet(questions_about(names, 1), sentences(size.dim), Vocabulary(ANSWERS))
    config = TrainConfig(
        model=ModelConfig(selected=16, heads=4), evaluation_questions=3, read_threads=1
    )
    store = open_store(tmp_path / "store")
    torch.manual_seed(0)
    model = build_model(config, sizes_of(store.identity), len(ANSWERS)).eval()

    whole, order = [], evaluation_batches(asked.clip_of_question, 3)
    loader = BatchLoader(asked, store, clips=3, read_ahead=1)
    with torch.inference_mode():
        for _, batch in loader.batches((None, rows) for rows in order):
            clips = (batch.cls, batch.patch, batch.text, batch.clip_of_pair)
            whole += model(*clips, tau=config.tau_end).logits.tolist()
    of_all_frames, counter.bytes = counter.bytes, 0

    store = open_store(tmp_path / "store")
    lazy = Predictor(config, asked, store, Vocabulary(ANSWERS), keep_logits=True).predict(model)
    assert [list(row.logit) for row in lazy] == whole
    assert counter.bytes <= 0.2 * of_all_frames
    # Exactly: the frames that were selected, all CLS features, and every file's index once.
    different = sum(len(set(row.frame_index)) for row in lazy)
    rest = of_all_frames - len(names) * bytes_of(size, 100)
    assert counter.bytes == bytes_of(size, different) + rest


@pytest.mark.parametrize(
    ("about_a_clip", "group", "readings"), [(4, 2, 2), (4, 4, 1), (5, 4, 2), (2, 4, 1)]
)
def test_grouped_questions_divide_the_bytes_of_an_epoch(
    tmp_path, counter, about_a_clip, group, readings
):
    """A clip is read once a group, however full the last one is."""
    size = ClipSize(frames=4, patches=2, dim=8)
    names = make_store(tmp_path, 60, size)
    asked = question_set(names, about_a_clip, size.dim)
    store = open_store(tmp_path / "store")
    store.read_patches(names)  # the files' indexes are read once, whatever follows
    store.read_cls(names)
    read = {}
    for questions_per_clip in (1, group):
        order = epoch_batches(asked.clip_of_question, 1, 0, 2, questions_per_clip)
        loader = BatchLoader(asked, store, clips=2, read_ahead=2)
        counter.bytes = 0
        for _ in loader.batches((None, rows) for rows in order):
            pass
        read[questions_per_clip] = counter.bytes
    assert read[1] / read[group] == pytest.approx(about_a_clip / readings, rel=0.05)
    clip = bytes_of(size, size.frames) + 2 * size.frames * size.dim + 4
    assert read[group] == pytest.approx(len(names) * readings * clip, rel=0.05)
