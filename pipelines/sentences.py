"""Sentence features of a data set's questions and captions, beside the store whose encoder made them.

Extraction computes them while it has the encoder; training reads them and needs no weights.
"""

import hashlib
from pathlib import Path

import pyarrow.compute as pc

from cache_schema import SentenceTable, read_sentences, write_sentences
from cache_schema.errors import InputError
from cache_schema.identity import UNKNOWN, FeatureIdentity
from cache_schema.storage.durable_files import replace_file
from cache_schema.tables.caption_table import CaptionTable
from cache_schema.tables.question_table import QuestionTable, choice_text, tabled
from extract.encoder_spec import EncoderSpec, identity_of
from pipelines.datasets.annotations import Annotations


def sentences_path(store: Path, annotations: Annotations) -> Path:
    """The file of exactly these questions' and captions' sentences: another text, another file."""
    digest = hashlib.sha256("\0".join(_texts(annotations)).encode()).hexdigest()
    return store.with_name(f"{store.name}.sentences") / f"{digest[:16]}.parquet"


def encode_sentences(spec: EncoderSpec, store: Path, annotations: Annotations) -> int:
    """Run the frozen text tower over every question, candidate and caption, unless that was done before.

    Args:
        spec: The encoder that makes the store.
        store: The store's folder.
        annotations: The data set.

    Returns:
        How many texts were encoded; 0 if the file was there.
    """
    path = sentences_path(store, annotations)
    if path.is_file():
        return 0
    from extract.encoder import load_encoder

    encoder = load_encoder(spec)
    texts = _texts(annotations)
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


def load_sentences(store: Path, annotations: Annotations) -> SentenceTable:
    """The sentence features that belong to a store and a data set.

    Raises:
        InputError: They were not encoded yet.
    """
    path = sentences_path(store, annotations)
    if not path.is_file():
        raise InputError(
            f"The sentences of the data set have no features for the store {store}: {path} is absent. "
            "Extraction encodes them; run it again (clips that are done are skipped). For a store "
            "that was imported, `videodistill store sentences` does."
        )
    return read_sentences(path)


def _texts(annotations: Annotations) -> list[str]:
    """Every text that a run may ask for, once, in text order: of millions, no object is made for one."""
    table = tabled(annotations.questions)
    questions = pc.unique(table.column("question")).to_pylist()
    candidates = pc.unique(pc.list_flatten(table.column("candidates"))).to_pylist()
    captions = annotations.captions
    if isinstance(captions, CaptionTable):
        sentences = pc.unique(captions.column("text")).to_pylist()
    else:
        sentences = [caption.text for caption in captions]
    return sorted({*questions, *candidates, *_choice_texts(table), *sentences})


def _choice_texts(table: QuestionTable) -> set[str]:
    """What stands for each candidate of each question: both in one sentence."""
    candidates = table.column("candidates").combine_chunks()
    asked = table.column("question").combine_chunks().take(pc.list_parent_indices(candidates))
    pairs = zip(asked.to_pylist(), candidates.flatten().to_pylist(), strict=True)
    return {choice_text(question, candidate) for question, candidate in pairs}
