"""The program of a decode process: one clip per request over pipes, within limits of its own.

Started as ``python -m extract.decode_process MEMORY_BYTES`` and spoken to as
``extract.frame_request`` says. It is no ``multiprocessing`` child, because Dask starts its
workers as daemons, which may not have those; and it loads neither open_clip nor Dask, so that it
starts in the time that torch takes.
"""

import json
import os
import resource
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, Final

import av.logging
import torch

from extract.clip_frames import ClipFrames, read_clip
from extract.frame_request import FRAMING, FrameRequest, request_from_json
from extract.probe import Probe, probe_video
from extract.recent_files import RecentFiles
from extract.refusal import ClipRefused
from extract.source_file import SourceFile, SourceReader

_STDERR_BYTES: Final = 1 << 20
_ALARM_AFTER_DEADLINE: Final = 5.0


def main() -> None:
    """Answers requests from standard input until it ends."""
    answers = _claim_stdout()
    av.logging.set_level(None)
    torch.set_num_threads(1)
    _limit_resources(int(sys.argv[1]))
    clips = _ClipAnswers()
    _send(answers, {"status": "ready"})
    while (framing := sys.stdin.buffer.read(FRAMING.size)) and len(framing) == FRAMING.size:
        header_bytes, _ = FRAMING.unpack(framing)
        document = json.loads(sys.stdin.buffer.read(header_bytes))
        # The kernel ends this process even if native code never returns and the parent is gone.
        signal.setitimer(signal.ITIMER_REAL, document.pop("deadline") + _ALARM_AFTER_DEADLINE)
        header, payload = clips.answer(request_from_json(document))
        _send(answers, header, payload)
        signal.setitimer(signal.ITIMER_REAL, 0.0)


class _ClipAnswers:
    """Answers requests one after another; clips of one file share its digest and its probe."""

    def __init__(self) -> None:
        self._sources = SourceReader()
        self._probes: RecentFiles[Probe] = RecentFiles()

    def answer(self, request: FrameRequest) -> tuple[dict[str, object], memoryview]:
        """Returns the header and the pixels."""
        source: SourceFile | None = None
        try:
            source = self._sources.read(request.path, request.root, request.extra_roots)
            clip = self._clip(request, source)
        except ClipRefused as refused:
            return _refusal(refused.reason, refused.detail, source), memoryview(b"")
        except MemoryError:
            return _refusal("limit_exceeded", _memory_detail(request), source), memoryview(b"")
        except RuntimeError as error:
            # torch reports a failed allocation as a RuntimeError of this wording.
            if "allocate memory" not in str(error):
                raise
            return _refusal("limit_exceeded", _memory_detail(request), source), memoryview(b"")
        return _frames_header(clip), clip.pixels.data.cast("B")

    def _clip(self, request: FrameRequest, source: SourceFile) -> ClipFrames:
        try:
            probe = self._probes.of(source.mark, lambda: probe_video(source.path, request.limits))
            clip = read_clip(request, source, probe)
        except ClipRefused:
            # A file that is still being copied is neither truncated nor of unknown kind.
            source.require_unchanged()
            raise
        source.require_unchanged()
        return clip


def _refusal(reason: str, detail: str, source: SourceFile | None) -> dict[str, object]:
    return {
        "status": "refused",
        "reason": reason,
        "detail": detail,
        "size": source.size if source else 0,
        "digest": source.digest if source else "",
    }


def _frames_header(clip: ClipFrames) -> dict[str, object]:
    return {
        "status": "ok",
        "shape": clip.pixels.shape,
        "slot": clip.slot.tolist(),
        "frame_index": clip.frame_index.tolist(),
        "frame_time": clip.frame_time.tolist(),
        "path": str(clip.source.path),
        "size": clip.source.size,
        "digest": clip.source.digest,
        "backend": clip.backend,
        "flags": clip.flags,
        "decoded": clip.decoded,
    }


def _memory_detail(request: FrameRequest) -> str:
    return f"decoding needs more than {request.limits.memory_bytes >> 20} MiB of memory"


def _claim_stdout() -> BinaryIO:
    """Keeps the answers' pipe for this module: native libraries may print to descriptor 1."""
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    return answers


def _limit_resources(memory_bytes: int) -> None:
    """Bounds memory on top of what the imports took, and forbids writing files of any size."""
    statm = Path("/proc/self/statm")
    if statm.exists():  # elsewhere than on Linux the limit is not enforced anyway
        held = int(statm.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (held + memory_bytes, held + memory_bytes))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_STDERR_BYTES, _STDERR_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _send(
    answers: BinaryIO, header: Mapping[str, object], payload: memoryview | None = None
) -> None:
    text = json.dumps(header).encode()
    body = payload if payload is not None else memoryview(b"")
    answers.write(FRAMING.pack(len(text), body.nbytes) + text)
    sent = 0
    while sent < body.nbytes:
        sent += answers.write(body[sent:])


if __name__ == "__main__":
    main()
