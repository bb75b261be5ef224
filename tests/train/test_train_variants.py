"""Training from smaller variants and from imports: like any store, or refused with what is missing."""

from dataclasses import replace

import numpy as np
import pytest

from cache_schema import ClipOutcome, Status, StoreWriter, create_store, open_store
from cache_schema.errors import IdentityMismatch, InputError
from cache_schema.exchange.store_convert import convert_store, measured_loss
from train.evaluation import evaluate_run
from train.run import train_run

IMPORTED = {
    "source": "imported",
    "origin": "a test",
    "encoder": "unknown",
    "weights_sha256": "unknown",
    "frame_policy": "unknown",
}


def write(path, needle, identity, *, patches=True):
    """Puts the needle's features into a store of some identity."""
    memory = needle.store
    create_store(path, identity, block_slots=8, segment_slots=16)
    with StoreWriter(path, identity, job="test") as writer:
        for start in range(0, len(memory.clip_ids), 8):
            clips = memory.clip_ids[start : start + 8]
            claim = writer.claim(clips)
            outcomes = [
                ClipOutcome(
                    clip_id=clip,
                    status=Status.OK,
                    frame_index=np.arange(identity.frames),
                    frame_time=memory.frame_times(clip),
                    distinct_frames=identity.frames,
                )
                for clip in claim.clip_ids
            ]
            patch = memory.read_patches(clips)
            if not patches:
                patch = patch[:, :, :0]
            writer.write_block(claim, outcomes, memory.read_cls(clips), patch)
        writer.compact()
    return open_store(path)


@pytest.mark.parametrize(
    "options", [{"int8": True}, {"pool": (2, 1)}, {"pool": (1, 1), "int8": True}], ids=str
)
@pytest.mark.parametrize("cache_in_ram", ["always", "never"])
def test_a_variant_trains_and_evaluates(
    small_needle, short_config, tmp_path, options, cache_in_ram
):
    whole = write(tmp_path / "whole", small_needle, small_needle.store.identity)
    convert_store(whole, tmp_path / "small", **options)
    store = open_store(tmp_path / "small")
    config = replace(short_config, cache_in_ram=cache_in_ram)
    asked = (small_needle.questions, small_needle.sentences)
    result = train_run(config, store, *asked, tmp_path / "run")
    assert result.steps == config.steps
    found = evaluate_run(tmp_path / "run", store, *asked)
    assert len(found) == sum(q.split == "test" for q in small_needle.questions)
    with pytest.raises(IdentityMismatch, match=r"(quantised|pool): "):
        evaluate_run(tmp_path / "run", whole, *asked)


def test_int8_trains_like_the_original(small_needle, short_config, tmp_path):
    """The same run on features whose loss is small ends at nearly the same weights."""
    whole = write(tmp_path / "whole", small_needle, small_needle.store.identity)
    convert_store(whole, tmp_path / "small", int8=True)
    small = open_store(tmp_path / "small")
    assert measured_loss(small).min_cosine >= 0.999
    config = replace(short_config, model=replace(short_config.model, sampler="uniform"))
    answers = []
    for store in (whole, small):
        run_dir = tmp_path / store.identity.name
        train_run(config, store, small_needle.questions, small_needle.sentences, run_dir)
        predictions = evaluate_run(run_dir, store, small_needle.questions, small_needle.sentences)
        answers.append([prediction.predicted for prediction in predictions])
    same = np.mean([a == b for a, b in zip(*answers, strict=True)])
    assert same >= 0.9


def test_unknown_features_are_trained_on_only_when_asked_to(
    small_needle, short_config, make_identity, tmp_path
):
    store = write(tmp_path / "store", small_needle, make_identity(**IMPORTED))
    asked = (store, small_needle.questions, small_needle.sentences)
    with pytest.raises(
        InputError, match=r"encoder, weights_sha256, frame_policy .*allow-unknown-identity"
    ):
        train_run(short_config, *asked, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    config = replace(short_config, allow_unknown_identity=True)
    assert train_run(config, *asked, tmp_path / "run").steps == config.steps
    # Features from elsewhere are other features, though as much is unknown of them.
    other = make_identity(**{**IMPORTED, "origin": "elsewhere"})
    elsewhere = write(tmp_path / "other", small_needle, other)
    with pytest.raises(IdentityMismatch, match="origin: 'a test' here, 'elsewhere' there"):
        evaluate_run(tmp_path / "run", elsewhere, *asked[1:])


def test_a_store_without_patches_trains_what_reads_none(
    small_needle, short_config, make_identity, tmp_path
):
    identity = make_identity(source="imported", origin="a test", patches=0)
    store = write(tmp_path / "store", small_needle, identity, patches=False)
    asked = (store, small_needle.questions, small_needle.sentences)
    with pytest.raises(InputError, match=r"'videodistill' reads patch features.*mean_frame"):
        train_run(short_config, *asked, tmp_path / "run")
    config = replace(short_config, method="mean_frame")
    assert train_run(config, *asked, tmp_path / "run").steps == config.steps
    assert len(evaluate_run(tmp_path / "run", *asked)) > 0


def test_questions_of_another_encoder_are_refused(small_needle, short_config, tmp_path):
    sentences = replace(small_needle.sentences, weights_sha256="0" * 64)
    with pytest.raises(InputError, match="both must come from one CLIP"):
        train_run(
            short_config, small_needle.store, small_needle.questions, sentences, tmp_path / "run"
        )


def test_frames_of_unknown_time_are_no_hit_and_no_miss(small_needle, short_config, tmp_path):
    small_needle.store.frame_times = lambda _: np.full(24, np.nan)
    asked = (small_needle.store, small_needle.questions, small_needle.sentences)
    train_run(short_config, *asked, tmp_path / "run")
    predictions = evaluate_run(tmp_path / "run", *asked)
    assert all(p.frame_index and not p.frame_time for p in predictions)
