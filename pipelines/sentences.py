"""Sentence features of a data set's questions: computed once per encoder, then read from disk."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from cache_schema import Question, SentenceTable, read_sentences, write_sentences
from extract.encoder import EncoderSpec, load_encoder


def sentence_table(spec: EncoderSpec, questions: Iterable[Question], folder: Path) -> SentenceTable:
    """The frozen text tower's features of every question and candidate.

    The file's name is a digest of the encoder and of the texts, so that a changed question or
    encoder can never meet old features.

    Args:
        spec: The encoder whose text tower is used: the one that made the store.
        questions: The question table.
        folder: Where the tables of this data set lie.

    Returns:
        Features of every distinct text.
    """
    texts = sorted({text for q in questions for text in (q.question, *q.candidates)})
    encoder = load_encoder(spec)
    words = "\0".join([encoder.weights_sha256, *texts])
    path = folder / f"sentences-{hashlib.sha256(words.encode()).hexdigest()[:16]}.parquet"
    if path.is_file():
        return read_sentences(path)
    features, truncated = encoder.encode_text(texts)
    table = SentenceTable(
        texts=tuple(texts),
        features=np.asarray(features, dtype=np.float32),
        encoder=encoder.name,
        weights_sha256=encoder.weights_sha256,
        context_length=encoder.context_length,
        truncated=truncated,
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_sentences(path, table)
    return table
