import numpy as np
import pytest
import torch

from train.features import ResidentFeatures
from train.selected_frames import SelectedFrames

CPU = torch.device("cpu")


@pytest.fixture
def store(small_needle):
    return small_needle.store


def selections(store, pairs, selected, seed=0):
    """Clips, some of them the same, and frames of each, some of them the same."""
    random = np.random.default_rng(seed)
    clips = [store.clip_ids[n] for n in random.integers(5, size=pairs)]
    return clips, random.integers(store.identity.frames, size=(pairs, selected))


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("resident", [False, True], ids=["store", "resident"])
def test_reads_what_the_store_reads(store, threads, resident):
    reader = ResidentFeatures(store, store.clip_ids) if resident else store
    frames = SelectedFrames(reader, device=CPU, threads=threads)
    for seed, pairs in enumerate([7, 1, 12, 3]):  # fewer and more than what there is room for
        clips, index = selections(store, pairs, 4, seed)
        with torch.inference_mode(seed % 2 == 0):
            found = frames.read(clips, index)
        np.testing.assert_array_equal(found.numpy(), store.read_patches(clips, frames=index))


def test_a_frame_that_several_questions_select_is_read_once(store):
    clips, index = selections(store, 40, 6)
    SelectedFrames(store, device=CPU, threads=1).read(clips, index)
    pairs = {(clip, frame) for clip, row in zip(clips, index, strict=True) for frame in row}
    assert store.frames_read == len(pairs) < index.size


def test_memory_is_used_again(store):
    frames = SelectedFrames(store, device=CPU, threads=2)
    first = frames.read(*selections(store, 9, 4)).data_ptr()
    assert {frames.read(*selections(store, 9, 4, seed)).data_ptr() for seed in range(4)} == {first}


def test_frames_are_on_the_device_asked_for(store):
    frames = SelectedFrames(store, device=torch.device("meta"), threads=2)
    found = frames.read(*selections(store, 3, 4))
    assert found.device.type == "meta"
    assert found.shape == (3, 4, store.identity.patches, store.identity.dim)


def test_an_error_of_a_reading_thread_reaches_the_caller(store):
    clips, index = selections(store, 9, 4)
    del store.patch[clips[0]]
    with pytest.raises(KeyError, match=clips[0]):
        SelectedFrames(store, device=CPU, threads=2).read(clips, index)
