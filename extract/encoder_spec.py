"""Which frozen encoder is asked for, and the identity of its features, without loading torch."""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from cache_schema import FeatureIdentity, InputError
from extract.model_architecture import ModelArchitecture, is_built_in, read_architecture


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderSpec:
    """A frozen CLIP encoder.

    Raises:
        InputError: fields contradict each other.
    """

    model: str
    """Name of the architecture as open_clip spells it, or, with ``model_config``, of your own."""
    weights: Path | None = None
    """The weights: safetensors, or a state dict that ``torch.load(weights_only=True)`` reads."""
    model_config: Path | None = None
    """The architecture as a JSON file, for models that open_clip does not know."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Arithmetic of the vision tower. The text tower always runs in fp32."""
    token_space: Literal["joint", "trunk"] = "joint"  # noqa: S105 -- no password
    """``joint``: ln_post and projection on every token; ``trunk``: ln_post at the tower's width."""
    device: str = "cpu"
    """Device as torch names it: ``cpu``, ``cuda``, ``cuda:1``. It does not change the identity."""
    pretrained_tag: str | None = None
    """open_clip's name of the published weights that ``weights`` holds: preprocessing is then taken
    from there, and QuickGELU checked. ``own`` for weights of one's own. Needed for models of
    open_clip whose published weights disagree, unless a configuration says what the weights want."""
    tokenizer: Path | None = None
    """Folder with the files of the text tower's tokenizer, where that is not CLIP's own; by default
    the folder of the weights. It does not change the identity, which is about pictures."""
    compile: bool = False
    """Whether torch.compile fuses the vision tower. Changes features by rounding alone, as another
    batch size does."""
    random_init_seed: int | None = None
    """For tests: weights are drawn from this seed instead of read."""

    def __post_init__(self) -> None:
        if (self.weights is None) == (self.random_init_seed is None):
            raise InputError(
                "An encoder needs a weights file (safetensors or .pt); random weights exist for "
                "tests only, and not both can be given."
            )

    @property
    def joint(self) -> bool:
        """Whether tokens are projected into the space shared with text."""
        return self.token_space == "joint"  # noqa: S105 -- no password

    @property
    def architecture(self) -> ModelArchitecture:
        """The model's configuration, checked against the published weights.

        It is taken from ``model_config``; else from an ``open_clip_config.json`` beside the
        weights, as hubs lay them out; else from open_clip, by name.

        Raises:
            InputError: as ``read_architecture`` and ``with_published``; or the tokens do not exist
                in the space that is asked for.
        """
        config = self.model_config or _config_beside(self.weights)
        architecture = read_architecture(self.model, config)
        if self.model_config is None and config is not None:
            _require_same_model(architecture, self.model, config)
        if self.pretrained_tag is not None or (config is None and self.weights is not None):
            # Only open_clip knows its tags, and loading it loads torch.
            from extract.published_weights import with_published

            architecture = with_published(architecture, self.model, self.pretrained_tag)
        if self.joint and not architecture.has_joint_patches:
            raise InputError(
                f"{self.model} pools its patch tokens before it projects them: they have no place "
                "in the space shared with text. Use the token space trunk."
            )
        return architecture


def _config_beside(weights: Path | None) -> Path | None:
    config = weights and weights.with_name("open_clip_config.json")
    return config if config is not None and config.is_file() else None


def _require_same_model(found: ModelArchitecture, model: str, config: Path) -> None:
    """Raises if a model of open_clip is named and the weights' own configuration describes another.

    Raises:
        InputError: with the fields that differ.
    """
    if not is_built_in(model):
        return
    named = read_architecture(model)
    fields = ("family", "quick_gelu", "embed_dim", "width", "image_size", "patches")
    differing = [
        f"{field} {getattr(found, field)} there, {getattr(named, field)} in {model}"
        for field in fields
        if getattr(found, field) != getattr(named, field)
    ]
    if differing:
        raise InputError(
            f"The weights are not those of {model}: {config} lies beside them and describes "
            f"another model ({'; '.join(differing)}). Name the model that fits."
        )


def identity_of(
    spec: EncoderSpec, frames: int, *, weights_sha256: str | None = None
) -> FeatureIdentity:
    """Returns the identity of the features that an encoder will produce.

    Args:
        spec: the encoder.
        frames: N, frames of a clip.
        weights_sha256: digest of the weights where it is known; otherwise the file is read.

    Raises:
        InputError: the configuration or the weights cannot be read, or random weights are asked
            for without their digest, which only the loaded encoder knows.
    """
    architecture = spec.architecture
    if weights_sha256 is None:
        if spec.weights is None:
            raise InputError("random weights are digested by load_encoder(spec).identity(frames)")
        weights_sha256 = digest_weights(spec.weights)
    return FeatureIdentity(
        encoder=spec.model,
        weights_sha256=weights_sha256,
        quick_gelu=architecture.quick_gelu,
        token_space=spec.token_space,
        dim=architecture.dim(joint=spec.joint),
        patches=architecture.patches,
        preprocess=architecture.preprocess,
        frames=frames,
        precision=spec.precision,
    )


def digest_weights(path: Path) -> str:
    """Returns the SHA-256 of a weights file, 64 hexadecimal digits.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        status = path.stat()
        return _digest(path, status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise InputError(f"The weights {path} cannot be read: {error.strerror}") from error


@lru_cache(maxsize=8)
def _digest(path: Path, _size: int, _mtime_ns: int) -> str:
    """Reads a file once per process as long as it does not change."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
