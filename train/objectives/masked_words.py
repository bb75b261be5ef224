"""Eq. 9: hidden words of a caption are told from the video, and from what is left of the caption.

Shapes: M = matched pairs, T = context length, I = masked words, V = words of the training captions,
D = model width, W = width of the text tower.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cache_schema.errors import InputError
from train.config import PretrainingConfig
from train.model.masked_word_head import MaskedWordHead
from train.model.taken_rows import take_rows
from train.text_tower import TextTower


class Masked(NamedTuple):
    """Sentences with hidden words."""

    token: Tensor
    """int64 [M, T]."""
    chosen: Tensor
    """bool [M, T], where a word is to be told; a tenth of them stand there unchanged."""


class MaskedWords:
    """The loss of Eq. 9 on the matched pairs of a batch."""

    def __init__(self, options: PretrainingConfig, tower: TextTower, head: MaskedWordHead) -> None:
        """Take the tower, which need not be the model's own, and the head, which is.

        Raises:
            InputError: the tokenizer has no token to hide a word with.
        """
        if tower.mask_id is None:
            raise InputError(
                "The encoder's tokenizer has no token that can stand for a hidden word; pretrain "
                "without: --set pretraining.masked_words=false."
            )
        self._options = options
        self._tower = tower
        # A tower beside the model is not moved with it.
        tower.network.to(head.word.weight.device)
        self._mask_id = tower.mask_id
        self._head = head

    def __call__(self, token_MT: Tensor, v_star_MD: Tensor, generator: torch.Generator) -> Tensor:
        """Mask words of the matched captions, and return the loss of telling them."""
        masked = mask_words(
            token_MT,
            self._tower.is_word(token_MT),
            self._mask_id,
            self._head.word_id,
            self._options,
            generator,
        )
        return masked_word_loss(self._head, self._tower.network, token_MT, masked, v_star_MD)


def mask_words(
    token_MT: Tensor,
    is_word_MT: Tensor,
    mask_id: int,
    word_id_V: Tensor,
    options: PretrainingConfig,
    generator: torch.Generator,
) -> Masked:
    """Hide words as BERT does.

    Of a sentence's words `mask_share` are chosen, rounded, and at least one. Of those,
    `mask_by_token` become `mask_id`, `mask_by_random` any word of the training captions, and the
    rest stay.

    Args:
        token_MT: tokens of the sentences.
        is_word_MT: where they are words.
        mask_id: a token that is no word.
        word_id_V: the words that a random one is drawn from.
        options: the shares.
        generator: of all draws, on the tokens' device.
    """
    shape, device = token_MT.shape, token_MT.device
    drawn_MT = torch.rand(shape, generator=generator, device=device).masked_fill(~is_word_MT, 2.0)
    rank_MT = drawn_MT.argsort(-1).argsort(-1)
    wanted_M = (is_word_MT.sum(-1) * options.mask_share).round().clamp(min=1)
    chosen_MT = (rank_MT < wanted_M[:, None]) & is_word_MT
    fate_MT = torch.rand(shape, generator=generator, device=device)
    other_MT = torch.randint(len(word_id_V), shape, generator=generator, device=device)
    by_token_MT = chosen_MT & (fate_MT < options.mask_by_token)
    by_random_MT = chosen_MT & ~by_token_MT
    by_random_MT &= fate_MT < options.mask_by_token + options.mask_by_random
    hidden_MT = token_MT.masked_fill(by_token_MT, mask_id)
    return Masked(torch.where(by_random_MT, word_id_V[other_MT], hidden_MT), chosen_MT)


def masked_word_loss(
    head: MaskedWordHead, network: nn.Module, token_MT: Tensor, masked: Masked, v_star_MD: Tensor
) -> Tensor:
    r"""Return the mean of Eq. 9 over all masked words; 0 where there are none.

    .. math::
        \mathcal L_{VG\text{-}MLM} = -\mathbb E \log p(w_i \mid SG(w_i^M), v^*_{cls})

    No gradient passes through $w_i^M$, so that the tower runs without any; v*_cls is of the whole
    caption, and passes it on. CLIP's tower is causal: its $w_i^M$ knows only the words before.

    Args:
        head: tells the words.
        network: the text tower, tokens -> (sentence features, word tokens).
        token_MT: the sentences, unmasked.
        masked: the same, masked.
        v_star_MD: v*_cls of each pair.
    """
    with torch.no_grad():
        _, w_MTW = network(masked.token)
    pair_I, _ = masked.chosen.nonzero(as_tuple=True)
    logit_IV = head(w_MTW[masked.chosen].to(v_star_MD.dtype), take_rows(v_star_MD, pair_I))
    class_I = head.classes(token_MT[masked.chosen])
    return F.cross_entropy(logit_IV.float(), class_I, reduction="sum") / max(1, len(class_I))
