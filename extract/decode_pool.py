"""Decode processes that are watched, killed at their deadline, and replaced."""

import contextlib
import json
import os
import queue
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

import numpy as np
import numpy.typing as npt

import extract
from cache_schema import VideoDistillError
from extract.frame_request import FRAMING, FrameRequest, request_to_json
from extract.limits import DecodeLimits
from extract.refusal import ClipRefused

_START_SECONDS: Final = 180.0
_LARGEST_HEADER: Final = 1 << 26
_TRIES: Final = 2


class DecodeProcessBroken(VideoDistillError):  # noqa: N818 -- says what is the case
    """Decode processes do not start on this machine: no clip is to blame."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class DecodedClip:
    """What came back for one clip."""

    pixels: npt.NDArray[np.uint8] | None
    """uint8 [d, S, S, 3]: the distinct frames; None for a clip that was refused."""
    slot: npt.NDArray[np.int64] | None
    """int64 [N]: place of each frame in ``pixels``."""
    frame_index: list[int] | None
    frame_time: list[float] | None
    size: int
    digest: str
    backend: str
    flags: tuple[str, ...]
    reason: str
    """Empty, or why the clip was refused."""
    detail: str
    decoded: int
    """Pictures that went through the decoder."""


class DecodePool:
    """A fixed number of decode processes, fed in the order of submission.

    Args:
        processes: how many decode at once, each on one thread.
        limits: bounds on every clip.
        command: program to run, for tests; it must speak the protocol of ``decode_process``.
        recycle_after: clips after which a process is replaced, against leaks of native code.
    """

    def __init__(
        self,
        processes: int,
        limits: DecodeLimits,
        *,
        command: tuple[str, ...] | None = None,
        recycle_after: int = 512,
    ) -> None:
        self._limits = limits
        self._command = command or (sys.executable, "-P", "-m", "extract.decode_process")
        self._recycle_after = recycle_after
        self._requests: queue.SimpleQueue[tuple[FrameRequest, Future[DecodedClip]] | None]
        self._requests = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._running: set[_DecodeProcess] = set()
        # A core is left to the process that loads an encoder meanwhile.
        self._starts = threading.BoundedSemaphore(max(processes - 1, 1))
        self._threads = [
            threading.Thread(target=self._serve, name=f"decode-{number}", daemon=True)
            for number in range(processes)
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def processes(self) -> int:
        """How many clips decode at once."""
        return len(self._threads)

    def submit(self, request: FrameRequest) -> Future[DecodedClip]:
        """Queues one clip. The future never fails for the clip's sake: see ``reason``."""
        future: Future[DecodedClip] = Future()
        self._requests.put((request, future))
        return future

    def close(self) -> None:
        """Kills all processes; the futures of clips that are not done are cancelled or say so."""
        self._stopping.set()
        for _ in self._threads:
            self._requests.put(None)
        for process in tuple(self._running):
            process.kill()
        for thread in self._threads:
            thread.join()
        while not self._requests.empty():
            if (entry := self._requests.get()) is not None:
                entry[1].cancel()

    def _serve(self) -> None:
        process: _DecodeProcess | None = None
        try:
            process = self._started()
            while (entry := self._requests.get()) is not None:
                request, future = entry
                if self._stopping.is_set() or not future.set_running_or_notify_cancel():
                    future.cancel()
                    continue
                try:
                    process, clip = self._decode(process, request)
                except (DecodeProcessBroken, CancelledError) as error:
                    process = None
                    future.set_exception(error)
                else:
                    future.set_result(clip)
        finally:
            if process is not None:
                self._end(process)

    def _started(self) -> "_DecodeProcess | None":
        """Starts a process ahead of the first clip; a failure to start shows with that clip."""
        try:
            return self._start()
        except (DecodeProcessBroken, CancelledError):
            return None

    def _start(self) -> "_DecodeProcess":
        with self._starts:
            process = _DecodeProcess(self._command, self._limits)
            self._running.add(process)
            # Looked at only now: close() kills the process, or is seen here.
            if not self._stopping.is_set():
                try:
                    process.wait_until_ready()
                except DecodeProcessBroken:
                    self._end(process)
                    if not self._stopping.is_set():
                        raise
                else:
                    return process
            self._end(process)
            raise CancelledError

    def _end(self, process: "_DecodeProcess") -> None:
        self._running.discard(process)
        process.end()

    def _decode(
        self, process: "_DecodeProcess | None", request: FrameRequest
    ) -> tuple["_DecodeProcess | None", DecodedClip]:
        seconds = self._limits.deadline(_size_of(request.path))
        requests = [request] * _TRIES
        if request.backend != "pyav":
            # What another library cannot do in its limits, PyAV may.
            requests = [request, *[replace(request, backend="pyav")] * _TRIES]
        for attempt, tried in enumerate(requests, start=1):
            process = process or self._start()
            try:
                clip = process.decode(tried, seconds)
            except ClipRefused as refused:
                self._end(process)
                process = None
                if self._stopping.is_set():
                    raise CancelledError from refused
                # A crash may have come from elsewhere (an OOM killer): one more try settles it.
                last = attempt == len(requests)
                if last or (refused.reason == "timeout" and tried.backend == "pyav"):
                    return None, _refused(refused)
            else:
                if process.served >= self._recycle_after:
                    self._end(process)
                    process = None
                return process, clip
        raise AssertionError("unreachable: the last attempt returns")


class _DecodeProcess:
    """One running process and its pipes."""

    def __init__(self, command: tuple[str, ...], limits: DecodeLimits) -> None:
        self.served = 0
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 -- lives with the process
        self._process = subprocess.Popen(  # noqa: S603 -- a list of arguments of our own
            [*command, str(limits.memory_bytes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=_environment(),
            start_new_session=True,  # Ctrl-C is the parent's to handle
        )

    def wait_until_ready(self) -> None:
        """Waits until the process has loaded its libraries.

        Raises:
            DecodeProcessBroken: it has ended instead, or takes too long.
        """
        try:
            self._receive(time.monotonic() + _START_SECONDS)
        except (ClipRefused, TimeoutError) as error:
            message = (
                f"a decode process did not start ({error}). Try it by hand: "
                "python -m extract.decode_process 1000000000 < /dev/null"
            )
            raise DecodeProcessBroken(message) from error

    def decode(self, request: FrameRequest, seconds: float) -> DecodedClip:
        """Decodes one clip.

        Raises:
            ClipRefused: ``timeout`` or ``crashed``; the process is of no more use.
        """
        header = json.dumps(request_to_json(request, seconds)).encode()
        deadline = time.monotonic() + seconds
        try:
            stdin = self._process.stdin
            assert stdin is not None  # noqa: S101 -- Popen made it
            stdin.write(FRAMING.pack(len(header), 0) + header)
            stdin.flush()
            answer, payload = self._receive(deadline)
        except BrokenPipeError as error:
            raise self._death() from error
        except TimeoutError as error:
            raise ClipRefused("timeout", f"decoding took more than {seconds:.0f} s") from error
        self.served += 1
        return _decoded(answer, payload)

    def kill(self) -> None:
        """Kills the process, whatever it is doing; whoever waits for it learns of its death."""
        self._process.kill()

    def end(self) -> None:
        """Kills the process and frees what belongs to it."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            # Closing flushes a request that the process did not live to read.
            with contextlib.suppress(BrokenPipeError):
                if pipe is not None:
                    pipe.close()
        self._errors.close()

    def _receive(self, deadline: float) -> tuple[dict[str, object], npt.NDArray[np.uint8]]:
        header_bytes, payload_bytes = FRAMING.unpack(self._read(FRAMING.size, deadline).tobytes())
        if header_bytes > _LARGEST_HEADER:
            raise ClipRefused("crashed", "the decode process sent a malformed answer")
        header = json.loads(self._read(header_bytes, deadline).tobytes())
        return header, self._read(payload_bytes, deadline)

    def _read(self, size: int, deadline: float) -> npt.NDArray[np.uint8]:
        stdout = self._process.stdout
        assert stdout is not None  # noqa: S101 -- Popen made it
        descriptor = stdout.fileno()
        data = np.empty(size, dtype=np.uint8)
        rest = data.data
        poller = select.poll()
        poller.register(descriptor, select.POLLIN)
        while rest.nbytes:
            left = deadline - time.monotonic()
            if left <= 0 or not poller.poll(left * 1000):
                raise TimeoutError
            got = os.readv(descriptor, [rest])
            if got == 0:
                raise self._death()
            rest = rest[got:]
        return data

    def _death(self) -> ClipRefused:
        code = self._process.wait()
        if code == -signal.SIGALRM:
            return ClipRefused("timeout", "the decode process ended itself at its deadline")
        if code < 0:
            return ClipRefused("crashed", f"the decode process died of {_signal_name(-code)}")
        self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(self._errors.tell() - 2000, 0))
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        last = lines[-1] if lines else "no message"
        return ClipRefused("crashed", f"the decode process left with exit code {code}: {last}")


def _decoded(answer: dict[str, object], payload: npt.NDArray[np.uint8]) -> DecodedClip:
    """Takes an answer apart; one that does not have the right parts counts as a crash."""
    try:
        if answer["status"] != "ok":
            return _refused(
                ClipRefused(str(answer["reason"]), str(answer["detail"])),
                size=int(str(answer["size"])),
                digest=str(answer["digest"]),
            )
        shape: tuple[int, ...] = tuple(answer["shape"])  # type: ignore[arg-type]
        return DecodedClip(
            pixels=payload.reshape(shape),
            slot=np.array(answer["slot"], dtype=np.int64),
            frame_index=answer["frame_index"],  # type: ignore[arg-type]
            frame_time=answer["frame_time"],  # type: ignore[arg-type]
            size=int(str(answer["size"])),
            digest=str(answer["digest"]),
            backend=str(answer["backend"]),
            flags=tuple(answer["flags"]),  # type: ignore[arg-type]
            reason="",
            detail="",
            decoded=int(str(answer["decoded"])),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ClipRefused("crashed", "the decode process sent a malformed answer") from error


def _refused(refused: ClipRefused, size: int = 0, digest: str = "") -> DecodedClip:
    return DecodedClip(
        pixels=None,
        slot=None,
        frame_index=None,
        frame_time=None,
        size=size,
        digest=digest,
        backend="",
        flags=(),
        reason=refused.reason,
        detail=refused.detail,
        decoded=0,
    )


def _environment() -> dict[str, str]:
    """One thread per process, no GPU, and this very package on the path."""
    root = str(Path(extract.__file__).parent.parent)
    inherited = os.environ.get("PYTHONPATH")
    return {
        **os.environ,
        "PYTHONPATH": f"{root}{os.pathsep}{inherited}" if inherited else root,
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except (OSError, ValueError):
        return 0
