"""One block of clips, the unit of work, retry and commit: decode, encode, write, commit."""

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path, PurePath

import numpy as np
import torch

from cache_schema import Clip, ClipOutcome, FeatureIdentity, Status, StoreBusy, StoreWriter
from cache_schema.clip import escape_problem
from extract.block_records import BlockReport, BlockSettings, ClipDone
from extract.decode_pool import DecodedClip, DecodePool
from extract.encoder import ClipEncoder, EncodedFrames, PendingFrames, load_encoder
from extract.encoder_spec import identity_of
from extract.frame_packing import Float16, FramePacker, PendingBatch, Uint8
from extract.frame_request import FrameRequest

_CLIPS_AHEAD = 2


class BlockExtractor:
    """One worker's encoder, decode processes and writer, shared by the blocks in its hands.

    While one block encodes, the decode processes work on the next, and a third may be written.
    """

    def __init__(self, settings: BlockSettings, decoders: DecodePool | None = None) -> None:
        """Starts to load the encoder; the first clips are decoded meanwhile.

        Args:
            settings: the job.
            decoders: decode processes that run already, to be closed with the rest; None to start
                them.
        """
        self.settings = settings
        self._pool = decoders or DecodePool(settings.decoders, settings.limits)
        self._loader = ThreadPoolExecutor(1, "encoder")
        self._loading = self._loader.submit(load_encoder, settings.spec)
        try:
            self._preprocess = settings.spec.architecture.preprocess
            self._identity = self._unreduced_identity()
            # The writer reduces what the encoder gives, and measures what that loses.
            kept = self._identity.reduced(pool=settings.pool, int8=settings.int8)
            self._writer = StoreWriter(settings.location, kept, job=settings.job)
        except BaseException:
            self._pool.close()
            self._loader.shutdown()
            raise
        self._turns = threading.BoundedSemaphore(settings.encoders)
        self._on_cpu = settings.spec.device == "cpu"

    def close(self) -> None:
        """Ends the decode processes and the claims that were not committed."""
        self._pool.close()
        self._loader.shutdown()
        self._writer.close()

    def extract(self, clips: Sequence[Clip], tell: Callable[[ClipDone], None]) -> BlockReport:
        """Does one block.

        Args:
            clips: at most a block's slots, pending when the job began. Those that another worker
                has done or claimed since are left out.
            tell: called once per clip.

        Raises:
            DecodeProcessBroken: decode processes do not start.
            InputError: the encoder does not load.
            OSError: the store cannot be written; the block is pending again.
        """
        if self._on_cpu:
            # OpenMP keeps this number per thread. One each: threads that wait for each other at
            # barriers lose most of their time when decode processes share the cores.
            torch.set_num_threads(1)
        claim = self._writer.claim([clip.clip_id for clip in clips])
        if claim is None:
            return BlockReport(clip_ids=())
        mine = set(claim.clip_ids)
        block = _BlockRun(self, [clip for clip in clips if clip.clip_id in mine], tell)
        try:
            outcomes, cls, patch = block.features()
            begin = time.monotonic()
            self._writer.write_block(claim, outcomes, cls, patch)
            write = time.monotonic() - begin
        except StoreBusy:
            # This process was taken for dead, by a rule that errs on the side of doing work
            # twice: the block's clips are pending or done, and the end of the job looks again.
            return BlockReport(clip_ids=())
        except BaseException:
            with contextlib.suppress(OSError, StoreBusy):
                self._writer.abandon(claim)
            raise
        return BlockReport(
            clip_ids=claim.clip_ids,
            frames=block.frames,
            decode_wait=block.decode_wait,
            encode=block.encode_seconds,
            write=write,
            batch_limit=self._encoder.batch_limit,
        )

    def request(self, clip: Clip) -> FrameRequest:
        """Returns what to ask of a decode process."""
        settings = self.settings
        return FrameRequest(
            path=clip.path,
            root=None if settings.follow_links else settings.root,
            extra_roots=settings.extra_roots,
            start_s=clip.start_s,
            end_s=clip.end_s,
            frames=settings.frames,
            preprocess=self._preprocess,
            limits=settings.limits,
            backend=settings.backend,
        )

    def decoded(self, clips: Sequence[Clip]) -> Iterator[tuple[int, DecodedClip]]:
        """Yields the clips in order, with a bounded number of them decoded ahead."""
        ahead = self._pool.processes + _CLIPS_AHEAD
        waiting: deque[Future[DecodedClip]] = deque()
        rest = iter(clips)
        try:
            for row in range(len(clips)):
                while len(waiting) < ahead and (clip := next(rest, None)) is not None:
                    waiting.append(self._pool.submit(self.request(clip)))
                yield row, waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

    @property
    def _encoder(self) -> ClipEncoder:
        """The encoder, when it is loaded."""
        return self._loading.result()

    def wait_for_encoder(self) -> None:
        """Returns when the encoder is loaded.

        Raises:
            InputError: it does not load.
        """
        self._loading.result()

    def _unreduced_identity(self) -> FeatureIdentity:
        if self.settings.spec.weights is None:
            return self._encoder.identity(self.settings.frames)
        return identity_of(self.settings.spec, self.settings.frames)

    def start(self, pixels: Uint8) -> PendingFrames:
        """Starts to encode a batch when it is this block's turn."""
        with self._turns:
            return self._encoder.start(pixels)

    @property
    def feature_shape(self) -> tuple[int, int, int]:
        """N, P and D as the encoder gives them."""
        return self._identity.frames, self._identity.patches, self._identity.dim


class _BlockRun:
    """One block on its way from clips to features."""

    def __init__(
        self, extractor: BlockExtractor, clips: Sequence[Clip], tell: Callable[[ClipDone], None]
    ) -> None:
        self._extractor = extractor
        self._clips = clips
        self._tell = tell
        frames, patches, dim = extractor.feature_shape
        self._cls = np.zeros((len(clips), frames, dim), dtype=np.float16)
        self._patch = np.zeros((len(clips), frames, patches, dim), dtype=np.float16)
        self._outcomes: dict[int, ClipOutcome] = {}
        self._distinct: dict[int, int] = {}
        self.frames = 0
        self.decode_wait = 0.0
        self.encode_seconds = 0.0

    def features(
        self,
    ) -> tuple[list[ClipOutcome], Float16, Float16]:
        """Decodes and encodes all clips; returns outcomes, CLS and patch features."""
        batch = self._extractor.settings.batch_frames
        packer = FramePacker(self._start, batch, self._cls, self._patch)
        begin = time.monotonic()
        for row, decoded in self._extractor.decoded(self._clips):
            self.decode_wait += time.monotonic() - begin
            self._outcomes[row] = self._outcome(self._clips[row], decoded)
            if decoded.pixels is None or decoded.slot is None:
                self._done(row)
            else:
                self._distinct[row] = len(decoded.pixels)
                self._finish(packer, packer.add(row, decoded.pixels, decoded.slot))
            begin = time.monotonic()
        self._finish(packer, packer.flush())
        return [self._outcomes[row] for row in range(len(self._clips))], self._cls, self._patch

    def _start(self, pixels: Uint8) -> PendingBatch:
        # Before the clock starts: its loading says nothing about the encoder's speed.
        self._extractor.wait_for_encoder()
        begin = time.monotonic()
        pending = self._extractor.start(pixels)
        self.encode_seconds += time.monotonic() - begin
        return _Timed(self, pending)

    def _finish(self, packer: FramePacker, rows: list[int]) -> None:
        for row in rows:
            if row in packer.nonfinite:
                detail = "features are NaN or beyond float16; try precision fp32"
                self._outcomes[row] = _failed(self._outcomes[row], "nonfinite", detail)
            self.frames += self._distinct[row]
            self._done(row)

    def _done(self, row: int) -> None:
        outcome = self._outcomes[row]
        ok = outcome.status is Status.OK
        self._tell(ClipDone(clip_id=outcome.clip_id, ok=ok, frames=self._distinct.get(row, 0)))

    def _outcome(self, clip: Clip, decoded: DecodedClip) -> ClipOutcome:
        settings = self._extractor.settings
        failed = decoded.pixels is None
        return ClipOutcome(
            clip_id=clip.clip_id,
            status=Status.FAILED if failed else Status.OK,
            reason=decoded.reason,
            detail=decoded.detail,
            frame_index=None if failed else np.array(decoded.frame_index, dtype=np.int32),
            frame_time=None if failed else np.array(decoded.frame_time, dtype=np.float64),
            distinct_frames=0 if decoded.pixels is None else len(decoded.pixels),
            source_path=recorded_path(clip.path, settings.root),
            source_bytes=decoded.size,
            source_digest=decoded.digest,
            backend=decoded.backend,
            flags=decoded.flags,
            start_s=clip.start_s,
            end_s=clip.end_s,
        )


class _Timed:
    """A started batch whose waiting counts as encoding."""

    def __init__(self, block: _BlockRun, pending: PendingFrames) -> None:
        self._block = block
        self._pending = pending

    def wait(self) -> EncodedFrames:
        begin = time.monotonic()
        encoded = self._pending.wait()
        self._block.encode_seconds += time.monotonic() - begin
        return encoded


def recorded_path(path: Path, root: Path | None) -> str:
    """Returns the path to record: relative to the root, and never one of this machine.

    A name that a store does not take, such as one with a line break, is left out.
    """
    relative = path.name if root is None else PurePath(os.path.relpath(path, root)).as_posix()
    if escape_problem(relative) is not None:
        relative = path.name
    return relative if escape_problem(relative) is None else ""


def _failed(outcome: ClipOutcome, reason: str, detail: str) -> ClipOutcome:
    return replace(
        outcome,
        status=Status.FAILED,
        reason=reason,
        detail=detail,
        frame_index=None,
        frame_time=None,
        distinct_frames=0,
    )
