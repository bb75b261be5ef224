"""The text tower of the encoder that made a store, for runs that train it or mask words with it."""

from cache_schema import SentenceTable
from cache_schema.errors import InputError
from extract.encoder_spec import EncoderSpec
from pipelines.datasets.demo.encoder_files import CONFIG_PATH, WEIGHTS_PATH
from pipelines.encoders import EncoderFiles
from train.text_tower import LoadTower, TextTower

_SHIPPED = "demo-clip"


def tower_loader(sentences: SentenceTable, files: EncoderFiles) -> LoadTower:
    """How a run gets the tower that encoded its sentences; nothing is read before it asks.

    Args:
        sentences: The sentence features, which name their encoder.
        files: Where it is, unless it is the demo's.
    """

    def load() -> TextTower:
        # Loads open_clip, which most runs have no use for.
        from extract.text_tower import OpenClipTextTower

        need = "This run, unlike one with model.text=linear and pretraining.masked_words=false,"
        return OpenClipTextTower(
            encoder_of(sentences.encoder, sentences.weights_sha256, files, need=need)
        )

    return load


def encoder_of(model: str, weights_sha256: str, files: EncoderFiles, *, need: str) -> EncoderSpec:
    """The encoder that made a store, or its sentences.

    Args:
        model: its name.
        weights_sha256: of its weights.
        files: where it is, unless it is the demo's.
        need: what wants it, for the message.

    Raises:
        InputError: it is not the demo's, and its weights are not named.
    """
    weights, config = files.weights, files.model_config
    if weights is None and model == _SHIPPED:
        weights, config = WEIGHTS_PATH, CONFIG_PATH
    if weights is None:
        raise InputError(
            f"{need} needs the text tower of {model}, which is in the encoder's weights: give them with "
            f"--weights (SHA-256 {weights_sha256})."
        )
    return EncoderSpec(
        model=model,
        weights=weights,
        model_config=config,
        pretrained_tag=files.pretrained_tag,
        tokenizer=files.tokenizer,
    )
