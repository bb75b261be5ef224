"""A store in memory with a planted needle: the answer is to be seen in few frames of each clip."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cache_schema import ClipOutcome, FeatureStore, Status, StoreWriter, create_store, open_store
from cache_schema.identity import FeatureIdentity, Preprocess
from cache_schema.tables.question_table import Question
from cache_schema.tables.sentence_table import SentenceTable
from train.config import ModelConfig, TrainConfig

KINDS = ("red", "round", "tall", "loud")
ANSWERS = ("one", "two", "three", "four")
FRAMES, PATCHES, DIM, SPAN = 24, 4, 32, 2


def make_identity(weights: str = "weights", **changes) -> FeatureIdentity:
    values = {
        "encoder": "tiny",
        "weights_sha256": hashlib.sha256(weights.encode()).hexdigest(),
        "quick_gelu": False,
        "token_space": "joint",
        "dim": DIM,
        "patches": PATCHES,
        "frames": FRAMES,
        "precision": "fp32",
        "preprocess": Preprocess(
            image_size=32,
            resize_mode="shortest",
            interpolation="bicubic",
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
        ),
    }
    return FeatureIdentity(**{**values, **changes})


@dataclass
class MemoryStore:
    """What the tests need of a FeatureStore, with a log of what was read."""

    cls: dict[str, np.ndarray]
    patch: dict[str, np.ndarray]
    identity: FeatureIdentity = field(default_factory=make_identity)
    version: int = 1
    frames_read: int = 0

    @property
    def clip_ids(self) -> list[str]:
        return list(self.cls)

    def read_cls(self, clip_ids: Sequence[str], out=None):
        return _into(np.stack([self.cls[clip] for clip in clip_ids]), out)

    def read_patches(self, clip_ids: Sequence[str], frames=None, out=None):
        whole = np.stack([self.patch[clip] for clip in clip_ids])
        if frames is not None:
            whole = whole[np.arange(len(clip_ids))[:, None], frames]
        self.frames_read += whole.shape[0] * whole.shape[1]
        return _into(whole, out)

    def frame_times(self, clip_id: str):
        return (np.arange(len(self.cls[clip_id])) + 0.5) * 0.5


def _into(values, out):
    if out is None:
        return values
    out[...] = values
    return out


@dataclass
class Needle:
    """The synthetic task: store, questions, sentences, and where each answer is to be seen."""

    store: MemoryStore
    questions: list[Question]
    sentences: SentenceTable
    evidence: dict[str, list[tuple[float, float]]]


def make_needle(clips: dict[str, int] | None = None, seed: int = 0) -> Needle:
    """Plant, in SPAN frames per kind of question, the kind in the CLS and the answer in a patch."""
    clips = clips or {"train": 160, "val": 24, "test": 40}
    random = np.random.default_rng(seed)
    kinds, answers = random.standard_normal((2, 4, DIM))
    common = 2 * random.standard_normal(DIM)
    store = MemoryStore({}, {})
    questions, evidence = [], {}
    for split, count in clips.items():
        for number in range(count):
            clip = f"{split}-{number:03d}"
            cls = random.standard_normal((FRAMES, DIM)) + common
            patch = random.standard_normal((FRAMES, PATCHES, DIM)) + common
            starts = random.permutation(FRAMES // SPAN)[: len(KINDS)] * SPAN
            for kind, start in enumerate(starts):
                answer = random.integers(len(ANSWERS))
                cls[start : start + SPAN] += kinds[kind]
                patch[start : start + SPAN, random.integers(PATCHES)] += 2 * answers[answer]
                name = f"{clip}-{KINDS[kind]}"
                questions.append(
                    Question(
                        question_id=name,
                        clip_id=clip,
                        question=f"how many {KINDS[kind]}?",
                        answer=ANSWERS[answer],
                        split=split,
                        tags=(f"type:{KINDS[kind]}",),
                    )
                )
                times = (np.arange(start, start + SPAN) + 0.5) * 0.5
                evidence[name] = [(float(times[0]), float(times[-1]))]
            store.cls[clip] = cls.astype(np.float16)
            store.patch[clip] = patch.astype(np.float16)
    sentences = SentenceTable(
        texts=tuple(f"how many {kind}?" for kind in KINDS),
        features=(kinds + common).astype(np.float32),
        encoder="tiny",
        weights_sha256=store.identity.weights_sha256,
        context_length=16,
        truncated=0,
    )
    return Needle(store, questions, sentences, evidence)


@pytest.fixture(scope="session")
def needle() -> Needle:
    return make_needle()


@pytest.fixture
def small_needle() -> Needle:
    return make_needle({"train": 12, "val": 4, "test": 6})


def _write_features(memory: MemoryStore, folder: Path) -> FeatureStore:
    create_store(folder, memory.identity, block_slots=8, segment_slots=16)
    with StoreWriter(folder, memory.identity, job="test") as writer:
        for start in range(0, len(memory.clip_ids), 8):
            claim = writer.claim(memory.clip_ids[start : start + 8])
            outcomes = [
                ClipOutcome(
                    clip_id=clip,
                    status=Status.OK,
                    frame_index=np.arange(memory.identity.frames),
                    frame_time=memory.frame_times(clip),
                    distinct_frames=memory.identity.frames,
                )
                for clip in claim.clip_ids
            ]
            clips = list(claim.clip_ids)
            writer.write_block(claim, outcomes, memory.read_cls(clips), memory.read_patches(clips))
        writer.compact()
    return open_store(folder)


@pytest.fixture
def write_features():
    """Write the features of a store in memory into a real one on disk, and open that."""
    return _write_features


@pytest.fixture(name="make_identity")
def make_identity_fixture():
    return make_identity


@pytest.fixture
def needle_config() -> TrainConfig:
    return TrainConfig(
        model=ModelConfig(selected=4, sampling_blocks=1, refinement_blocks=1, heads=4, mlp_ratio=2),
        steps=120,
        warmup_steps=10,
        lr=2e-3,
        clips_per_batch=8,
        questions_per_clip=4,
        validate_every=60,
    )


@pytest.fixture
def short_config(needle_config) -> TrainConfig:
    return replace(needle_config, steps=8, warmup_steps=2, validate_every=4, clips_per_batch=3)


@pytest.fixture(autouse=True)
def _one_thread():
    """Tests are small: threads cost more than they bring."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
