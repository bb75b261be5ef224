"""Start a run from another run's weights: from pretraining, or from another data set."""

from pathlib import Path

from torch import nn

from cache_schema.errors import InputError
from cache_schema.identity import FeatureIdentity
from train.checkpoint import read_checkpoint
from train.model.masked_word_head import MASKED_WORDS

_HEADS = ("head.", MASKED_WORDS)
"""What belongs to a task and starts anew where its shape or name is another."""


def start_from(model: nn.Module, path: Path, identity: FeatureIdentity) -> list[str]:
    """Copy another run's weights, standardisation included; returns what starts anew.

    The heads may differ; all else must be there with the same shape.

    Args:
        model: changed in place.
        path: the other run's checkpoint.
        identity: what the features of this run are.

    Raises:
        InputError: there is no such checkpoint, or its model is built otherwise.
        IdentityMismatch: it was trained on other features.
    """
    if not path.is_file():
        raise InputError(
            f"This run starts from {path}, which is not there; train that run first, or leave "
            "`start_from` empty."
        )
    checkpoint = read_checkpoint(path)
    checkpoint.require_identity(identity, path)
    theirs, ours = checkpoint.part("model"), model.state_dict()
    # The classes of masked words are those of the other run's captions.
    shared = {name for name in ours.keys() & theirs.keys() if not name.startswith(MASKED_WORDS)}
    fits = {name for name in shared if ours[name].shape == theirs[name].shape}
    odd = sorted(n for n in (ours.keys() | theirs.keys()) - fits if not n.startswith(_HEADS))
    if odd:
        raise InputError(
            f"{path} holds another model: {len(odd)} of its tensors are missing, too many or of another "
            f"shape (first: {odd[0]!r}); give both runs the same [train.model] options."
        )
    model.load_state_dict({name: theirs[name] if name in fits else ours[name] for name in ours})
    return sorted(ours.keys() - fits)
