"""The frozen encoder: pooled and patch tokens of pictures, sentence vectors of texts."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from cache_schema import FeatureIdentity, InputError, Preprocess, VideoDistillError
from extract.batch_memory import BatchMemory
from extract.encoder_spec import EncoderSpec, digest_weights, identity_of
from extract.frame_transfer import FrameTransfer, PendingFeatures
from extract.model_loading import digest_state, load_model
from extract.sentence_tokens import SentenceTokens, require_vocabulary, sentence_tokens
from extract.vision_tower import vision_tower

__all__ = [
    "ClipEncoder",
    "EncodedFrames",
    "EncoderSpec",
    "NonFiniteFrames",
    "PendingFrames",
    "load_encoder",
]

_DTYPES: Final = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# Largest difference between our pooled token and the model's own in fp32, relative to its norm.
_TOLERANCES: Final = {"fp32": 1e-4, "bf16": 5e-2, "fp16": 5e-3}
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


@dataclass(frozen=True, slots=True, eq=False)
class PendingFrames:
    """Features that a device is still working on."""

    _features: PendingFeatures

    def wait(self) -> EncodedFrames:
        """Returns the features when they are there."""
        features = self._features.wait()
        finite = features.isfinite().flatten(1).all(1).numpy()
        tokens = features.numpy()
        return EncodedFrames(cls=tokens[:, 0], patch=tokens[:, 1:], finite=finite)


class ClipEncoder:
    """A loaded encoder. Threads may share it; calls are then made one after the other by torch.

    Made by ``load_encoder``.
    """

    def __init__(self, spec: EncoderSpec) -> None:
        self._spec = spec
        self._architecture = spec.architecture
        self._device = _device(spec.device)
        self._dtype = _DTYPES[spec.precision]
        # Digested first: a file that cannot be read is then named as such.
        known = None if spec.weights is None else digest_weights(spec.weights)
        self._model = load_model(spec, self._architecture)
        self._weights_sha256 = known or digest_state(self._model.state_dict())
        self._model.to(self._device)
        preprocess = self.preprocess
        self._mean = self._channels(preprocess.mean)
        self._std = self._channels(preprocess.std)
        probe = self._probe_pictures()
        pooled = self._pooled_by_open_clip(probe)
        self._tower = vision_tower(self._model.visual, self._architecture, self._dtype)
        self._body = self._tower.body
        self._self_test(probe, pooled)
        if spec.compile:
            self._body = torch.compile(self._body, dynamic=False)
        self._memory = BatchMemory(self._tokens)
        self._transfer = FrameTransfer(self._device)

    @property
    def preprocess(self) -> Preprocess:
        """How pictures are brought to the encoder's input."""
        return self._architecture.preprocess

    @property
    def spec(self) -> EncoderSpec:
        """What was asked for."""
        return self._spec

    @property
    def context_length(self) -> int:
        """Tokens of a sentence that the text tower reads."""
        return self._architecture.context_length

    @property
    def batch_limit(self) -> int | None:
        """Pictures that are encoded at once since memory was short; None if it never was."""
        return self._memory.limit

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
            float16 [B, D] pooled tokens and float16 [B, P, D] patch tokens, not L2-normalised;
            what they are in each family of towers stands in ``docs/encoders.md``.

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
        return self.start(pixels).wait()

    def start(self, pixels: npt.NDArray[np.uint8]) -> PendingFrames:
        """Starts to encode pictures; on a GPU, returns before they are done.

        A batch that the device's memory does not hold is halved until it does.

        Raises:
            InputError: pictures of another shape or type.
        """
        size = self.preprocess.image_size
        if pixels.dtype != np.uint8 or pixels.shape[1:] != (size, size, 3):
            raise InputError(
                f"pictures are {pixels.dtype} {pixels.shape}; this encoder takes uint8 "
                f"[B, {size}, {size}, 3]"
            )
        batch = torch.from_numpy(np.ascontiguousarray(pixels))
        return PendingFrames(self._transfer.start(batch, self._memory))

    def encode_text(self, texts: Sequence[str]) -> tuple[npt.NDArray[np.float32], int]:
        """Encodes sentences into the space shared with pictures.

        Args:
            texts: n sentences.

        Returns:
            float32 [n, D], not L2-normalised, and the number of texts that were longer than the
            model's context and lost their end.

        Raises:
            InputError: the text tower's tokenizer is absent, or does not belong to it.
        """
        vectors = [np.zeros((0, self._architecture.embed_dim), dtype=np.float32)]
        with torch.inference_mode():
            for begin in range(0, len(texts), _TEXT_BATCH):
                tokens = self._sentence_tokens.tokens(texts[begin : begin + _TEXT_BATCH])
                require_vocabulary(tokens, self._spec, self._architecture)
                features = self._model.encode_text(tokens.to(self._device))
                vectors.append(features.float().cpu().numpy())
        return np.concatenate(vectors), self._sentence_tokens.truncated(texts)

    @cached_property
    def _sentence_tokens(self) -> SentenceTokens:
        return sentence_tokens(self._spec, self._architecture)

    def _tokens(self, pixels: torch.Tensor) -> torch.Tensor:
        """Returns float16 [B, 1 + P, D], the pooled token first, from uint8 [B, S, S, 3]."""
        with torch.inference_mode():
            tokens = self._trunk_tokens(pixels)
            return (self._tower.project(tokens) if self._spec.joint else tokens).half()

    def _trunk_tokens(self, pixels: torch.Tensor) -> torch.Tensor:
        pooled, patch = self._tower.trunk_tokens(self._body(self._normalised(pixels)))
        return torch.cat([pooled[:, None], patch], dim=1)

    def _normalised(self, pixels: torch.Tensor) -> torch.Tensor:
        scaled = pixels.to(self._device).permute(0, 3, 1, 2).float() / 255.0
        return ((scaled - self._mean) / self._std).to(self._dtype)

    def _channels(self, values: tuple[float, float, float]) -> torch.Tensor:
        return torch.tensor(values, device=self._device).view(1, 3, 1, 1)

    def _probe_pictures(self) -> torch.Tensor:
        size = self.preprocess.image_size
        generator = torch.Generator().manual_seed(0)
        return torch.randint(0, 256, (2, size, size, 3), generator=generator, dtype=torch.uint8)

    def _pooled_by_open_clip(self, pixels: torch.Tensor) -> torch.Tensor:
        """Returns the image feature that the untouched model gives, fp32 [B, D]."""
        scaled = pixels.to(self._device).permute(0, 3, 1, 2).float() / 255.0
        with torch.inference_mode():
            feature: torch.Tensor = self._model.encode_image((scaled - self._mean) / self._std)
        return feature

    def _self_test(self, pixels: torch.Tensor, expected: torch.Tensor) -> None:
        """Holds the pooled token against the model's own image feature, once.

        Raises:
            InputError: they differ, so this open_clip builds the tower in another way.
        """
        shape = (1 + self._architecture.patches, self._architecture.width)
        with torch.inference_mode():
            tokens = self._trunk_tokens(pixels)
            if tokens.shape[1:] != shape:
                raise InputError(
                    f"the tower of {self._spec.model} gives tokens of shape "
                    f"{list(tokens.shape[1:])}; its configuration promises {list(shape)}"
                )
            difference = (self._tower.project(tokens[:, 0]) - expected).norm() / expected.norm()
        # Written so that NaN fails too.
        if not float(difference) <= _TOLERANCES[self._spec.precision]:
            raise InputError(
                f"the pooled token of {self._spec.model} differs by {float(difference):.2g} "
                "from the model's own image feature: either the weights are broken, or this "
                "version of open_clip pools in another way; use a version that pyproject.toml allows"
            )


def load_encoder(spec: EncoderSpec) -> ClipEncoder:
    """Loads an encoder: a model of open_clip and one of your own take the same path.

    Raises:
        InputError: no such model, no grid of patch tokens, weights that do not fit or do not
            match what open_clip knows about them, or a failed self-test.
    """
    return ClipEncoder(spec)


def _device(name: str) -> torch.device:
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"The device {name} was asked for, and torch {torch.__version__} sees "
            f"{torch.cuda.device_count()} CUDA devices here: name another, or check the driver."
        )
    return device
