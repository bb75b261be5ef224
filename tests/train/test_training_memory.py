"""Memory of a training run: it depends neither on the clips in the store nor on the steps done."""

import json
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from itertools import islice

import numpy as np
import psutil
import pytest

from benchmarks.batch_files import question_set
from benchmarks.clip_readers import ClipSize, write_store
from cache_schema import open_store
from train.batches import BatchLoader
from train.epoch_order import START, training_order
from train.run import train_run

CLIPS_PER_BATCH = 4
LARGE = ClipSize(frames=32, patches=16, dim=128)

RUN = """
import json, sys
from dataclasses import replace
from pathlib import Path
import psutil, torch
from benchmarks.batch_files import questions_about, sentences
from cache_schema import open_store
from train.config import ModelConfig, TrainConfig
from train.run import train_run

torch.set_num_threads(1)
folder, clips = Path(sys.argv[1]), int(sys.argv[2])
names = [f"clip-{number:05d}" for number in range(clips)]
questions = questions_about(names, 2)
validation = [replace(q, split="val", question_id=f"val-{q.question_id}") for q in questions[:8]]
seen = []
def on_step(report):
    if report.step in (20, 120):
        seen.append(psutil.Process().memory_info().rss)
config = TrainConfig(model=ModelConfig(selected=4, sampling_blocks=1, refinement_blocks=1, heads=4),
                     steps=120, warmup_steps=2, validate_every=60, clips_per_batch=8,
                     questions_per_clip=2, cache_in_ram="never")
train_run(config, open_store(folder / "store"), [*questions, *validation], sentences(128),
          folder / "run", on_step=on_step)
print(json.dumps(seen))
"""


def make_store(folder, clips, size):
    names = [f"clip-{number:05d}" for number in range(clips)]
    one = np.random.default_rng(0).standard_normal((1, *size.shape)).astype(np.float16)
    folder.mkdir()
    write_store(folder / "store", names, np.broadcast_to(one, (clips, *size.shape)), size)
    return names


def test_the_loader_takes_the_same_memory_from_ten_times_the_clips(tmp_path):
    size = ClipSize(frames=16, patches=16, dim=64)
    peaks = []
    for clips in (5, 50):
        names = make_store(tmp_path / str(clips), clips, size)
        asked = question_set(names, 2, size.dim)
        store = open_store(tmp_path / str(clips) / "store")
        tracemalloc.start()
        try:
            loader = BatchLoader(asked, store, clips=CLIPS_PER_BATCH, read_ahead=2, threads=2)
            order = training_order(asked.clip_of_question, 1, CLIPS_PER_BATCH, 2, START)
            for _ in loader.batches(islice(order, 30)):
                pass
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    # Three batches, and what is known of every clip, which is little beside its features.
    assert peaks[0] > 3 * CLIPS_PER_BATCH * size.bytes
    assert peaks[1] - peaks[0] < 0.1 * 45 * size.bytes


@pytest.mark.slow
def test_a_run_of_a_thousand_steps_takes_no_more_memory(
    needle, needle_config, write_features, tmp_path
):
    """A step's garbage would show: a batch of features is 50 KB, so 800 of them 40 MB."""
    store = write_features(needle.store, tmp_path / "store")
    config = replace(needle_config, steps=1000, validate_every=100, cache_in_ram="never")
    seen = {}

    def on_step(report):
        if report.step in (200, 1000):
            seen[report.step] = psutil.Process().memory_info().rss

    asked = (store, needle.questions, needle.sentences)
    train_run(config, *asked, tmp_path / "run", on_step=on_step)
    assert seen[1000] - seen[200] < 6 << 20


@pytest.mark.slow
def test_training_takes_the_same_memory_from_a_hundred_times_the_clips(tmp_path):
    first, last = [], []
    for clips in (20, 200, 2000):
        make_store(tmp_path / str(clips), clips, LARGE)
        # A process of its own: memory that another run has left is no measure.
        told = subprocess.run(
            [sys.executable, "-c", RUN, str(tmp_path / str(clips)), str(clips)],
            capture_output=True,
            text=True,
            check=True,
        )
        at_start, at_end = json.loads(told.stdout)
        first.append(at_start)
        last.append(at_end)
    store_bytes = 2000 * LARGE.bytes
    assert max(last) - last[0] < 0.1 * store_bytes
    assert all(end - start < 0.1 * store_bytes for start, end in zip(first, last, strict=True))
