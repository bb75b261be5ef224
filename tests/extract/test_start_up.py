"""What an extraction loads, in which order, and what it does meanwhile."""

import subprocess
import sys
import threading
import time

import pytest
import torch
from safetensors.torch import load_file, save_file

from cache_schema import Clip, InputError, open_store
from extract import block
from extract.decode_pool import DecodePool
from extract.encoder_spec import EncoderSpec
from extract.job import JobOptions, run_extraction
from extract.limits import DecodeLimits
from extract.model_loading import load_model

FRAMES = 4
OPTIONS = JobOptions(decoders=1, batch_frames=4)


def modules_after(code, names):
    """Those of the names that are loaded in a fresh interpreter after some code."""
    program = f"{code}\nimport sys\nprint(*sorted(set({names!r}) & set(sys.modules)))"
    return subprocess.check_output([sys.executable, "-c", program], text=True).split()


def test_decode_processes_load_no_encoder():
    heavy = ["open_clip", "timm", "torchvision", "transformers", "dask"]
    assert modules_after("import extract.decode_process", [*heavy, "torch"]) == ["torch"]


def test_open_clip_loads_without_transformers():
    """And leaves transformers to those that need it."""
    pytest.importorskip("transformers")
    code = (
        "from extract.lean_open_clip import lean_open_clip\n"
        "assert lean_open_clip() is lean_open_clip()\n"
        "import sys, importlib.util\n"
        "assert 'transformers' not in sys.modules\n"
        "assert importlib.util.find_spec('transformers') is not None"
    )
    assert modules_after(code, ["open_clip", "transformers"]) == ["open_clip"]


def test_weights_of_a_file_are_not_drawn_first(tiny_spec):
    saved = load_file(tiny_spec.weights)
    drawn = EncoderSpec(model="tiny", model_config=tiny_spec.model_config, random_init_seed=7)
    left = []
    for spec in (tiny_spec, drawn):
        torch.manual_seed(7)
        state = load_model(spec, spec.architecture).state_dict()
        assert state.keys() == saved.keys()
        # The file was made from this seed.
        assert all(torch.equal(state[name], saved[name]) for name in saved)
        left.append(torch.rand(8))
    assert not torch.equal(*left), "as many numbers were drawn as without a file"


def test_clips_are_decoded_while_the_encoder_loads(video, tiny_spec, tmp_path, monkeypatch):
    decoded = threading.Event()
    submit, load = DecodePool.submit, block.load_encoder

    def noted(pool, request):
        future = submit(pool, request)
        future.add_done_callback(lambda _: decoded.set())
        return future

    def after_decoding(spec):
        assert decoded.wait(60), "no clip was decoded before the encoder was there"
        return load(spec)

    monkeypatch.setattr(DecodePool, "submit", noted)
    monkeypatch.setattr(block, "load_encoder", after_decoding)
    clips = [Clip(clip_id="a", path=video("a.mp4", 12))]
    tally = run_extraction(clips, tmp_path / "store", tiny_spec, frames=FRAMES, options=OPTIONS)
    assert tally.ok == 1


def test_an_encoder_that_does_not_load_leaves_clips_pending(video, tiny_spec, tmp_path):
    state = load_file(tiny_spec.weights)
    state.pop("visual.proj")
    broken = tmp_path / "broken.safetensors"
    save_file(state, broken)
    spec = EncoderSpec(model="tiny", model_config=tiny_spec.model_config, weights=broken)
    clips = [Clip(clip_id="a", path=video("a.mp4", 12))]
    store = tmp_path / "store"
    for _ in range(2):  # the clip is in nobody's hands after the first attempt
        with pytest.raises(InputError, match=r"visual\.proj"):
            run_extraction(clips, store, spec, frames=FRAMES, options=OPTIONS)
    assert len(open_store(store)) == 0


def late(tmp_path, seconds):
    """A decode program that takes its time to start and tells when it began and when it was ready."""
    script = tmp_path / "late.py"
    script.write_text(
        "import json, os, struct, sys, time\n"
        f"log = open({str(tmp_path / 'starts')!r}, 'a')\n"
        "print(time.monotonic(), 'begins', file=log, flush=True)\n"
        f"time.sleep({seconds})\n"
        "print(time.monotonic(), 'ready', file=log, flush=True)\n"
        "text = json.dumps({'status': 'ready'}).encode()\n"
        "os.write(1, struct.pack('<IQ', len(text), 0) + text)\n"
        "sys.stdin.buffer.read()\n"
    )
    return sys.executable, str(script)


def events(tmp_path):
    log = tmp_path / "starts"
    return [line.split()[1] for line in log.read_text().splitlines()] if log.exists() else []


def test_starting_processes_leave_a_core_free(tmp_path):
    with DecodePool(2, DecodeLimits(), command=late(tmp_path, 0.3)):
        deadline = time.monotonic() + 30
        while len(events(tmp_path)) < 4:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    assert events(tmp_path) == ["begins", "ready"] * 2


def test_closing_does_not_wait_for_processes_that_start(tmp_path):
    pool = DecodePool(3, DecodeLimits(), command=late(tmp_path, 60))
    while not events(tmp_path):
        time.sleep(0.02)
    begin = time.monotonic()
    pool.close()
    assert time.monotonic() - begin < 10
    assert "ready" not in events(tmp_path)
