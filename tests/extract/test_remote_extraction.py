"""The whole job, from videos to a store in an object store."""

from pathlib import Path

import numpy as np
import pytest

from cache_schema import Clip, StoreUnreachable, open_store, verify_store
from cache_schema.storage import object_storage
from cache_schema.storage.storage import open_storage
from extract.encoder_spec import EncoderSpec
from extract.job import JobOptions, plan_extraction, run_extraction
from extract.progress import describe

FRAMES = 24
ONE_DECODER = JobOptions(decoders=1, batch_frames=8)


@pytest.fixture(scope="module")
def clips(encode_video, tmp_path_factory: pytest.TempPathFactory) -> list[Clip]:
    folder = tmp_path_factory.mktemp("videos")
    made = [
        Clip(clip_id=f"v{frames}", path=encode_video(folder / f"v{frames}.mp4", frames))
        for frames in (3, 8, 12, 20)
    ]
    return [*made, Clip(clip_id="none", path=folder / "none.mp4")]


@pytest.fixture(scope="module")
def local(clips: list[Clip], tiny_spec: EncoderSpec, tmp_path_factory) -> Path:
    store = tmp_path_factory.mktemp("local") / "store"
    run_extraction(clips, store, tiny_spec, frames=FRAMES, workers=0, options=ONE_DECODER)
    return store


def shards(location: str | Path) -> dict[str, bytes]:
    storage = open_storage(location)
    return {file.key: storage.read(file.key) for file in storage.walk() if "/c." in file.key}


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "workers",
    [pytest.param(0, id="in this process"), pytest.param(1, id="dask", marks=pytest.mark.slow)],
)
def test_it_makes_the_bytes_of_a_local_store(
    clips, local: Path, tiny_spec: EncoderSpec, bucket_url: str, in_folder: Path, workers: int
) -> None:
    plan = plan_extraction(clips, bucket_url, tiny_spec, frames=FRAMES)
    assert plan.bytes_free is None
    assert describe(plan).endswith("MB needed")
    tally = run_extraction(
        clips, bucket_url, tiny_spec, frames=FRAMES, workers=workers, options=ONE_DECODER
    )
    assert (tally.ok, tally.failed, tally.left) == (4, 1, 0)
    name = bucket_url.rpartition("/")[2]
    assert "missing_file" in (in_folder / f"{name}.failures.csv").read_text()
    assert shards(bucket_url) == shards(local)
    assert verify_store(bucket_url) == []
    ids = [f"v{frames}" for frames in (20, 3)]
    for cache in (None, in_folder / "cache"):
        there, here = open_store(bucket_url, cache=cache), open_store(local)
        np.testing.assert_array_equal(there.read_patches(ids), here.read_patches(ids))
        np.testing.assert_array_equal(there.read_cls(ids), here.read_cls(ids))
    again = run_extraction(clips, bucket_url, tiny_spec, frames=FRAMES, options=ONE_DECODER)
    assert (again.ok, again.skipped, again.failed_before) == (0, 5, 1)


def test_cut_connections_are_survived_by_retry_and_by_another_run(
    clips,
    local: Path,
    tiny_spec: EncoderSpec,
    bucket_url: str,
    cutting_proxy,
    in_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def run() -> None:
        run_extraction(clips, bucket_url, tiny_spec, frames=FRAMES, workers=0, options=ONE_DECODER)

    # A patch shard has 5 KB here, more than any other request before it.
    with monkeypatch.context() as impatient:
        impatient.setattr(object_storage, "_WAITS_S", ())
        cutting_proxy.arm(4000, times=10**6)
        with pytest.raises(StoreUnreachable, match=r"seg-000000/patch/c\.\d+\.0\.0\.0"):
            run()
    assert cutting_proxy.cuts > 0
    storage = open_storage(bucket_url)
    assert [key for key in shards(bucket_url) if "/patch/" in key] == []
    assert len(open_store(bucket_url)) == 0
    cutting_proxy.arm(4000, times=2)
    run()
    assert open_store(bucket_url).clip_ids == open_store(local).clip_ids
    assert verify_store(bucket_url) == []
    here, there = shards(local), shards(bucket_url)
    assert sorted(here.values()) == sorted(there.values())
    assert {f.age_s >= -2 for f in storage.walk()} == {True}
