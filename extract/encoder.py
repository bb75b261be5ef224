"""The frozen CLIP encoder: CLS and patch tokens of pictures, sentence vectors of texts."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812 -- the name the field uses

from cache_schema import FeatureIdentity, InputError, Preprocess, VideoDistillError
from extract.encoder_spec import EncoderSpec, digest_weights, identity_of
from extract.model_loading import load_model, tokenizer_of

__all__ = ["ClipEncoder", "EncodedFrames", "EncoderSpec", "NonFiniteFrames", "load_encoder"]

_DTYPES: Final = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# Largest difference of projected CLS and pooled feature, relative to the feature's norm: the two
# are rounded at different places, the first to float16 in any case.
_TOLERANCES: Final = {"fp32": 1e-3, "bf16": 5e-2, "fp16": 5e-3}
_TEXT_BATCH: Final = 256


class NonFiniteFrames(VideoDistillError):  # noqa: N818 -- says what is the case
    """Features of some pictures are NaN, or too large for float16.

    Attributes:
        rows: places of those pictures in the batch.
    """

    def __init__(self, rows: Sequence[int]) -> None:
        super().__init__(list(rows))
        self.rows = list(rows)

    def __str__(self) -> str:
        return (
            f"features of {len(self.rows)} pictures are NaN or beyond float16, the first in row "
            f"{self.rows[0]}; try precision fp32, or the joint token space"
        )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class EncodedFrames:
    """Features of a batch of pictures."""

    cls: npt.NDArray[np.float16]
    """float16 [B, D]."""
    patch: npt.NDArray[np.float16]
    """float16 [B, P, D]."""
    finite: npt.NDArray[np.bool_]
    """bool [B]: whether all numbers of a picture's features are finite."""


class ClipEncoder:
    """A loaded encoder. Threads may share it; calls are then made one after the other by torch.

    Made by ``load_encoder``.
    """

    def __init__(self, spec: EncoderSpec) -> None:
        self._spec = spec
        self._architecture = spec.architecture
        self._device = torch.device(spec.device)
        self._dtype = _DTYPES[spec.precision]
        # Digested first: a file that cannot be read is then named as such.
        known = None if spec.weights is None else digest_weights(spec.weights)
        self._model = load_model(spec, self._architecture)
        self._weights_sha256 = known or _digest_state(self._model.state_dict())
        self._model.to(self._device)
        visual = self._model.visual
        # The last norm and the projection run in fp32, whatever the tower runs in: they cost less
        # than a hundredth, and their output is what is kept.
        self._norm = (visual.ln_post.weight.clone(), visual.ln_post.bias.clone())
        self._norm_eps = float(visual.ln_post.eps)
        self._projection = visual.proj.clone()
        self._visual = visual.to(self._dtype)
        preprocess = self.preprocess
        self._mean = self._channels(preprocess.mean)
        self._std = self._channels(preprocess.std)
        self._self_test()

    @property
    def preprocess(self) -> Preprocess:
        """How pictures are brought to the encoder's input."""
        return self._architecture.preprocess

    @property
    def spec(self) -> EncoderSpec:
        """What was asked for."""
        return self._spec

    def identity(self, frames: int) -> FeatureIdentity:
        """Returns the identity of features of N = ``frames`` frames a clip."""
        return identity_of(self._spec, frames, weights_sha256=self._weights_sha256)

    def encode_frames(
        self, pixels: npt.NDArray[np.uint8]
    ) -> tuple[npt.NDArray[np.float16], npt.NDArray[np.float16]]:
        """Encodes pictures.

        In batches of one size the result for a picture does not depend, bit for bit, on its place
        nor on the other pictures; another size may change the last bit.

        Args:
            pixels: uint8 [B, S, S, 3], resized and cropped to the encoder's input size.

        Returns:
            float16 [B, D] CLS tokens and float16 [B, P, D] patch tokens, not L2-normalised.

        Raises:
            NonFiniteFrames: features are NaN or overflow float16.
            InputError: pictures of another shape or type.
        """
        encoded = self.encode(pixels)
        if not encoded.finite.all():
            raise NonFiniteFrames(np.flatnonzero(~encoded.finite).tolist())
        return encoded.cls, encoded.patch

    def encode(self, pixels: npt.NDArray[np.uint8]) -> EncodedFrames:
        """Encodes pictures as ``encode_frames`` does, and marks features that are not finite."""
        size = self.preprocess.image_size
        if pixels.dtype != np.uint8 or pixels.shape[1:] != (size, size, 3):
            raise InputError(
                f"pictures are {pixels.dtype} {pixels.shape}; this encoder takes uint8 "
                f"[B, {size}, {size}, 3]"
            )
        tokens = self._tokens_in_parts(torch.from_numpy(np.ascontiguousarray(pixels)))
        finite = tokens.isfinite().flatten(1).all(1)
        features = tokens.cpu().numpy()
        return EncodedFrames(cls=features[:, 0], patch=features[:, 1:], finite=finite.cpu().numpy())

    def encode_text(self, texts: Sequence[str]) -> tuple[npt.NDArray[np.float32], int]:
        """Encodes sentences into the joint space.

        Args:
            texts: n sentences.

        Returns:
            float32 [n, D], not L2-normalised, and the number of texts that were longer than the
            model's context and lost their end.
        """
        tokenizer = tokenizer_of(self._architecture)
        vectors = []
        with torch.inference_mode():
            for begin in range(0, len(texts), _TEXT_BATCH):
                tokens = tokenizer(list(texts[begin : begin + _TEXT_BATCH])).to(self._device)
                vectors.append(self._model.encode_text(tokens).float().cpu())
        longest = tokenizer.context_length - 2  # start and end of text
        truncated = sum(len(tokenizer.encode(text)) > longest for text in texts)
        if not vectors:
            return np.zeros((0, self._architecture.embed_dim), dtype=np.float32), 0
        return torch.cat(vectors).numpy(), truncated

    def _tokens_in_parts(self, pixels: torch.Tensor) -> torch.Tensor:
        """Halves a batch that the device's memory does not hold; results stay the same."""
        try:
            return self._tokens(pixels)
        except torch.OutOfMemoryError:
            if len(pixels) == 1:
                raise
        torch.cuda.empty_cache()
        half = len(pixels) // 2
        return torch.cat(
            [self._tokens_in_parts(pixels[:half]), self._tokens_in_parts(pixels[half:])]
        )

    def _tokens(self, pixels: torch.Tensor) -> torch.Tensor:
        """Returns float16 [B, 1 + P, D], CLS first, from uint8 [B, S, S, 3]."""
        with torch.inference_mode():
            normal = self._visual.forward_intermediates(
                self._normalised(pixels),
                indices=1,
                normalize_intermediates=False,
                output_fmt="NLC",
                output_extra_tokens=True,
            )
            cls = normal["image_intermediates_prefix"][-1]
            patch = normal["image_intermediates"][-1]
            tokens = torch.cat([cls, patch], dim=1).float()
            tokens = F.layer_norm(tokens, self._norm[0].shape, *self._norm, self._norm_eps)
            if self._spec.joint:
                tokens = tokens @ self._projection
            return tokens.half()

    def _normalised(self, pixels: torch.Tensor) -> torch.Tensor:
        scaled = pixels.to(self._device).permute(0, 3, 1, 2).float() / 255.0
        return ((scaled - self._mean) / self._std).to(self._dtype)

    def _channels(self, values: tuple[float, float, float]) -> torch.Tensor:
        return torch.tensor(values, device=self._device).view(1, 3, 1, 1)

    def _self_test(self) -> None:
        """Holds the projected CLS token against the model's own pooled feature, once.

        Raises:
            InputError: they differ, so this open_clip builds the tower in another way.
        """
        size = self.preprocess.image_size
        generator = torch.Generator().manual_seed(0)
        pixels = torch.randint(0, 256, (2, size, size, 3), generator=generator, dtype=torch.uint8)
        tokens = self._tokens(pixels)
        if tokens.shape[1:] != (1 + self._architecture.patches, self._dim):
            raise InputError(
                f"the tower of {self._spec.model} gives tokens of shape {list(tokens.shape[1:])}; "
                f"its configuration promises [{1 + self._architecture.patches}, {self._dim}]"
            )
        if not self._spec.joint:
            return
        with torch.inference_mode():
            pooled = self._visual(self._normalised(pixels)).float()
        difference = (tokens[:, 0].float() - pooled).norm() / pooled.norm()
        # Written so that NaN fails too.
        if not float(difference) <= _TOLERANCES[self._spec.precision]:
            raise InputError(
                f"the projected CLS token of {self._spec.model} differs by {float(difference):.2g} "
                "from the pooled image feature: either the weights are broken, or this version of "
                "open_clip pools in another way; use a version that pyproject.toml allows"
            )

    @property
    def _dim(self) -> int:
        return self._architecture.dim(joint=self._spec.joint)


def load_encoder(spec: EncoderSpec) -> ClipEncoder:
    """Loads an encoder: a model of open_clip and one of your own take the same path.

    Raises:
        InputError: no such model, no grid of patch tokens, weights that do not fit or do not
            match what open_clip knows about them, or a failed self-test.
    """
    return ClipEncoder(spec)


def _digest_state(state: dict[str, torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode())
        digest.update(state[name].detach().cpu().numpy().tobytes())
    return digest.hexdigest()
