"""Which objective a run's task has."""

from train.config import TrainConfig
from train.objectives.choice import Choice
from train.objectives.objective import Objective
from train.objectives.open_answer import OpenAnswer
from train.objectives.pretraining import Pretraining


def build_objective(config: TrainConfig) -> Objective:
    """Return what the run minimises."""
    if config.task == "answer":
        return OpenAnswer(config)
    return Choice(config) if config.task == "choose" else Pretraining(config)
