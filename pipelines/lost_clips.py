"""Extracting clips again whose features a store has lost, into a store that repair takes them from."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from cache_schema import FeatureStore
from cache_schema.sharing.recipe import Recipe, RecipeClip
from extract.job import run_extraction
from extract.progress import ProgressDisplay
from extract.tally import Tally
from pipelines.encoders import EncoderFiles
from pipelines.recipe_extraction import RecipeJob, recipe_job


def extraction_of_lost(
    store: FeatureStore, clip_ids: Sequence[str], videos: Path, encoder: EncoderFiles
) -> RecipeJob:
    """Finds encoder and videos of lost clips; nothing is decoded or written.

    Args:
        store: the store; its manifest tells which part of which video a clip is.
        clip_ids: the clips.
        videos: folder of the videos.
        encoder: where the encoder is.

    Raises:
        IdentityMismatch: the encoder does not make the store's features.
        InputError: weights or videos are not there, or the features were imported.
    """
    outcomes = [store.outcome(clip_id) for clip_id in sorted(clip_ids)]
    recipe = Recipe(
        identity=store.identity,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        software="videodistill-cache",
        version=store.version,
        clips=tuple(
            RecipeClip(
                clip_id=outcome.clip_id,
                source_path=outcome.source_path,
                source_bytes=outcome.source_bytes,
                source_digest=outcome.source_digest,
                start_s=outcome.start_s,
                end_s=outcome.end_s,
                backend=outcome.backend,
                reason="damaged",
                cls_digest="",
                patch_digest="",
            )
            for outcome in outcomes
        ),
    )
    return recipe_job(
        recipe,
        videos,
        weights=encoder.weights,
        model_config=encoder.model_config,
        pretrained_tag=encoder.pretrained_tag,
    )


def extract_lost(job: RecipeJob, target: str, progress: ProgressDisplay | None) -> Tally:
    """Extracts what ``extraction_of_lost`` found into a store, made if absent; may be repeated."""
    return run_extraction(
        job.clips,
        target,
        job.spec,
        frames=job.recipe.identity.frames,
        progress=progress,
        options=job.options,
    )
