"""Which model a configuration names."""

from collections.abc import Mapping
from typing import Final

from torch import Tensor, nn

from cache_schema.identity import FeatureIdentity
from train.baselines.atp import ATP, TemporalATP
from train.baselines.hcrn import HCRN
from train.baselines.mean_frame import MeanFrame
from train.baselines.mist import MIST
from train.baselines.psac import PSAC
from train.baselines.single_frame import SingleRandomFrame
from train.baselines.text_only import TextOnly
from train.checkpoint import Checkpoint
from train.config import FeatureSizes, Method, TrainConfig
from train.model.masked_word_head import MASKED_WORDS, MaskedWordHead
from train.model.video_distill import VideoDistill
from train.text_tower import TextTower, masks_words, reads_texts

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


def build_model(
    config: TrainConfig,
    sizes: FeatureSizes,
    answers: int,
    *,
    tower: TextTower | None = None,
    word_id_V: Tensor | None = None,
) -> nn.Module:
    """Build an untrained model; its random weights come from torch's global generator.

    Args:
        config: the run.
        sizes: of the features.
        answers: classes of the answer head; not looked at where the task scores pairs.
        tower: the text tower, which becomes part of the model where the run fine-tunes it.
        word_id_V: the words that masked ones are told among; without them there is no head for it.

    Raises:
        ConfigError: the options do not fit the sizes.
    """
    if config.method == "videodistill":
        head = None
        if masks_words(config) and tower is not None and word_id_V is not None:
            head = MaskedWordHead(sizes.dim, tower.width, word_id_V)
        return VideoDistill(
            config.model,
            sizes,
            answers if config.task == "answer" else None,
            tower=tower.network if tower is not None and reads_texts(config) else None,
            masked_words=head,
        )
    # A baseline tells matched from exchanged pairs as it tells answers apart: two classes.
    return MODELS[config.method](config.model, sizes, answers if config.task == "answer" else 2)


def restore_model(state: Checkpoint, tower: TextTower | None = None) -> nn.Module:
    """Build the model of a checkpoint with its weights, ready to be asked.

    Args:
        state: the checkpoint.
        tower: the text tower, where the run has fine-tuned it; its weights become the checkpoint's.
    """
    model = build_model(state.config, sizes_of(state.identity), len(state.vocabulary), tower=tower)
    tensors = state.part("model")
    model.load_state_dict({n: t for n, t in tensors.items() if not n.startswith(MASKED_WORDS)})
    return model


def reads_patches(config: TrainConfig) -> bool:
    """Whether a run's model looks at patches at all; without them a batch is 50 times smaller."""
    return MODELS[config.method].reads_patches
