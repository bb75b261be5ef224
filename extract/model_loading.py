"""Building open_clip's model from a configuration, and reading its weights without running them."""

import hashlib
import json
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Final

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from cache_schema import InputError
from extract.encoder_spec import EncoderSpec
from extract.lean_open_clip import lean_open_clip
from extract.model_architecture import ModelArchitecture

if TYPE_CHECKING:
    from open_clip import CLIP

_WEIGHT_SUFFIXES: Final = frozenset({".safetensors", ".pt", ".pth", ".bin"})
# Of the contrastive loss alone; files hold them as scalars, as vectors, or not at all.
_LOSS_SCALES: Final = frozenset({"logit_scale", "logit_bias"})
_DRAWS: Final = frozenset({
    torch.Tensor.normal_, torch.Tensor.uniform_,
    nn.init.normal_, nn.init.uniform_, nn.init.kaiming_uniform_,
})  # fmt: skip


def load_model(spec: EncoderSpec, architecture: ModelArchitecture) -> "CLIP":
    """Builds the model in fp32 on the CPU, in evaluation mode, without gradients.

    Raises:
        InputError: weights that cannot be read safely or do not fit the architecture.
    """
    open_clip = lean_open_clip()
    filled = _WeightsLeftUndrawn() if spec.random_init_seed is None else nullcontext()
    if spec.random_init_seed is not None:
        torch.manual_seed(spec.random_init_seed)
    with _configured(architecture) as name, _without_open_clip_messages(), filled:
        model = open_clip.create_model(name, load_weights=False)
    if spec.weights is not None:
        _load_weights(model, spec.weights, spec.model)
    model.eval()
    model.requires_grad_(requires_grad=False)
    return model


def digest_state(state: Mapping[str, torch.Tensor]) -> str:
    """Returns the SHA-256 of weights that no file holds, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode())
        digest.update(state[name].detach().cpu().numpy().tobytes())
    return digest.hexdigest()


class _WeightsLeftUndrawn(TorchFunctionMode):
    """Skips the random numbers that a new model starts with, where a file brings all its weights."""

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: Sequence[type],
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        """Returns the tensor as it is, instead of filling it."""
        if func in _DRAWS:
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


def _load_weights(model: "CLIP", weights: Path, name: str) -> None:
    from open_clip.convert import convert_state_dict
    from open_clip.factory import load_state_dict
    from open_clip.model import convert_to_custom_text_state_dict

    if weights.suffix not in _WEIGHT_SUFFIXES:
        raise InputError(
            f"{weights} is not a weights file; expected one of {sorted(_WEIGHT_SUFFIXES)}"
        )
    # Not open_clip's load_checkpoint: it stretches the position embeddings of a model of another
    # picture size until they fit, and says nothing.
    try:
        state = convert_state_dict(model, load_state_dict(str(weights), weights_only=True))
        if "positional_embedding" in state and not hasattr(model, "positional_embedding"):
            state = convert_to_custom_text_state_dict(state)
        scales = {key: value for key, value in model.state_dict().items() if key in _LOSS_SCALES}
        model.load_state_dict({**state, **scales}, strict=True)
    except Exception as error:  # a foreign file makes unpickling fail in any way it likes
        reason = "; ".join(line.strip() for line in str(error).splitlines()[:4])
        raise InputError(
            f"The weights {weights} do not load into {name}: {reason[:500] or type(error).__name__}"
            ". Expected are safetensors or a state dict of exactly this architecture; TorchScript "
            "archives and pickled objects are not read, because they can run code: convert them "
            "once."
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
