"""What `videodistill extract --recipe` does and prints."""

import sys
from pathlib import Path

from cache_schema import InputError
from cache_schema.sharing.recipe import read_recipe
from extract.progress import describe, progress_for
from pipelines.clip_progress import clip_progress
from pipelines.recipe_extraction import RecipeJob, recipe_job
from pipelines.store_report import print_check, print_line, print_lines

_SHOWN = 5


def extract_recipe(
    recipe: Path,
    *,
    dataset: str | None,
    videos: Path | None,
    out: str | None,
    weights: Path | None,
    model_config: Path | None,
    tag: str | None,
    workers: int | None,
    backend: str,
    dry_run: bool,
) -> int:
    """Extracts a recipe's clips and tells how the store compares.

    Args:
        recipe: the recipe's file.
        dataset: must be None, for a recipe names its own clips.
        videos: folder of the videos.
        out: the store; made if absent.
        weights: the encoder's weights.
        model_config: architecture of a model that open_clip does not know.
        tag: open_clip's name of the published weights, where it needs one.
        workers: worker processes.
        backend: decoder to try first.
        dry_run: say what would be done, and write nothing.

    Returns:
        0 if every clip of the recipe is the same in the store, else 1.

    Raises:
        InputError: options are missing or contradict each other; or as ``recipe_job``.
        IdentityMismatch: the encoder does not make the recipe's features.
    """
    if dataset is not None:
        raise InputError("A recipe names its own clips: give no data set beside --recipe.")
    if videos is None or out is None:
        raise InputError("--recipe needs --videos, the videos' folder, and --out, the new store.")
    job = recipe_job(
        read_recipe(recipe),
        videos,
        weights=weights,
        model_config=model_config,
        pretrained_tag=tag,
        backend=backend,
    )
    print_lines(_warnings(job, videos))
    if dry_run:
        print_line(f"{out}: {describe(job.plan(out))}")
        return 0
    with clip_progress("comparing") as on_clip:
        tally, check = job.run(
            out, workers=workers, progress=progress_for(sys.stderr), on_clip=on_clip
        )
    print_lines(f"  failed: {f.clip_id}: {f.reason}: {f.detail}" for f in tally.failures)
    print_check(check)
    return 0 if check.same else 1


def _warnings(job: RecipeJob, videos: Path) -> list[str]:
    found = {
        f"have no video in {videos}": job.absent,
        "have a video of another size than the recipe's": job.other_size,
    }
    return [
        f"{len(ids)} clips {what}: {', '.join(ids[:_SHOWN])}{', ...' if len(ids) > _SHOWN else ''}"
        for what, ids in found.items()
        if ids
    ]
