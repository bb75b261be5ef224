"""Building open_clip's model from a configuration, and reading its weights without running them."""

import json
import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import torch

from cache_schema import InputError
from extract.encoder_spec import EncoderSpec
from extract.model_architecture import ModelArchitecture

if TYPE_CHECKING:
    from open_clip import CLIP
    from open_clip.tokenizer import SimpleTokenizer

_WEIGHT_SUFFIXES: Final = frozenset({".safetensors", ".pt", ".pth", ".bin"})


def load_model(spec: EncoderSpec, architecture: ModelArchitecture) -> "CLIP":
    """Builds the model in fp32 on the CPU, in evaluation mode, without gradients.

    Raises:
        InputError: weights that cannot be read safely or do not fit the architecture.
    """
    import open_clip

    if spec.random_init_seed is not None:
        torch.manual_seed(spec.random_init_seed)
    with _configured(architecture) as name, _without_open_clip_messages():
        model = open_clip.create_model(name, load_weights=False)
    if spec.weights is not None:
        _load_weights(model, spec.weights, spec.model)
    model.eval()
    model.requires_grad_(requires_grad=False)
    return model


def tokenizer_of(architecture: ModelArchitecture) -> "SimpleTokenizer":
    """Returns the tokenizer that belongs to a model.

    Raises:
        InputError: the text tower needs a tokenizer that would have to be downloaded.
    """
    import open_clip
    from open_clip.tokenizer import SimpleTokenizer

    text_cfg = architecture.model_cfg["text_cfg"]
    if isinstance(text_cfg, dict) and text_cfg.get("hf_tokenizer_name"):
        raise InputError(
            f"the text tower needs the tokenizer {text_cfg['hf_tokenizer_name']!r}, which is not "
            "part of open_clip; use a model with CLIP's own tokenizer"
        )
    with _configured(architecture) as name, _without_open_clip_messages():
        tokenizer = open_clip.get_tokenizer(name)
    if not isinstance(tokenizer, SimpleTokenizer):
        raise InputError("only CLIP's own tokenizer is supported for sentences")
    return tokenizer


def _load_weights(model: "CLIP", weights: Path, name: str) -> None:
    from open_clip.factory import load_checkpoint

    if weights.suffix not in _WEIGHT_SUFFIXES:
        raise InputError(
            f"{weights} is not a weights file; expected one of {sorted(_WEIGHT_SUFFIXES)}"
        )
    try:
        load_checkpoint(model, str(weights), strict=True, weights_only=True)
    except Exception as error:  # a foreign file makes unpickling fail in any way it likes
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"The weights {weights} do not load into {name}: {reason[:300]}. Expected are "
            "safetensors or a state dict of exactly this architecture; TorchScript archives and "
            "pickled objects are not read, because they can run code: convert them once."
        ) from error


@contextmanager
def _configured(architecture: ModelArchitecture) -> Iterator[str]:
    """Offers a configuration to open_clip under a name that is no entry of its registry.

    The registry is global, and a model of one's own could take a built-in name in it.
    """
    with tempfile.TemporaryDirectory(prefix="videodistill-") as folder:
        document = {
            "model_cfg": dict(architecture.model_cfg),
            "preprocess_cfg": dict(architecture.preprocess_cfg),
        }
        (Path(folder) / "open_clip_config.json").write_text(json.dumps(document))
        yield f"local-dir:{folder}"


@contextmanager
def _without_open_clip_messages() -> Iterator[None]:
    """open_clip reports on the root logger that no weights were loaded, which is as intended."""
    root = logging.getLogger()
    level, quiet = root.level, logging.NullHandler()
    root.addHandler(quiet)
    root.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.setLevel(level)
        root.removeHandler(quiet)
