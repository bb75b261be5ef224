import os
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import CancelledError
from pathlib import Path

import numpy as np
import psutil
import pytest

from extract.decode_pool import DecodePool, DecodeProcessBroken
from extract.frame_request import FrameRequest, request_from_json, request_to_json
from extract.limits import DecodeLimits

DOUBLE = """
import ctypes, json, os, signal, struct, sys, time
def send(header, payload=b""):
    text = json.dumps(header).encode()
    os.write(1, struct.pack("<IQ", len(text), len(payload)) + text + payload)
def receive():
    size = struct.unpack("<IQ", sys.stdin.buffer.read(12))[0]
    return json.loads(sys.stdin.buffer.read(size))
def answer(pixels):
    send({"status": "ok", "shape": [1, 1, 1, 3], "slot": [0], "frame_index": [0],
          "frame_time": [0.0], "path": "x", "size": 3, "digest": "", "backend": "double 1",
          "flags": [], "decoded": 1}, pixels)
if "unborn" in sys.argv[1:]:
    sys.exit("no such library")
send({"status": "ready"})
while True:
    request = receive()
    name = os.path.basename(request["path"])
    if name.startswith("other") and request["backend"] != "pyav":
        os.kill(os.getpid(), signal.SIGSEGV) if name == "other-crash" else time.sleep(600)
    elif name.startswith(("good", "other")):
        answer(bytes([1, 2, 3]))
    elif name == "spin":  # native code that holds the interpreter and never comes back
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM, signal.SIGTERM})
        ctypes.PyDLL(None).sleep(600)
    elif name == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif name == "exit":
        sys.exit("library gave up")
    elif name == "garbage":
        os.write(1, b"x" * 100)
        time.sleep(600)
    elif name == "half":
        os.write(1, struct.pack("<IQ", 50, 10) + b"{")
        os._exit(0)
    elif name == "once":  # as if an OOM killer had passed
        mark = sys.argv[1] + ".mark"
        if not os.path.exists(mark):
            open(mark, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        answer(bytes([4, 5, 6]))
    elif name == "pid":
        send({"status": "refused", "reason": "io", "detail": str(os.getpid()), "size": 0, "digest": ""})
"""


@pytest.fixture
def double(tmp_path):
    script = tmp_path / "double.py"
    script.write_text(textwrap.dedent(DOUBLE))
    return sys.executable, str(script), str(script)


@pytest.fixture
def ask(preprocess):
    def make(path, limits=None, **changes):
        values = {
            "path": Path(path),
            "root": None,
            "start_s": None,
            "end_s": None,
            "frames": 10,
            "preprocess": preprocess,
            "limits": limits or DecodeLimits(),
            "backend": "pyav",
        }
        return FrameRequest(**{**values, **changes})

    return make


def test_requests_survive_the_border(ask):
    request = ask("/a/b\n.mp4", start_s=0.1, end_s=1 / 3, root=Path("/a"))
    document = request_to_json(request, 5.0)
    assert document.pop("deadline") == 5.0
    assert request_from_json(document) == request


def test_decodes_in_order_in_several_processes(video, ask, number_in):
    paths = [video(f"{frames}.mp4", frames) for frames in (1, 3, 10, 25)]
    with DecodePool(2, DecodeLimits()) as pool:
        clips = [pool.submit(ask(path)).result() for path in paths]
    assert [len(clip.pixels) for clip in clips] == [1, 3, 10, 10]
    assert clips[3].frame_index == [1, 3, 6, 8, 11, 13, 16, 18, 21, 23]
    assert np.allclose(clips[3].frame_time, np.array(clips[3].frame_index) / 10)
    for clip in clips:
        assert clip.reason == ""
        assert clip.pixels.shape[1:] == (32, 32, 3)
        assert len(clip.slot) == 10
        assert clip.backend.startswith("pyav")


@pytest.mark.parametrize(
    ("name", "reason", "detail"),
    [
        ("spin", "timeout", "more than 1 s"),
        ("crash", "crashed", "SIGSEGV"),
        ("exit", "crashed", "library gave up"),
        ("garbage", "crashed", "malformed"),
        ("half", "crashed", "exit code 0"),
    ],
)
def test_a_decoder_that_breaks_costs_one_clip(double, ask, name, reason, detail):
    limits = DecodeLimits(seconds=1.0)
    with DecodePool(1, limits, command=double) as pool:
        futures = [pool.submit(ask(path, limits)) for path in ("good", name, "good2")]
        first, broken, last = (future.result(timeout=30) for future in futures)
    assert (broken.reason, broken.pixels) == (reason, None)
    assert detail in broken.detail
    assert first.pixels.tolist() == last.pixels.tolist() == [[[[1, 2, 3]]]]


@pytest.mark.parametrize("name", ["other-crash", "other-hang"])
def test_what_breaks_another_library_is_left_to_pyav(double, ask, name):
    limits = DecodeLimits(seconds=1.0)
    with DecodePool(1, limits, command=double) as pool:
        clip = pool.submit(ask(name, limits, backend="decord")).result(timeout=30)
    assert (clip.reason, clip.pixels.tolist()) == ("", [[[[1, 2, 3]]]])


def test_an_accident_is_not_held_against_the_clip(double, ask):
    with DecodePool(1, DecodeLimits(), command=double) as pool:
        assert pool.submit(ask("once")).result().pixels.tolist() == [[[[4, 5, 6]]]]


def test_processes_are_recycled(double, ask):
    with DecodePool(1, DecodeLimits(), command=double, recycle_after=2) as pool:
        pids = [pool.submit(ask("pid")).result().detail for _ in range(6)]
    assert pids[0] == pids[1] != pids[2] == pids[3] != pids[4]
    assert len(set(pids)) == 3


def test_processes_that_do_not_start_are_nobodys_clip(double, ask):
    with (
        DecodePool(1, DecodeLimits(), command=(*double, "unborn")) as pool,
        pytest.raises(DecodeProcessBroken, match="no such library"),
    ):
        pool.submit(ask("good")).result(timeout=30)


def test_closing_does_not_wait_for_a_hanging_decoder(double, ask):
    pool = DecodePool(1, DecodeLimits(seconds=600), command=double)
    pid = int(pool.submit(ask("pid")).result().detail)
    hanging, queued = pool.submit(ask("spin")), pool.submit(ask("good"))
    while not hanging.running():
        time.sleep(0.01)
    begin = time.monotonic()
    pool.close()
    assert time.monotonic() - begin < 5
    assert queued.cancelled()
    with pytest.raises(CancelledError):
        hanging.result(timeout=1)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize(
    ("limits", "reasons"),
    [
        (DecodeLimits(pixels=1000), {"limit_exceeded"}),
        # Native code may also die of a failed allocation.
        (DecodeLimits(memory_bytes=40 << 20), {"limit_exceeded", "crashed"}),
    ],
    ids=["pixels", "memory"],
)
def test_limits_hold_in_the_real_process(video, ask, limits, reasons):
    path = video("large.mp4", 2, size=(3840, 2160))  # 25 MB a frame as RGB, 12 MB as YUV
    with DecodePool(1, limits) as pool:
        clip = pool.submit(ask(path, limits)).result()
        small = pool.submit(ask(video("a.mp4", 2, size=(16, 16)), limits)).result()
    assert clip.reason in reasons
    assert clip.pixels is None
    assert small.reason == ""


def test_processes_end_with_their_parent(double, tmp_path):
    """A job that is killed leaves nothing behind."""
    script = tmp_path / "parent.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import sys, time
            from extract.decode_pool import DecodePool
            from extract.limits import DecodeLimits
            pool = DecodePool(1, DecodeLimits(), command={double!r})
            while not pool._running:
                time.sleep(0.01)
            print(next(iter(pool._running))._process.pid, flush=True)
            time.sleep(600)
            """
        )
    )
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root}
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, env=environment
    ) as parent:
        pid = int(parent.stdout.readline())
        parent.kill()
        parent.wait()
    for _ in range(200):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    pytest.fail("the decode process outlived its parent")


def resident_bytes(pid):
    return psutil.Process(pid).memory_info().rss


@pytest.mark.parametrize(
    "clips",
    [120, pytest.param(500, marks=pytest.mark.slow)],
)
def test_memory_stays_flat_over_many_clips(video, ask, clips):
    """Damaged, refused and odd files are among them: what they leave behind would add up."""
    whole = video("whole.mkv", 40, options={"g": "10"})
    content = whole.read_bytes()
    cut = whole.with_name("cut.mkv")
    cut.write_bytes(content[: len(content) // 2])
    text = whole.with_name("text.mp4")
    text.write_text("no video")
    others = [video("a.mp4", 30), video("a.ts", 30), video("b.mp4", 25, size=(640, 360))]
    paths = [whole, cut, text, *others]
    with DecodePool(1, DecodeLimits(), recycle_after=10_000) as pool:

        def run(count):
            for number in range(count):
                clip = pool.submit(ask(paths[number % len(paths)])).result(timeout=60)
                assert (clip.reason == "") == (paths[number % len(paths)] != text)

        run(40)  # libraries load and caches fill
        (process,) = pool._running
        before = resident_bytes(process._process.pid)
        descriptors = psutil.Process(process._process.pid).num_fds()
        run(clips)
        assert {one._process.pid for one in pool._running} == {process._process.pid}
        assert resident_bytes(process._process.pid) - before < 16 << 20
        assert psutil.Process(process._process.pid).num_fds() == descriptors


def test_clips_of_one_file_share_its_digest_and_probe(video, ask, monkeypatch):
    from extract import decode_process, source_file

    path = video("long.mp4", 60)
    looked = {"digest": 0, "probe": 0}

    def counted(name, work):
        def run(*arguments):
            looked[name] += 1
            return work(*arguments)

        return run

    monkeypatch.setattr(source_file, "_digest_of", counted("digest", source_file._digest_of))
    monkeypatch.setattr(decode_process, "probe_video", counted("probe", decode_process.probe_video))
    answers = decode_process._ClipAnswers()
    alone = decode_process._ClipAnswers().answer(ask(path, start_s=2.0, end_s=3.0))
    looked.update(digest=0, probe=0)
    for start in range(5):
        answers.answer(ask(path, start_s=float(start), end_s=start + 1.0))
    assert looked == {"digest": 1, "probe": 1}
    again = answers.answer(ask(path, start_s=2.0, end_s=3.0))
    assert (again[0], bytes(again[1])) == (alone[0], bytes(alone[1]))
    video("long.mp4", 30)
    header, _ = answers.answer(ask(path, start_s=2.0, end_s=3.0))
    assert looked == {"digest": 2, "probe": 2}
    assert header["digest"] != alone[0]["digest"]
