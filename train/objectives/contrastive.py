"""Eq. 8: the contrastive constraint on matched pairs.

Shapes: R = pairs of a text and a clip, D = model width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def contrastive_loss(
    v_star_RD: Tensor, t_cls_RD: Tensor, matched_R: Tensor, alike_RR: Tensor, tau: float
) -> Tensor:
    r"""Return the mean of Eq. 8 over the matched pairs; 0 where there are none.

    .. math::
        \mathcal L_{CL} = -\sum_{i \in B} \log \frac{\mathbb I(matched)\, \exp(s(v_i, t_i) / \tau)}
        {\sum_{j \in B} \exp(s(v_i, t_j) / \tau)}

    with $s$ the cosine. Each clip was looked at once, with its own text: the other texts of the
    batch are compared with the embedding that this one gave. The mean takes the place of the sum so
    that Eq. 10's terms do not change their weights with the batch size; a text that is as true of
    the clip, because another pair shares clip or text, is no negative.

    Args:
        v_star_RD: v*_cls of each pair.
        t_cls_RD: t_cls of each pair.
        matched_R: bool, which pairs were not exchanged.
        alike_RR: bool, pairs whose texts are true of each other's clips.
        tau: temperature (paper: 0.07).
    """
    cosine_RR = F.normalize(v_star_RD, dim=-1) @ F.normalize(t_cls_RD, dim=-1).mT
    own_RR = torch.eye(len(matched_R), dtype=torch.bool, device=matched_R.device)
    logit_RR = (cosine_RR / tau).masked_fill(alike_RR & ~own_RR, -torch.inf)
    loss_R = -logit_RR.log_softmax(-1).diagonal()
    return loss_R[matched_R].sum() / matched_R.sum().clamp_min(1)
