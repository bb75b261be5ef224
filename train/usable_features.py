"""Whether a store's features may be trained on by a run at all, before anything is read."""

from cache_schema.errors import InputError
from cache_schema.identity import UNKNOWN, FeatureIdentity
from cache_schema.tables.sentence_table import SentenceTable
from train.config import TrainConfig
from train.methods import MODELS, reads_patches


def require_usable(
    config: TrainConfig, identity: FeatureIdentity, sentences: SentenceTable
) -> None:
    """Refuse features that nobody can name, that lack what the model reads, or of another encoder.

    Raises:
        InputError: naming the unknown fields, the patches or the weights.
    """
    if identity.unknown and not config.allow_unknown_identity:
        raise InputError(
            f"The store was imported from {identity.origin!r} and does not know "
            f"{', '.join(identity.unknown)} of its features: results on it can be compared with no "
            f"other store's. Import it again and say what you know, or accept this with "
            f"--allow-unknown-identity (`allow_unknown_identity = true` in a preset)."
        )
    if identity.patches == 0 and reads_patches(config):
        others = ", ".join(
            sorted(name for name, model in MODELS.items() if not model.reads_patches)
        )
        raise InputError(
            f"The method {config.method!r} reads patch features, and the store has one vector a frame. "
            f"Extract or import patches, or train what reads none: {others}."
        )
    if UNKNOWN != identity.weights_sha256 != sentences.weights_sha256:
        raise InputError(
            f"The clips' features are of weights {identity.weights_sha256[:12]}, the questions' of "
            f"{sentences.weights_sha256[:12]}; both must come from one CLIP. Encode the questions again."
        )
