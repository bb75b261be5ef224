"""Architecture of an encoder, read from open_clip's model configuration without loading torch."""

import importlib.util
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from cache_schema import InputError, Preprocess

_LARGEST_CONFIG: Final = 1 << 20
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_OPENAI_MEAN: Final = (0.48145466, 0.4578275, 0.40821073)
_OPENAI_STD: Final = (0.26862954, 0.26130258, 0.27577711)
_MODEL_KEYS: Final = frozenset({"embed_dim", "vision_cfg", "text_cfg"})


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelArchitecture:
    """What a model configuration says about a vision transformer of CLIP."""

    model_cfg: Mapping[str, object]
    """The configuration itself, as open_clip reads it."""
    preprocess_cfg: Mapping[str, object]
    """open_clip's preprocessing keys; empty for plain CLIP, which means OpenAI's."""
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
    return _understood(str(path), model_cfg, cast("dict[str, object]", preprocess_cfg))


def _built_in(model: str) -> Path:
    if _NAME.fullmatch(model.replace("/", "-")) is None:
        raise InputError(f"{model!r} is not a model name")
    package = importlib.util.find_spec("open_clip")
    if package is None or not package.submodule_search_locations:
        raise InputError("open_clip is not installed; it is needed for its model configurations")
    folder = Path(package.submodule_search_locations[0]) / "model_configs"
    path = folder / f"{model.replace('/', '-')}.json"
    if not path.is_file():
        raise InputError(
            f"open_clip has no model {model!r}. Name one of open_clip.list_models(), or give a "
            "configuration file of your own."
        )
    return path


def _understood(
    where: str, model_cfg: dict[str, object], preprocess_cfg: dict[str, object]
) -> ModelArchitecture:
    vision = model_cfg["vision_cfg"]
    if not isinstance(vision, dict):
        raise InputError(f"vision_cfg of {where} is not a JSON object")
    # What this stage caches are the tokens of a grid of patches and the CLS token beside them.
    unsupported = {
        "timm_model_name": f"a timm tower ({vision.get('timm_model_name')})",
        "attentional_pool": "a tower with attentional pooling (CoCa)",
    }
    for key, kind in unsupported.items():
        if vision.get(key):
            raise InputError(_unsupported(where, kind))
    if isinstance(vision.get("layers"), list):
        raise InputError(_unsupported(where, "a convolutional tower (ModifiedResNet)"))
    if vision.get("pool_type", "tok") != "tok":
        raise InputError(_unsupported(where, f"a tower that pools by {vision['pool_type']!r}"))
    try:
        image_size, patch_size = int(vision.get("image_size", 224)), int(vision["patch_size"])
        width, embed_dim = int(vision.get("width", 768)), int(cast("int", model_cfg["embed_dim"]))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{where} needs whole numbers for embed_dim and for image_size, patch_size and width "
            "of vision_cfg; images that are not square are not supported"
        ) from error
    return ModelArchitecture(
        model_cfg=model_cfg,
        preprocess_cfg=preprocess_cfg,
        quick_gelu=bool(model_cfg.get("quick_gelu", False)),
        embed_dim=embed_dim,
        width=width,
        image_size=image_size,
        patches=(image_size // patch_size) ** 2,
    )


def _unsupported(where: str, kind: str) -> str:
    return (
        f"{where} describes {kind}. Features of this project are CLS and patch tokens of CLIP's "
        "own vision transformer; use a ViT model of open_clip, such as ViT-B-32 or ViT-L-14."
    )


def _triple(values: object) -> tuple[float, float, float]:
    if not isinstance(values, list | tuple) or len(values) != 3:
        raise InputError(f"preprocess_cfg gives {values!r} where three numbers are needed")
    red, green, blue = values
    return float(red), float(green), float(blue)
