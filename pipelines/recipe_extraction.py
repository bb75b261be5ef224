"""Extracting a store again from a recipe: the same encoder, the same clips, compared at the end."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast, get_args

from cache_schema import Clip, IdentityMismatch, InputError, open_store
from cache_schema.identity import FeatureIdentity
from cache_schema.shards.patch_grid import Pooling
from cache_schema.sharing.recipe import Recipe, RecipeClip
from cache_schema.sharing.recipe_check import RecipeCheck, check_recipe
from extract.encoder_spec import EncoderSpec, identity_of
from extract.frame_request import Backend
from extract.job import JobOptions, plan_extraction, run_extraction
from extract.plan import ExtractionPlan
from extract.progress import ProgressDisplay
from extract.tally import Tally
from pipelines.datasets.demo.encoder_files import CONFIG_PATH, WEIGHTS_PATH

DEMO_ENCODER = "demo-clip"


@dataclass(frozen=True, kw_only=True, slots=True)
class RecipeJob:
    """What is needed to extract a recipe's clips."""

    recipe: Recipe
    spec: EncoderSpec
    clips: tuple[Clip, ...]
    options: JobOptions
    absent: tuple[str, ...]
    """Clips whose video is not there; they will fail."""
    other_size: tuple[str, ...]
    """Clips whose video has another size than the recipe's, and so is another file."""

    def plan(self, out: str) -> ExtractionPlan:
        """Says what ``run`` would do; writes nothing."""
        frames = self.recipe.identity.frames
        return plan_extraction(self.clips, out, self.spec, frames=frames, options=self.options)

    def run(
        self,
        out: str,
        *,
        workers: int | None = None,
        progress: ProgressDisplay | None = None,
        on_clip: Callable[[int, int], None] | None = None,
    ) -> tuple[Tally, RecipeCheck]:
        """Extracts what the store lacks, and holds the store against the recipe.

        Args:
            out: the store; made if absent.
            workers: worker processes, as ``run_extraction`` takes them.
            progress: display of the extraction.
            on_clip: called while comparing, with the number of clips done and that of all.

        Raises:
            InputError, StoreError, OSError: as ``run_extraction``.
        """
        tally = run_extraction(
            self.clips,
            out,
            self.spec,
            frames=self.recipe.identity.frames,
            workers=workers,
            progress=progress,
            options=self.options,
        )
        return tally, check_recipe(self.recipe, open_store(out), on_clip=on_clip)


def recipe_job(
    recipe: Recipe,
    videos: Path,
    *,
    weights: Path | None = None,
    model_config: Path | None = None,
    pretrained_tag: str | None = None,
    backend: str = "pyav",
) -> RecipeJob:
    """Finds encoder and videos of a recipe; nothing is decoded or written.

    Args:
        recipe: what is to be extracted again.
        videos: folder of the videos: as the recipe names them below it, or by their names alone.
        weights: the encoder's weights; the demo's encoder has its own.
        model_config: architecture of a model that open_clip does not know.
        pretrained_tag: open_clip's name of the published weights, where it needs one.
        backend: decoder to try first; the frames are the same.

    Raises:
        IdentityMismatch: the encoder does not make the recipe's features; names every difference.
        InputError: the recipe is of imported features, or weights or videos are not there.
    """
    identity = recipe.identity
    if identity.source != "extracted":
        raise InputError(
            f"The recipe is of features that were {identity.source} from another program "
            f"({identity.origin}); only what this program extracted can be extracted again."
        )
    if not videos.is_dir():
        raise InputError(f"There is no folder of videos {videos}.")
    if backend not in get_args(Backend):
        raise InputError(f"The decoder is {backend!r}; it can be {' or '.join(get_args(Backend))}.")
    options = JobOptions(
        root=videos,
        backend=cast("Backend", backend),
        pool=None if identity.pool == "none" else Pooling.parse(identity.pool).target,
        int8=identity.quantised != "none",
    )
    spec = _spec(identity, weights, model_config, pretrained_tag)
    offered = identity_of(spec, identity.frames).reduced(pool=options.pool, int8=options.int8)
    if offered != identity:
        differences = "\n  ".join(identity.differences(offered))
        raise IdentityMismatch(
            f"This encoder does not make the recipe's features (recipe here, encoder there):\n  "
            f"{differences}\nGive the weights and the configuration that the recipe was made with."
        )
    clips = {clip.clip_id: _clip_of(clip, videos) for clip in recipe.clips}
    absent, other_size = [], []
    for clip in recipe.clips:
        path = clips[clip.clip_id].path
        if not path.is_file():
            absent.append(clip.clip_id)
        elif clip.source_bytes and path.stat().st_size != clip.source_bytes:
            other_size.append(clip.clip_id)
    if len(absent) == len(clips):
        raise InputError(
            f"None of the recipe's {len(clips)} clips has its video in {videos}; the first is expected "
            f"at {next(iter(clips.values())).path}."
        )
    return RecipeJob(
        recipe=recipe,
        spec=spec,
        clips=tuple(clips.values()),
        options=options,
        absent=tuple(absent),
        other_size=tuple(other_size),
    )


def _spec(
    identity: FeatureIdentity,
    weights: Path | None,
    model_config: Path | None,
    pretrained_tag: str | None,
) -> EncoderSpec:
    if weights is None and identity.encoder == DEMO_ENCODER:
        weights, model_config = WEIGHTS_PATH, CONFIG_PATH
    if weights is None:
        raise InputError(
            f"The recipe's encoder is {identity.encoder}: give its weights with --weights; their "
            f"SHA-256 is {identity.weights_sha256}."
        )
    # Unknown values are those of imports, which are refused before.
    return EncoderSpec(
        model=identity.encoder,
        weights=weights,
        model_config=model_config,
        precision=identity.precision,  # type: ignore[arg-type]
        token_space=identity.token_space,  # type: ignore[arg-type]
        pretrained_tag=pretrained_tag,
    )


def _clip_of(clip: RecipeClip, videos: Path) -> Clip:
    path = videos / clip.source_path
    if not path.is_file() and (videos / path.name).is_file():
        path = videos / path.name
    return Clip(clip_id=clip.clip_id, path=path, start_s=clip.start_s, end_s=clip.end_s)
