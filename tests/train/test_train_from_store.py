from dataclasses import replace

import pytest
import torch

from train.checkpoint import read_checkpoint
from train.evaluation import evaluate_run
from train.run import train_run
from train.run_state import LAST


@pytest.fixture
def written(small_needle, write_features, tmp_path):
    """The small needle's features in a real store on disk."""
    return write_features(small_needle.store, tmp_path / "store")


def test_a_store_on_disk_trains_and_evaluates_like_the_same_features_in_memory(
    small_needle, short_config, written, tmp_path
):
    config = replace(short_config, cache_in_ram="never")
    results = {}
    for name, store in (("memory", small_needle.store), ("disk", written)):
        asked = (store, small_needle.questions, small_needle.sentences)
        train_run(config, *asked, tmp_path / name)
        state = read_checkpoint(tmp_path / name / LAST)
        results[name] = state.tensors, evaluate_run(tmp_path / name, *asked)
    memory, disk = results["memory"], results["disk"]
    assert all(torch.equal(memory[0][name], disk[0][name]) for name in memory[0])
    assert memory[1] == disk[1]
