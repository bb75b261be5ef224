from dataclasses import replace

import numpy as np
import pytest
import torch

from cache_schema import ClipOutcome, Status, StoreWriter, create_store, open_store
from train.checkpoint import read_checkpoint
from train.evaluation import evaluate_run
from train.run import train_run
from train.run_state import LAST


@pytest.fixture
def written(small_needle, tmp_path):
    """The small needle's features in a real store on disk."""
    memory = small_needle.store
    create_store(tmp_path / "store", memory.identity, block_slots=8, segment_slots=16)
    with StoreWriter(tmp_path / "store", memory.identity, job="test") as writer:
        for start in range(0, len(memory.clip_ids), 8):
            claim = writer.claim(memory.clip_ids[start : start + 8])
            outcomes = [
                ClipOutcome(
                    clip_id=clip,
                    status=Status.OK,
                    frame_index=np.arange(memory.identity.frames),
                    frame_time=memory.frame_times(clip),
                    distinct_frames=memory.identity.frames,
                )
                for clip in claim.clip_ids
            ]
            clips = list(claim.clip_ids)
            writer.write_block(claim, outcomes, memory.read_cls(clips), memory.read_patches(clips))
        writer.compact()
    return open_store(tmp_path / "store")


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
