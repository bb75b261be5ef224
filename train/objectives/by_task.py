"""Which objective a run's task has."""

from torch import nn

from train.config import TrainConfig
from train.model.masked_word_head import MaskedWordHead
from train.objectives.choice import Choice
from train.objectives.masked_words import MaskedWords
from train.objectives.objective import Objective
from train.objectives.open_answer import OpenAnswer
from train.objectives.pretraining import Pretraining
from train.text_tower import TextTower, masks_words


def build_objective(
    config: TrainConfig, model: nn.Module, tower: TextTower | None = None
) -> Objective:
    """Return what the run minimises.

    Args:
        config: the run.
        model: what it trains.
        tower: the text tower, of a run that masks words.
    """
    if config.task == "answer":
        return OpenAnswer(config)
    if config.task == "choose":
        return Choice(config)
    head = getattr(model, "masked_words", None)
    if tower is None or not masks_words(config) or not isinstance(head, MaskedWordHead):
        return Pretraining(config)
    return Pretraining(config, MaskedWords(config.pretraining, tower, head))
