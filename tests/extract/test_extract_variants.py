"""Extraction straight into a smaller variant gives, bit for bit, what converting gives."""

import pytest

from cache_schema import Clip, IdentityMismatch, InputError, open_store, verify_store
from cache_schema.exchange.store_convert import convert_store, measured_loss
from extract.job import JobOptions, plan_extraction, run_extraction

FRAMES = 4


@pytest.fixture(scope="module")
def clips(tmp_path_factory, encode_video):
    folder = tmp_path_factory.mktemp("videos")
    for frames in (3, 9):
        encode_video(folder / f"v{frames}.mp4", frames)
    (folder / "text.mp4").write_text("not a video" * 100)
    return [Clip(clip_id=name, path=folder / f"{name}.mp4") for name in ("v3", "v9", "text")]


@pytest.mark.parametrize(
    "workers",
    [
        pytest.param(0, id="in this process"),
        pytest.param(1, id="dask", marks=pytest.mark.slow),
    ],
)
def test_a_variant_extracted_is_the_one_converted(clips, tiny_spec, tmp_path, workers):
    plain = JobOptions(decoders=1, batch_frames=4)
    small = JobOptions(decoders=1, batch_frames=4, pool=(1, 2), int8=True)
    run_extraction(clips, tmp_path / "whole", tiny_spec, frames=FRAMES, options=plain)
    tally = run_extraction(
        clips, tmp_path / "small", tiny_spec, frames=FRAMES, workers=workers, options=small
    )
    assert (tally.ok, tally.failed) == (2, 1)
    convert_store(open_store(tmp_path / "whole"), tmp_path / "converted", pool=(1, 2), int8=True)
    extracted, converted = open_store(tmp_path / "small"), open_store(tmp_path / "converted")
    assert extracted.identity == converted.identity
    columns = ["clip_id", "status", "patch_digest", "loss"]
    assert extracted.manifest(columns).to_pylist() == converted.manifest(columns).to_pylist()
    assert measured_loss(extracted) is not None
    assert verify_store(tmp_path / "small") == []
    # A conversion can be gone on with by extracting: the store is the same.
    again = run_extraction(
        clips, tmp_path / "converted", tiny_spec, frames=FRAMES, options=small, retry_failed=True
    )
    assert (again.ok, again.failed) == (0, 1)


def test_a_plan_knows_the_smaller_size(clips, tiny_spec, tmp_path):
    sizes = [
        plan_extraction(clips, tmp_path / "s", tiny_spec, frames=FRAMES, options=options)
        for options in (JobOptions(), JobOptions(int8=True))
    ]
    assert sizes[1].bytes_needed < sizes[0].bytes_needed
    assert sizes[1].identity == sizes[0].identity.reduced(int8=True)


def test_what_cannot_be_reduced_is_refused_before_anything_is_made(clips, tiny_spec, tmp_path):
    with pytest.raises(InputError, match="cannot be pooled to 99x99"):
        run_extraction(
            clips, tmp_path / "s", tiny_spec, frames=FRAMES, options=JobOptions(pool=(99, 99))
        )
    assert not (tmp_path / "s").exists()


def test_a_variant_is_not_written_into_the_whole(clips, tiny_spec, tmp_path):
    run_extraction(clips[:1], tmp_path / "s", tiny_spec, frames=FRAMES)
    with pytest.raises(IdentityMismatch, match="quantised: 'int8-token' here, 'none' there"):
        run_extraction(
            clips, tmp_path / "s", tiny_spec, frames=FRAMES, options=JobOptions(int8=True)
        )
