"""What is known about every encoder before its weights are there: sizes, pictures, published weights."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from math import isqrt
from typing import Any, Final, Literal, NamedTuple

from cache_schema.errors import InputError
from extract.encoder_spec import EncoderSpec, identity_of
from extract.model_architecture import ModelArchitecture, built_in_models, read_architecture
from extract.plan import bytes_per_clip
from extract.published_weights import published_weights

POOLED: Final[Mapping[str, str]] = {
    "clip": "class token",
    "clip-mean": "patch mean",
    "timm-token": "class token",
    "timm-mean": "patch mean",
    "timm-map": "attention",
}
"""What stands in the CLS place, by family."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedWeights:
    """Weights that open_clip knows by a tag."""

    tag: str
    fits: bool
    """Whether the model has their activation; if not, its QuickGELU twin has."""
    preprocess: str
    where: str
    """Repository of the Hugging Face hub, or address."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderFacts:
    """One supported model."""

    model: str
    family: str
    pooled: str
    """What stands in the CLS place."""
    image_size: int
    patches: int
    grid: str
    joint_dim: int | None
    """Width of a feature in the joint space; None where patches have no place in it."""
    trunk_dim: int
    quick_gelu: bool
    context_length: int
    tokenizer: str
    """Where the sentences' tokens come from."""
    joint_bytes: int | None
    """Bytes of a store of 1,000 clips, CLS and patches."""
    trunk_bytes: int
    frames: int
    """Frames of a clip in those bytes."""

    def to_json(self) -> dict[str, object]:
        """Plain JSON values."""
        return asdict(self)


class Refused(NamedTuple):
    """A model that has no features of the kind that is cached."""

    model: str
    reason: str


def catalogue(frames: int) -> Iterator[EncoderFacts | Refused]:
    """Yields every model of open_clip, by name: its facts, or why it is refused."""
    for model in built_in_models():
        try:
            yield facts_of(model, frames)
        except InputError as error:
            yield Refused(model, str(error))


def facts_of(model: str, frames: int) -> EncoderFacts:
    """Returns the facts of a model.

    Args:
        model: open_clip's name.
        frames: N, frames of a clip, for the size of a store.

    Raises:
        InputError: open_clip has no such model, or it has no grid of patch tokens.
    """
    architecture = read_architecture(model)
    side = isqrt(architecture.patches)
    joint = architecture.has_joint_patches
    return EncoderFacts(
        model=model,
        family=architecture.family,
        pooled=POOLED[architecture.family],
        image_size=architecture.image_size,
        patches=architecture.patches,
        grid=f"{side}x{side}",
        joint_dim=architecture.embed_dim if joint else None,
        trunk_dim=architecture.width,
        quick_gelu=architecture.quick_gelu,
        context_length=architecture.context_length,
        tokenizer=str(architecture.text_cfg.get("hf_tokenizer_name") or "CLIP's, in open_clip"),
        joint_bytes=_store_bytes(model, "joint", frames) if joint else None,
        trunk_bytes=_store_bytes(model, "trunk", frames),
        frames=frames,
    )


def weights_of(model: str) -> list[PublishedWeights]:
    """Returns the published weights of a model, in open_clip's order."""
    architecture = read_architecture(model)
    return [_weights(architecture, tag, cfg) for tag, cfg in published_weights(model).items()]


def _weights(
    architecture: ModelArchitecture,
    tag: str,
    cfg: Mapping[str, Any],
) -> PublishedWeights:
    mean, std = ("/".join(f"{value:.3g}" for value in cfg[key]) for key in ("mean", "std"))
    return PublishedWeights(
        tag=tag,
        fits=bool(cfg.get("quick_gelu", False)) == architecture.quick_gelu,
        preprocess=f"{cfg['resize_mode']}, {cfg['interpolation']}, mean {mean}, std {std}",
        where=str(cfg.get("hf_hub") or cfg.get("url") or "").rstrip("/"),
    )


def _store_bytes(model: str, space: Literal["joint", "trunk"], frames: int) -> int:
    spec = EncoderSpec(model=model, random_init_seed=0, token_space=space)
    return 1000 * bytes_per_clip(identity_of(spec, frames, weights_sha256="0" * 64))
