"""The contract between extraction and training: identities, clips, feature stores and tables."""

from cache_schema.clip import Clip, read_clips, write_clips
from cache_schema.errors import (
    ClipMissing,
    CorruptStore,
    IdentityMismatch,
    InputError,
    NonFiniteFeatures,
    Problem,
    SchemaError,
    StoreAbsent,
    StoreBusy,
    StoreError,
    StoreForeign,
    StoreNewer,
    StoreOlder,
    VideoDistillError,
)
from cache_schema.identity import FRAME_POLICY, FeatureIdentity, Preprocess
from cache_schema.outcome import ClipOutcome, Status
from cache_schema.question_table import (
    Question,
    read_evidence,
    read_questions,
    write_evidence,
    write_questions,
)
from cache_schema.sentence_table import SentenceTable, read_sentences, write_sentences

__all__ = [
    "FRAME_POLICY",
    "Clip",
    "ClipMissing",
    "ClipOutcome",
    "CorruptStore",
    "FeatureIdentity",
    "IdentityMismatch",
    "InputError",
    "NonFiniteFeatures",
    "Preprocess",
    "Problem",
    "Question",
    "SchemaError",
    "SentenceTable",
    "Status",
    "StoreAbsent",
    "StoreBusy",
    "StoreError",
    "StoreForeign",
    "StoreNewer",
    "StoreOlder",
    "VideoDistillError",
    "read_clips",
    "read_evidence",
    "read_questions",
    "read_sentences",
    "write_clips",
    "write_evidence",
    "write_questions",
    "write_sentences",
]
