"""Which model a configuration names."""

from torch import nn

from cache_schema.identity import FeatureIdentity
from train.config import FeatureSizes, TrainConfig
from train.model.video_distill import VideoDistill
from train.probes import FrameProbe


def sizes_of(identity: FeatureIdentity) -> FeatureSizes:
    """The sizes that a store's features give a model."""
    return FeatureSizes(dim=identity.dim, frames=identity.frames, patches=identity.patches)


def build_model(config: TrainConfig, sizes: FeatureSizes, answers: int) -> nn.Module:
    """Build an untrained model; its random weights come from torch's global generator.

    Raises:
        ConfigError: the options do not fit the sizes.
    """
    if config.method == "videodistill":
        config.model.check_sizes(sizes)
        return VideoDistill(config.model, sizes, answers)
    return FrameProbe(config.model, sizes, answers, single=config.method == "single_random_frame")
