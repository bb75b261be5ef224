"""Sentence features of a data set's questions, beside the store whose encoder made them.

Extraction computes them while it has the encoder; training reads them and needs no weights.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pyarrow.compute as pc

from cache_schema import Question, SentenceTable, read_sentences, write_sentences
from cache_schema.errors import InputError
from cache_schema.identity import UNKNOWN, FeatureIdentity
from cache_schema.storage.durable_files import replace_file
from cache_schema.tables.question_table import tabled
from extract.encoder_spec import EncoderSpec, identity_of


def sentences_path(store: Path, questions: Sequence[Question]) -> Path:
    """The file of exactly these questions' sentences: another text, another file."""
    digest = hashlib.sha256("\0".join(_texts(questions)).encode()).hexdigest()
    return store.with_name(f"{store.name}.sentences") / f"{digest[:16]}.parquet"


def encode_sentences(spec: EncoderSpec, store: Path, questions: Sequence[Question]) -> int:
    """Run the frozen text tower over every question and candidate, unless that was done before.

    Args:
        spec: The encoder that makes the store.
        store: The store's folder.
        questions: The question table.

    Returns:
        How many texts were encoded; 0 if the file was there.
    """
    path = sentences_path(store, questions)
    if path.is_file():
        return 0
    from extract.encoder import load_encoder

    encoder = load_encoder(spec)
    texts = _texts(questions)
    features, truncated = encoder.encode_text(texts)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_sentences(
        path,
        SentenceTable(
            texts=tuple(texts),
            features=features,
            encoder=spec.model,
            weights_sha256=encoder.identity(frames=1).weights_sha256,
            context_length=encoder.context_length,
            truncated=truncated,
        ),
    )
    return len(texts)


def require_same_encoder(spec: EncoderSpec, identity: FeatureIdentity) -> None:
    """Refuse to encode questions with another encoder than made a store, as far as it tells.

    Raises:
        InputError: The weights, or the width of the features, are others.
    """
    spoken = identity_of(spec, frames=1)
    told = identity.weights_sha256 != UNKNOWN
    if told and spoken.weights_sha256 != identity.weights_sha256:
        raise InputError(
            f"The store's features are of weights {identity.weights_sha256[:12]}, these weights are "
            f"{spoken.weights_sha256[:12]}; questions and clips must be encoded by one CLIP."
        )
    if spoken.dim != identity.dim:
        raise InputError(
            f"This encoder's features have width {spoken.dim}, the store's {identity.dim}; name the "
            f"encoder that made them."
        )


def copy_sentences(source: Path, target: Path) -> int:
    """Give a variant of a store the sentence features of the store that it was made of.

    Returns:
        How many files were copied; those that were there stay.
    """
    copied = 0
    folder = target.with_name(f"{target.name}.sentences")
    for file in sorted(source.with_name(f"{source.name}.sentences").glob("*.parquet")):
        if not (folder / file.name).exists():
            folder.mkdir(parents=True, exist_ok=True)
            replace_file(folder / file.name, file.read_bytes())
            copied += 1
    return copied


def load_sentences(store: Path, questions: Sequence[Question]) -> SentenceTable:
    """The sentence features that belong to a store and a question table.

    Raises:
        InputError: They were not encoded yet.
    """
    path = sentences_path(store, questions)
    if not path.is_file():
        raise InputError(
            f"The questions have no sentence features for the store {store}: {path} is absent. "
            "Extraction encodes them; run it again (clips that are done are skipped). For a store "
            "that was imported, `videodistill store sentences` does."
        )
    return read_sentences(path)


def _texts(questions: Sequence[Question]) -> list[str]:
    """Every question and candidate once, in text order; of millions, no question is made for it."""
    table = tabled(questions)
    columns = (table.column("question"), pc.list_flatten(table.column("candidates")))
    return sorted({text for column in columns for text in pc.unique(column).to_pylist()})
