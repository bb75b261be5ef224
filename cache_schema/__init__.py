"""The contract between extraction and training: identities, clips, feature stores and tables."""

from cache_schema.blocks.block_claim import BlockClaim
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
    StoreDenied,
    StoreError,
    StoreForeign,
    StoreNewer,
    StoreOlder,
    StoreUnreachable,
    VideoDistillError,
)
from cache_schema.identity import FRAME_POLICY, FeatureIdentity, Preprocess
from cache_schema.outcome import ClipOutcome, Status
from cache_schema.reader import FeatureStore, open_store
from cache_schema.store_root import create_store
from cache_schema.tables.caption_table import Caption, open_captions, read_captions, write_captions
from cache_schema.tables.question_table import (
    Question,
    QuestionTable,
    open_questions,
    read_evidence,
    read_questions,
    write_evidence,
    write_questions,
)
from cache_schema.tables.sentence_table import SentenceTable, read_sentences, write_sentences
from cache_schema.upkeep.verify import Finding, verify_store
from cache_schema.writer import StoreWriter

__all__ = [
    "FRAME_POLICY",
    "BlockClaim",
    "Caption",
    "Clip",
    "ClipMissing",
    "ClipOutcome",
    "CorruptStore",
    "FeatureIdentity",
    "FeatureStore",
    "Finding",
    "IdentityMismatch",
    "InputError",
    "NonFiniteFeatures",
    "Preprocess",
    "Problem",
    "Question",
    "QuestionTable",
    "SchemaError",
    "SentenceTable",
    "Status",
    "StoreAbsent",
    "StoreBusy",
    "StoreDenied",
    "StoreError",
    "StoreForeign",
    "StoreNewer",
    "StoreOlder",
    "StoreUnreachable",
    "StoreWriter",
    "VideoDistillError",
    "create_store",
    "open_captions",
    "open_questions",
    "open_store",
    "read_captions",
    "read_clips",
    "read_evidence",
    "read_questions",
    "read_sentences",
    "verify_store",
    "write_captions",
    "write_clips",
    "write_evidence",
    "write_questions",
    "write_sentences",
]
