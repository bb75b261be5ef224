"""Section 3.5: the head of vision-guided masked language modelling.

Shapes: I = masked words, D = model width, W = width of the text tower, V = words.
"""

from typing import Final

import torch
from torch import Tensor, nn

MASKED_WORDS: Final = "masked_words."
"""Where the head's tensors stand in a model; no run but the one that trains them has use for them."""


class MaskedWordHead(nn.Module):
    """The "two-layer MLP on top of the combination of w_i^M and v*_cls", combined by concatenation.

    The vocabulary is the words of the training captions, not all that the tokenizer knows: a word that
    is never masked would only be a class that is never right.

    Attributes:
        word_id: int64 [V], the token of each class, in ascending order; saved with the weights.
    """

    word_id: Tensor

    def __init__(self, dim: int, width: int, word_id_V: Tensor) -> None:
        super().__init__()
        self.register_buffer("word_id", word_id_V)
        self.hidden = nn.Linear(width + dim, dim)
        self.act = nn.GELU()
        self.word = nn.Linear(dim, len(word_id_V))

    def forward(self, w_IW: Tensor, v_star_ID: Tensor) -> Tensor:
        """Return the logits of every masked word [I, V]."""
        logit_IV: Tensor = self.word(self.act(self.hidden(torch.cat([w_IW, v_star_ID], -1))))
        return logit_IV

    def classes(self, token_I: Tensor) -> Tensor:
        """Return the class of each token [I], all of which are words of the training captions."""
        return torch.searchsorted(self.word_id, token_I)
