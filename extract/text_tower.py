"""An encoder's text tower by itself, for training: sentence features and what becomes of each word."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import torch
from torch import nn

from extract.encoder_spec import EncoderSpec, digest_weights
from extract.model_loading import digest_state, load_model
from extract.sentence_tokens import require_vocabulary, sentence_tokens

if TYPE_CHECKING:
    from open_clip import CLIP


class OpenClipTextTower:
    """The text tower and the tokenizer of an encoder, in fp32 on the CPU; training may move it.

    Attributes:
        network: tokens int64 [R, T] -> sentence features [R, D], the vectors that ``encode_text``
            gives, and word tokens [R, T, W], the last layer behind its norm.
        width: W, the tower's own width.
        weights_sha256: of the encoder's weights, as in the sentence table.
    """

    def __init__(self, spec: EncoderSpec) -> None:
        """Loads the tower.

        Raises:
            InputError: the weights do not load, or the tokenizer is absent or not the tower's.
        """
        self._spec = spec
        self._architecture = spec.architecture
        self._tokens = sentence_tokens(spec, self._architecture)
        known = None if spec.weights is None else digest_weights(spec.weights)
        model = load_model(spec, self._architecture)
        self.weights_sha256 = known or digest_state(model.state_dict())
        self.network: nn.Module = _TextNetwork(model)
        self.width = int(cast("int", self._architecture.text_cfg.get("width", 512)))

    @property
    def mask_id(self) -> int | None:
        """A token that can stand for a hidden word; None where the tokenizer has none."""
        return self._tokens.mask_id

    def tokens(self, texts: Sequence[str]) -> torch.Tensor:
        """Returns int64 [R, T]: tokens of R texts, padded and cut to the tower's context.

        Raises:
            InputError: the tokenizer belongs to another model.
        """
        tokens = self._tokens.tokens(texts)
        require_vocabulary(tokens, self._spec, self._architecture)
        return tokens

    def truncated(self, texts: Sequence[str]) -> int:
        """Returns how many of the texts are longer than the context and lose their end."""
        return self._tokens.truncated(texts)

    def is_word(self, tokens: torch.Tensor) -> torch.Tensor:
        """Returns bool [R, T]: where a token is part of the sentence."""
        return self._tokens.is_word(tokens)


class _TextNetwork(nn.Module):
    """What open_clip's model has for texts, without its eyes."""

    def __init__(self, model: "CLIP") -> None:
        super().__init__()
        for part in ("visual", "logit_scale", "logit_bias"):
            setattr(model, part, None)
        self.clip = model

    def forward(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        out = self.clip.forward_intermediates(
            text=tokens,
            text_indices=1,
            normalize=False,
            normalize_intermediates=True,
            text_output_fmt="NLC",
        )
        return out["text_features"], out["text_intermediates"][-1]
