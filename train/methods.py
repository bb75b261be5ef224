"""Which model a configuration names."""

from collections.abc import Mapping
from typing import Final

from torch import nn

from cache_schema.identity import FeatureIdentity
from train.baselines.atp import ATP, TemporalATP
from train.baselines.hcrn import HCRN
from train.baselines.mean_frame import MeanFrame
from train.baselines.mist import MIST
from train.baselines.psac import PSAC
from train.baselines.single_frame import SingleRandomFrame
from train.baselines.text_only import TextOnly
from train.config import FeatureSizes, Method, TrainConfig
from train.model.video_distill import VideoDistill

Model = (
    type[VideoDistill]
    | type[MeanFrame]
    | type[SingleRandomFrame]
    | type[TextOnly]
    | type[ATP]
    | type[TemporalATP]
    | type[HCRN]
    | type[PSAC]
    | type[MIST]
)

MODELS: Final[Mapping[Method, Model]] = {
    "videodistill": VideoDistill,
    "mean_frame": MeanFrame,
    "single_random_frame": SingleRandomFrame,
    "text_only": TextOnly,
    "atp": ATP,
    "temp_atp": TemporalATP,
    "hcrn": HCRN,
    "psac": PSAC,
    "mist": MIST,
}
"""Every model that a run can train. All are called alike and return an `Answering`."""


def sizes_of(identity: FeatureIdentity) -> FeatureSizes:
    """The sizes that a store's features give a model."""
    return FeatureSizes(dim=identity.dim, frames=identity.frames, patches=identity.patches)


def build_model(config: TrainConfig, sizes: FeatureSizes, answers: int) -> nn.Module:
    """Build an untrained model; its random weights come from torch's global generator.

    Args:
        config: the run.
        sizes: of the features.
        answers: classes of the answer head; not looked at where the task scores pairs.

    Raises:
        ConfigError: the options do not fit the sizes.
    """
    model = MODELS[config.method]
    if config.task == "answer":
        return model(config.model, sizes, answers)
    if model is VideoDistill:
        return VideoDistill(config.model, sizes, None)
    # A baseline tells matched from exchanged pairs as it tells answers apart: two classes.
    return model(config.model, sizes, 2)


def reads_patches(config: TrainConfig) -> bool:
    """Whether a run's model looks at patches at all; without them a batch is 50 times smaller."""
    return MODELS[config.method].reads_patches
