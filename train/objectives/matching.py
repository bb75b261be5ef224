"""Eq. 7: which pairs of a batch are matched, after half of its texts changed places.

Shapes: R = pairs of a text and a clip.
"""

import torch
from torch import Tensor


def exchange(alike_RR: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """Return which pair each clip's text now comes from [R].

    "We randomly exchange the annotations of two input pairs (matched) in a mini-batch with a
    probability of 0.5": the pairs are put into couples at random, and each couple exchanges its
    texts with that probability. A couple whose exchange would change nothing stays.

    Args:
        alike_RR: bool, whether the text of one pair is as true of the other's clip.
        probability: of a couple's exchange.
        generator: of the draw.
    """
    pairs, device = len(alike_RR), alike_RR.device
    shuffled_R = torch.rand(pairs, generator=generator, device=device).argsort()
    left, right = shuffled_R[: pairs // 2], shuffled_R[pairs // 2 : pairs // 2 * 2]
    drawn = torch.rand(pairs // 2, generator=generator, device=device) < probability
    exchanged = drawn & ~alike_RR[left, right]
    source_R = torch.arange(pairs, device=device)
    source_R[left[exchanged]] = right[exchanged]
    source_R[right[exchanged]] = left[exchanged]
    return source_R


def alike(clip_R: Tensor, text_RD: Tensor) -> Tensor:
    """Whether two pairs share their clip or their text [R, R]: neither is then the other's negative."""
    same_text_RR = (text_RD[:, None] == text_RD[None]).all(-1)
    return (clip_R[:, None] == clip_R[None]) | same_text_RR
