"""Section 3.5: the video-text matching head, which also scores choices and retrieval.

Shapes: R = pairs of a text and a clip, D = model width.
"""

from typing import Final

from torch import Tensor, nn

MATCHED: Final = 1
"""The class of a pair whose text is about its clip; the other one, 0, is of those exchanged."""


class MatchingHead(nn.Module):
    """`Linear(D -> 2)` on v*_cls, "a linear projection head" (Section 3.5)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.match = nn.Linear(dim, 2)

    def forward(self, v_star_RD: Tensor) -> Tensor:
        """Return matching logits [R, 2]."""
        logit_R2: Tensor = self.match(v_star_RD)
        return logit_R2


def matching_score(logit_R2: Tensor) -> Tensor:
    """Return log p(matched) - log p(exchanged) of every pair [R], by which choices are ranked."""
    return logit_R2[:, MATCHED] - logit_R2[:, 1 - MATCHED]
