import numpy as np
import pytest
from torch.profiler import ProfilerActivity, profile

from train.features import ConstantFeatures, ResidentFeatures, feature_bytes, shown


@pytest.fixture
def store(small_needle):
    return small_needle.store


@pytest.fixture
def frames():
    return np.array([[0, 5], [7, 7], [23, 1]])


def test_a_copy_in_memory_reads_what_the_store_reads(store, frames):
    clips = store.clip_ids[3:9]
    copy = ResidentFeatures(store, [*clips, clips[0]])
    asked = [clips[4], clips[0], clips[4]]
    assert copy.clip_ids == clips
    assert (copy.identity, copy.version) == (store.identity, store.version)
    np.testing.assert_array_equal(copy.read_cls(asked), store.read_cls(asked))
    np.testing.assert_array_equal(copy.read_patches(asked), store.read_patches(asked))
    np.testing.assert_array_equal(
        copy.read_patches(asked, frames=frames), store.read_patches(asked, frames=frames)
    )
    np.testing.assert_array_equal(copy.frame_times(clips[0]), store.frame_times(clips[0]))


@pytest.mark.parametrize("kind", ["resident", "static"])
def test_reads_into_the_buffer_given(store, frames, kind):
    clips = store.clip_ids[:3]
    reader = (
        ResidentFeatures(store, clips)
        if kind == "resident"
        else ConstantFeatures(store, clips[0], kind)
    )
    cls, patch = np.empty_like(store.read_cls(clips)), np.empty_like(store.read_patches(clips))
    some = np.empty_like(store.read_patches(clips, frames=frames))
    reader.read_cls(clips, out=cls)
    reader.read_patches(clips, out=patch)
    reader.read_patches(clips, frames=frames, out=some)
    np.testing.assert_array_equal(cls, reader.read_cls(clips))
    np.testing.assert_array_equal(patch, reader.read_patches(clips))
    np.testing.assert_array_equal(some, reader.read_patches(clips, frames=frames))


def test_a_copy_in_memory_does_not_touch_the_store_again(store):
    copy = ResidentFeatures(store, store.clip_ids)
    read = store.frames_read
    copy.read_patches(store.clip_ids)
    assert store.frames_read == read


def test_a_read_from_memory_into_a_buffer_makes_no_copy_on_the_way(store, frames):
    clips = store.clip_ids[:3]
    copy = ResidentFeatures(store, clips)
    outs = [np.empty_like(read) for read in (copy.read_cls(clips), copy.read_patches(clips))]
    some = np.empty_like(copy.read_patches(clips, frames=frames))
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        copy.read_cls(clips, out=outs[0])
        copy.read_patches(clips, out=outs[1])
        copy.read_patches(clips, frames=frames, out=some)
    events = profiler.profiler.kineto_results.events()
    taken = [event.nbytes() for event in events if event.name() == "[memory]"]
    assert taken  # the numbers of rows
    assert max(taken) < 100 < min(some.nbytes, outs[0].nbytes)


@pytest.mark.parametrize("visual", ["static", "noise"])
def test_without_the_video_every_clip_looks_the_same(store, frames, visual):
    view = shown(store, visual)
    clips = store.clip_ids[4:7]
    cls, patch = view.read_cls(clips), view.read_patches(clips)
    assert (cls == cls[0]).all()
    assert (patch == patch[0]).all()
    some = view.read_patches(clips, frames=frames)
    np.testing.assert_array_equal(some[1, 0], patch[0, 7])
    is_real = np.array_equal(cls[0], store.cls[min(store.clip_ids)])
    assert is_real == (visual == "static")
    assert view.clip_ids == store.clip_ids
    assert (view.identity, view.version) == (store.identity, store.version)
    np.testing.assert_array_equal(view.frame_times(clips[0]), store.frame_times(clips[0]))


def test_noise_has_the_moments_of_the_clip(store):
    clip = min(store.clip_ids)
    noise = shown(store, "noise").read_patches([clip])[0].astype(float)
    real = store.patch[clip].astype(float)
    assert noise.mean() == pytest.approx(real.mean(), abs=0.1)
    assert noise.std() == pytest.approx(real.std(), rel=0.1)


def test_the_real_video_is_the_store_itself(store):
    assert shown(store, "real") is store


def test_feature_bytes_counts_cls_and_patches(store):
    clip = store.clip_ids[0]
    assert feature_bytes(store.identity, 3) == 3 * (
        store.cls[clip].nbytes + store.patch[clip].nbytes
    )
