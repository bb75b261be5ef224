"""Architecture of an encoder, read from open_clip's model configuration.

Configurations of CLIP's own towers are read without loading torch; those of timm name a trunk whose
shape only timm knows.
"""

import difflib
import importlib.util
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, cast

from cache_schema import InputError, Preprocess

_LARGEST_CONFIG: Final = 1 << 20
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_OPENAI_MEAN: Final = (0.48145466, 0.4578275, 0.40821073)
_OPENAI_STD: Final = (0.26862954, 0.26130258, 0.27577711)
_MODEL_KEYS: Final = frozenset({"embed_dim", "vision_cfg", "text_cfg"})

Family = Literal["clip", "clip-mean", "timm-token", "timm-mean", "timm-map"]
"""Who built the tower, and how it makes one vector of its tokens: ``docs/encoders.md``."""

SUPPORTED: Final = (
    "Supported are vision transformers with a grid of patch tokens: CLIP's own (ViT-B-32, ViT-L-14 "
    "and the like, with and without QuickGELU, CLIPA), SigLIP and SigLIP 2, EVA, MobileCLIP-B, "
    "MobileCLIP2-B and -L-14, ViTamin, PE-Core. `videodistill encoders ls` lists them."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelArchitecture:
    """What a model configuration says about a vision transformer and its text tower."""

    model_cfg: Mapping[str, object]
    """The configuration itself, as open_clip reads it."""
    preprocess_cfg: Mapping[str, object]
    """open_clip's preprocessing keys; empty for plain CLIP, which means OpenAI's."""
    family: Family
    has_joint_patches: bool
    """Whether patch tokens have a place in the space shared with text. They have none where that
    space begins behind an attention pooling."""
    quick_gelu: bool
    embed_dim: int
    """Width of the joint space."""
    width: int
    """Width of the vision tower."""
    image_size: int
    patches: int
    """Patch tokens of a picture."""

    def dim(self, *, joint: bool) -> int:
        """Returns the width of a feature, in the joint space or of the tower."""
        return self.embed_dim if joint else self.width

    @property
    def text_cfg(self) -> Mapping[str, object]:
        """The text tower's part of the configuration."""
        return cast("Mapping[str, object]", self.model_cfg["text_cfg"])

    @property
    def context_length(self) -> int:
        """Tokens that the text tower reads."""
        return int(cast("int", self.text_cfg.get("context_length", 77)))

    @property
    def preprocess(self) -> Preprocess:
        """Preprocessing that the weights were trained with."""
        cfg = self.preprocess_cfg
        mean, std = cfg.get("mean", _OPENAI_MEAN), cfg.get("std", _OPENAI_STD)
        return Preprocess(
            image_size=self.image_size,
            resize_mode=cfg.get("resize_mode", "shortest"),  # type: ignore[arg-type]
            interpolation=cfg.get("interpolation", "bicubic"),  # type: ignore[arg-type]
            mean=_triple(mean),
            std=_triple(std),
        )


def read_architecture(model: str, config: Path | None = None) -> ModelArchitecture:
    """Reads the configuration of a model.

    Args:
        model: name of one of open_clip's configurations; only a name where ``config`` is given.
        config: JSON file with the configuration, either bare (``embed_dim``, ``vision_cfg``,
            ``text_cfg``) or as open_clip publishes it (``model_cfg`` and ``preprocess_cfg``).

    Raises:
        InputError: there is no such configuration, or the model has no grid of patch tokens.
    """
    path = _built_in(model) if config is None else config
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_CONFIG + 1)
        if len(content) > _LARGEST_CONFIG:
            raise InputError(f"{path} is larger than 1 MiB: not a model configuration")
        document = json.loads(content)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"The model configuration {path} cannot be read: {error}") from error
    if not isinstance(document, dict):
        raise InputError(f"The model configuration {path} is not a JSON object")
    model_cfg = document.get("model_cfg", document)
    preprocess_cfg = document.get("preprocess_cfg", {})
    if not isinstance(model_cfg, dict) or not model_cfg.keys() >= _MODEL_KEYS:
        raise InputError(f"The model configuration {path} lacks {sorted(_MODEL_KEYS)}")
    return _understood(
        model if config is None else str(path), model_cfg, cast("dict[str, object]", preprocess_cfg)
    )


def is_built_in(model: str) -> bool:
    """Returns whether open_clip has a configuration of this name."""
    return _NAME.fullmatch(model.replace("/", "-")) is not None and _built_in_path(model).is_file()


def built_in_models() -> list[str]:
    """Returns the names of open_clip's configurations, sorted."""
    return sorted(path.stem for path in _built_in_path("any").parent.glob("*.json"))


def _built_in(model: str) -> Path:
    if _NAME.fullmatch(model.replace("/", "-")) is None:
        raise InputError(f"{model!r} is not a model name")
    path = _built_in_path(model)
    if not path.is_file():
        close = difflib.get_close_matches(model, built_in_models(), n=3)
        raise InputError(
            f"open_clip has no model {model!r}"
            + (f"; did you mean {' or '.join(close)}?" if close else ".")
            + " `videodistill encoders ls` lists its models; or give a configuration file of your "
            "own."
        )
    return path


def _built_in_path(model: str) -> Path:
    package = importlib.util.find_spec("open_clip")
    if package is None or not package.submodule_search_locations:
        raise InputError("open_clip is not installed; it is needed for its model configurations")
    folder = Path(package.submodule_search_locations[0]) / "model_configs"
    return folder / f"{model.replace('/', '-')}.json"


def _understood(
    where: str, model_cfg: dict[str, object], preprocess_cfg: dict[str, object]
) -> ModelArchitecture:
    vision, text = model_cfg["vision_cfg"], model_cfg["text_cfg"]
    if not isinstance(vision, dict) or not isinstance(text, dict):
        raise InputError(f"vision_cfg and text_cfg of {where} must be JSON objects")
    kind = _unsupported_kind(model_cfg, vision, text)
    if kind is not None:
        raise InputError(f"{where} describes {kind}. {SUPPORTED}")
    if preprocess_cfg.get("fill_color") not in {None, 0}:
        raise InputError(
            f"{where} pads with colour {preprocess_cfg['fill_color']}; only 0 is known"
        )
    tower = _timm_tower if vision.get("timm_model_name") else _clip_tower
    try:
        return tower(where, model_cfg, preprocess_cfg, vision)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{where} needs whole numbers for embed_dim and for image_size, patch_size and width "
            "of vision_cfg; images that are not square are not supported"
        ) from error


def _unsupported_kind(
    model_cfg: Mapping[str, object], vision: Mapping[str, object], text: Mapping[str, object]
) -> str | None:
    if text.get("hf_model_name"):
        return f"a text tower of the Hugging Face hub ({text['hf_model_name']})"
    if model_cfg.get("multimodal_cfg") or vision.get("attentional_pool"):
        return "a CoCa model, whose image feature comes from attentional pooling"
    if isinstance(vision.get("layers"), list):
        return "a convolutional tower (ModifiedResNet)"
    if not vision.get("timm_model_name") and vision.get("pool_type", "tok") not in {"tok", "avg"}:
        return f"a tower that pools by {vision['pool_type']!r}"
    return None


def _clip_tower(
    _where: str,
    model_cfg: dict[str, object],
    preprocess_cfg: dict[str, object],
    vision: Mapping[str, object],
) -> ModelArchitecture:
    image_size, patch_size = _whole(vision.get("image_size", 224)), _whole(vision["patch_size"])
    return ModelArchitecture(
        model_cfg=model_cfg,
        preprocess_cfg=preprocess_cfg,
        family="clip-mean" if vision.get("pool_type") == "avg" else "clip",
        has_joint_patches=True,
        quick_gelu=bool(model_cfg.get("quick_gelu", False)),
        embed_dim=_whole(model_cfg["embed_dim"]),
        width=_whole(vision.get("width", 768)),
        image_size=image_size,
        patches=(image_size // patch_size) ** 2,
    )


def _timm_tower(
    where: str,
    model_cfg: dict[str, object],
    preprocess_cfg: dict[str, object],
    vision: Mapping[str, object],
) -> ModelArchitecture:
    # Loads torch and timm.
    from extract.timm_trunk import trunk_shape

    embed_dim = _whole(model_cfg["embed_dim"])
    name = str(vision["timm_model_name"])
    # As open_clip's defaults; null in a file is an empty word.
    pool, projection = vision.get("timm_pool", "avg"), vision.get("timm_proj", "linear")
    try:
        shape = trunk_shape(name, str(pool or ""), str(projection or ""))
    except InputError as error:
        raise InputError(f"{where} describes a timm tower: {error}. {SUPPORTED}") from error
    image_size = _whole(vision.get("image_size", 224))
    if image_size != shape.image_size:
        raise InputError(
            f"{where} contradicts itself: image_size is {image_size}, and {name} takes pictures of "
            f"{shape.image_size} pixels"
        )
    families: dict[str, Family] = {"token": "timm-token", "mean": "timm-mean", "map": "timm-map"}
    return ModelArchitecture(
        model_cfg=model_cfg,
        preprocess_cfg=preprocess_cfg,
        family=families[shape.pool],
        has_joint_patches=not (shape.pool == "map" and shape.projects),
        # A timm trunk has the activation that its name says; the key is about the text tower.
        quick_gelu=bool(model_cfg.get("quick_gelu", False)),
        embed_dim=embed_dim,
        width=shape.width,
        image_size=image_size,
        patches=shape.patches,
    )


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise TypeError(value)
    return value


def _triple(values: object) -> tuple[float, float, float]:
    if not isinstance(values, list | tuple) or len(values) != 3:
        raise InputError(f"preprocess_cfg gives {values!r} where three numbers are needed")
    red, green, blue = values
    return float(red), float(green), float(blue)
