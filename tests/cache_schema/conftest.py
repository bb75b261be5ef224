"""A tiny identity and a tiny store with known features, for all tests of the contract."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import cache_schema
from cache_schema import (
    BlockClaim,
    ClipOutcome,
    FeatureIdentity,
    Preprocess,
    Status,
    StoreWriter,
    create_store,
)
from cache_schema.storage.object_client import Piece
from cache_schema.storage.object_storage import ObjectStorage
from cache_schema.storage.storage import open_storage

FRAMES, PATCHES, DIM = 5, 3, 8


def make_identity(**changes: object) -> FeatureIdentity:
    fields: dict[str, object] = {
        "encoder": "ViT-B-32",
        "weights_sha256": "0123456789abcdef" * 4,
        "quick_gelu": True,
        "token_space": "joint",
        "dim": DIM,
        "patches": PATCHES,
        "preprocess": Preprocess(
            image_size=224,
            resize_mode="shortest",
            interpolation="bicubic",
            mean=(0.48145466, 0.4578275, 0.40821073),
            std=(0.26862954, 0.26130258, 0.27577711),
        ),
        "frames": FRAMES,
        "precision": "fp32",
    }
    return FeatureIdentity(**{**fields, **changes})


def ok_outcome(clip_id: str, frames: int = FRAMES, **changes: object) -> ClipOutcome:
    fields: dict[str, object] = {
        "clip_id": clip_id,
        "status": Status.OK,
        "frame_index": np.arange(frames, dtype=np.int32) * 3,
        "frame_time": np.arange(frames) / 7,
        "distinct_frames": frames,
        "source_path": f"videos/{clip_id}.mp4",
        "source_bytes": 1234,
        "source_digest": "ab" * 16,
        "backend": "pyav 18.1.0",
        "flags": ("decoded 68 of 310 declared frames",),
    }
    return ClipOutcome(**{**fields, **changes})


def failed_outcome(clip_id: str, reason: str = "truncated") -> ClipOutcome:
    return ClipOutcome(
        clip_id=clip_id, status=Status.FAILED, reason=reason, detail="moov is missing"
    )


def features(
    clip_id: str, identity: FeatureIdentity, attempt: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """The features of a clip: a function of its id, so that any process knows them."""
    seed = [attempt, *clip_id.encode()]
    rng = np.random.default_rng(seed)
    shape = (identity.frames, identity.patches, identity.dim)
    cls = rng.standard_normal((shape[0], shape[2])).astype(np.float16)
    return cls, rng.standard_normal(shape).astype(np.float16)


def write_clips_of(
    writer: StoreWriter, clip_ids: list[str], failed: tuple[str, ...] = (), attempt: int = 0
) -> None:
    """Claims and writes clips block by block; the whole of what extraction does with a store."""
    step = writer.block_slots
    for start in range(0, len(clip_ids), step):
        claim = writer.claim(clip_ids[start : start + step])
        assert claim is not None
        write_claimed(writer, claim, failed, attempt)


def write_claimed(
    writer: StoreWriter, claim: BlockClaim, failed: tuple[str, ...] = (), attempt: int = 0
) -> None:
    """Writes one claimed block."""
    pairs = [features(clip_id, writer.identity, attempt) for clip_id in claim.clip_ids]
    outcomes = [
        failed_outcome(clip_id)
        if clip_id in failed
        else ok_outcome(clip_id, writer.identity.frames)
        for clip_id in claim.clip_ids
    ]
    writer.write_block(
        claim, outcomes, np.stack([cls for cls, _ in pairs]), np.stack([p for _, p in pairs])
    )


@dataclass(frozen=True)
class FilledStore:
    """A store of ten clips in three blocks and two segments; ``c2`` failed."""

    path: Path
    identity: FeatureIdentity
    ok: list[str]

    def cls(self, clip_ids: list[str]) -> np.ndarray:
        return np.stack([features(clip_id, self.identity)[0] for clip_id in clip_ids])

    def patch(self, clip_ids: list[str]) -> np.ndarray:
        return np.stack([features(clip_id, self.identity)[1] for clip_id in clip_ids])


def fill_store(path: Path) -> FilledStore:
    identity = make_identity()
    create_store(path, identity, block_slots=4, segment_slots=8)
    clip_ids = [f"c{number}" for number in range(10)]
    with StoreWriter(path, identity, job="fill") as writer:
        write_clips_of(writer, clip_ids, failed=("c2",))
        writer.compact()
    return FilledStore(path, identity, [clip_id for clip_id in clip_ids if clip_id != "c2"])


@pytest.fixture
def identity() -> FeatureIdentity:
    return make_identity()


@pytest.fixture
def filled(tmp_path: Path) -> FilledStore:
    return fill_store(tmp_path / "store")


@pytest.fixture
def empty_store(tmp_path: Path, identity: FeatureIdentity) -> Path:
    create_store(tmp_path / "store", identity, block_slots=4, segment_slots=8)
    return tmp_path / "store"


@pytest.fixture(name="make_identity")
def _make_identity() -> Callable[..., FeatureIdentity]:
    return make_identity


@pytest.fixture(name="ok_outcome")
def _ok_outcome() -> Callable[..., ClipOutcome]:
    return ok_outcome


@pytest.fixture(name="failed_outcome")
def _failed_outcome() -> Callable[..., ClipOutcome]:
    return failed_outcome


@pytest.fixture(name="features")
def _features() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    return features


@pytest.fixture(name="write_clips_of")
def _write_clips_of() -> Callable[..., None]:
    return write_clips_of


@pytest.fixture(name="write_claimed")
def _write_claimed() -> Callable[..., None]:
    return write_claimed


@pytest.fixture(scope="session")
def run_python() -> Callable[..., subprocess.Popen[str]]:
    """Starts a script in a fresh interpreter that can import this project and this file."""
    paths = [str(Path(cache_schema.__file__).parent.parent), str(Path(__file__).parent)]

    def start(script: str, *arguments: object, stdin: int | None = None) -> subprocess.Popen[str]:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        command = [sys.executable, "-c", script, *map(str, arguments)]
        return subprocess.Popen(
            command, env=environment, stdin=stdin, stdout=subprocess.PIPE, text=True
        )

    return start


class Zygote:
    """A process that starts groups of writers."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def start(self, store: Path, lists: list[list[str]], pause_s: float = 0.0) -> int:
        """Starts a writer for each list; returns their process group."""
        request = {"store": str(store), "lists": lists, "pause_s": pause_s}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def ended(self) -> list[int] | None:
        """Waits until all writers are gone; returns their exit codes, None if they were killed."""
        word, codes = self._process.stdout.readline().split(maxsplit=1)
        assert word == "ended"
        return None if codes.strip() == "killed" else json.loads(codes)

    def run(self, store: Path, lists: list[list[str]]) -> None:
        """Runs writers to their end."""
        self.start(store, lists)
        assert self.ended() == [0] * len(lists)


@pytest.fixture(scope="session")
def zygote(run_python: Callable[..., subprocess.Popen[str]]) -> Iterator[Zygote]:
    process = run_python("import writer_zygote; writer_zygote.main()", stdin=subprocess.PIPE)
    try:
        yield Zygote(process)
    finally:
        process.stdin.close()
        assert process.wait(timeout=60) == 0
        process.stdout.close()


@dataclass(frozen=True)
class RemoteStore:
    """The store of the fixture ``filled``, written again into an object store."""

    url: str
    local: object

    @property
    def ok(self) -> list[str]:
        return self.local.ok


@pytest.fixture(scope="session")
def written() -> dict[str, bytes]:
    """What a writer has made of the clips, by key; written by the first test that needs it."""
    return {}


@pytest.fixture
def remote(
    filled, bucket_url: str, write_clips_of: Callable[..., None], written: dict[str, bytes]
) -> RemoteStore:
    storage = open_storage(bucket_url)
    for key, content in written.items():
        storage.replace(key, content)
    if not written:
        create_store(bucket_url, filled.identity, block_slots=4, segment_slots=8)
        with StoreWriter(bucket_url, filled.identity, job="fill") as writer:
            write_clips_of(writer, [f"c{number}" for number in range(10)], failed=("c2",))
            writer.compact()
        written.update({file.key: storage.read(file.key) for file in storage.walk()})
    return RemoteStore(bucket_url, filled)


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[Piece]:
    """Every piece of a shard that is asked for from now on."""
    asked: list[Piece] = []
    real = ObjectStorage.fetch

    def fetch(self: ObjectStorage, pieces: list[Piece]) -> list[object]:
        asked.extend(piece for piece in pieces if piece.key.startswith("seg-"))
        return real(self, pieces)

    monkeypatch.setattr(ObjectStorage, "fetch", fetch)
    return asked
