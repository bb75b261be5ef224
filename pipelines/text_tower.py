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

        return OpenClipTextTower(_spec(sentences, files))

    return load


def _spec(sentences: SentenceTable, files: EncoderFiles) -> EncoderSpec:
    weights, config = files.weights, files.model_config
    if weights is None and sentences.encoder == _SHIPPED:
        weights, config = WEIGHTS_PATH, CONFIG_PATH
    if weights is None:
        raise InputError(
            f"This run needs the text tower of {sentences.encoder}, which is in the encoder's weights: "
            f"give them with --weights (SHA-256 {sentences.weights_sha256}). Runs with "
            "model.text=linear and pretraining.masked_words=false need none."
        )
    return EncoderSpec(
        model=sentences.encoder,
        weights=weights,
        model_config=config,
        pretrained_tag=files.pretrained_tag,
        tokenizer=files.tokenizer,
    )
