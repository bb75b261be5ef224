"""How well a text and a clip fit, by what the run has trained: what pairs are ranked by.

Shapes: R = pairs of a text and a clip.
"""

import torch.nn.functional as F
from torch import Tensor

from train.config import TrainConfig
from train.model.matching_head import matching_score
from train.model.video_distill import Answering


def pair_score(config: TrainConfig, answering: Answering) -> Tensor:
    """Return a score [R], higher is nearer.

    It is the matching head's; of a pretraining run without the matching loss, whose head stays as it
    was drawn, the cosine of v*_cls and t_cls that Eq. 8 trains.
    """
    head_trained = config.task != "pretrain" or config.pretraining.matching
    if not head_trained and answering.video is not None and answering.text is not None:
        return F.cosine_similarity(answering.video.float(), answering.text.float(), dim=-1)
    return matching_score(answering.logits.float())
