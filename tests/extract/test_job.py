import csv
import io
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from safetensors.torch import load_file, save_file

from cache_schema import Clip, IdentityMismatch, InputError, Status, open_store, verify_store
from extract.block_queue import even_batch
from extract.block_records import BlockReport, ClipDone
from extract.clip_frames import read_clip
from extract.encoder import load_encoder
from extract.encoder_spec import EncoderSpec
from extract.frame_request import FrameRequest
from extract.job import JobOptions, plan_extraction, run_extraction
from extract.limits import DecodeLimits
from extract.plan import bytes_per_clip
from extract.probe import probe_video
from extract.progress import LogProgress, TerminalProgress, progress_for
from extract.source_file import SourceReader
from extract.tally import Tally

FRAMES = 6
BATCH = 4
ONE_DECODER = JobOptions(decoders=1, batch_frames=BATCH)


class Recorder(LogProgress):
    """A display that remembers what it was told."""

    def __init__(self):
        super().__init__(every_s=0.0)
        self.clips, self.plan, self.tally = [], None, None

    def start(self, plan):
        super().start(plan)
        self.plan = plan

    def clip(self, done):
        super().clip(done)
        self.clips.append(done)

    def end(self, tally):
        super().end(tally)
        self.tally = tally


@pytest.fixture(scope="module")
def folder(tmp_path_factory, encode_video):
    """Five good videos of several lengths, and two files that must fail."""
    folder = tmp_path_factory.mktemp("videos")
    for frames in (1, 3, 6, 7, 40):
        encode_video(folder / f"v{frames}.mp4", frames)
    (folder / "broken.mp4").write_bytes((folder / "v40.mp4").read_bytes()[:700])
    (folder / "text.mp4").write_text("not a video" * 100)
    return folder


@pytest.fixture(scope="module")
def clips(folder):
    """Six clips that have features, and three that have none."""
    names = ["v1", "v3", "broken", "v6", "text", "v7", "v40", "none"]
    whole = [Clip(clip_id=f"a/{name}", path=folder / f"{name}.mp4") for name in names]
    return [*whole, Clip(clip_id="part", path=folder / "v40.mp4", start_s=1.0, end_s=2.0)]


@pytest.fixture(scope="module")
def extracted(clips, tiny_spec, tmp_path_factory):
    """A store with all that the clips have."""
    store = tmp_path_factory.mktemp("stores") / "s"
    run_extraction(clips, store, tiny_spec, frames=FRAMES, options=ONE_DECODER)
    return store


@pytest.fixture
def copied(extracted, tmp_path):
    """A store of one's own with the same content."""
    return Path(shutil.copytree(extracted, tmp_path / "copy"))


def expected_features(clip, spec):
    """The slow reference: one clip, one frame at a time, no processes, no packing."""
    encoder = load_encoder(spec)
    request = FrameRequest(
        path=clip.path,
        root=None,
        start_s=clip.start_s,
        end_s=clip.end_s,
        frames=FRAMES,
        preprocess=encoder.preprocess,
        limits=DecodeLimits(),
        backend="pyav",
    )
    frames = read_clip(
        request, SourceReader().read(clip.path), probe_video(clip.path, request.limits)
    )
    features = []
    for picture in frames.pixels[frames.slot]:
        batch = np.zeros((BATCH, *picture.shape), dtype=np.uint8)
        batch[0] = picture
        features.append([part[0] for part in encoder.encode_frames(batch)])
    cls, patch = zip(*features, strict=True)
    return np.stack(cls), np.stack(patch), frames


@pytest.mark.parametrize("workers", [0, 1], ids=["in this process", "dask"])
def test_extracts_the_good_and_lists_the_bad(clips, folder, tiny_spec, tmp_path, workers):
    store = tmp_path / "s"
    display = Recorder()
    tally = run_extraction(
        clips,
        store,
        tiny_spec,
        frames=FRAMES,
        workers=workers,
        progress=display,
        options=JobOptions(root=folder, decoders=1, batch_frames=BATCH),
    )
    assert (tally.ok, tally.failed, tally.skipped, tally.left) == (6, 3, 0, 0)
    assert tally.exit_code == 1
    assert tally.frames == 1 + 3 + 6 + 6 + 6 + 6
    assert display.plan.bytes_needed > 0
    assert {done.clip_id for done in display.clips} == {clip.clip_id for clip in clips}
    assert verify_store(store) == []
    opened = open_store(store)
    reasons = {clip.clip_id: opened.outcome(clip.clip_id).reason for clip in clips}
    assert reasons["a/broken"] == "truncated"
    assert reasons["a/text"] == "not_a_video"
    assert reasons["a/none"] == "missing_file"
    for clip in clips:
        outcome = opened.outcome(clip.clip_id)
        assert outcome.source_path == clip.path.name
        assert (outcome.start_s, outcome.end_s) == (clip.start_s, clip.end_s)
        if outcome.status is Status.OK:
            cls, patch, frames = expected_features(clip, tiny_spec)
            assert np.array_equal(opened.read_cls([clip.clip_id])[0], cls)
            assert np.array_equal(opened.read_patches([clip.clip_id])[0], patch)
            assert np.array_equal(outcome.frame_index, frames.frame_index)
            assert np.array_equal(outcome.frame_time, frames.frame_time)
            assert outcome.distinct_frames == len(frames.pixels)
            assert outcome.source_digest == frames.source.digest
            assert outcome.backend.startswith("pyav")
    with (tmp_path / "s.failures.csv").open(newline="") as file:
        failed = {row["clip_id"] for row in csv.DictReader(file)}
    assert failed == {"a/broken", "a/text", "a/none"}


def test_runs_again_without_work_and_retries_on_request(clips, folder, tiny_spec, copied):
    def run(**choices):
        return run_extraction(
            clips, copied, tiny_spec, frames=FRAMES, options=ONE_DECODER, **choices
        )

    version = open_store(copied).version
    again = run()
    assert (again.ok, again.failed, again.skipped, again.failed_before) == (0, 0, len(clips), 3)
    assert again.exit_code == 1
    assert open_store(copied).version == version
    late = folder / "none.mp4"
    shutil.copy(folder / "v6.mp4", late)
    try:
        retried = run(retry_failed=True)
    finally:
        late.unlink()
    assert (retried.ok, retried.failed, retried.skipped) == (1, 2, 6)
    assert open_store(copied).outcome("a/none").status is Status.OK


def test_a_run_without_work_is_cheap(clips, extracted, tiny_spec):
    clip = clips[0]
    code = (
        "import sys; from pathlib import Path; from cache_schema import Clip;"
        "from extract.encoder_spec import EncoderSpec; from extract.job import run_extraction;"
        f"clip = Clip(clip_id={clip.clip_id!r}, path=Path({str(clip.path)!r}));"
        f"spec = EncoderSpec(model='tiny', model_config=Path({str(tiny_spec.model_config)!r}),"
        f" weights=Path({str(tiny_spec.weights)!r}));"
        f"tally = run_extraction([clip], Path({str(extracted)!r}), spec, frames={FRAMES});"
        "assert tally.skipped == 1, tally;"
        "print(sorted({'torch', 'open_clip', 'distributed', 'dask', 'av'} & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    loaded = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert loaded.stdout.strip() == "[]"


def test_plans_without_writing(clips, extracted, tiny_spec, tmp_path):
    store = tmp_path / "s"
    plan = plan_extraction(clips, store, tiny_spec, frames=FRAMES)
    assert plan.pending == tuple(clip.clip_id for clip in clips)
    assert not store.exists()
    before = sorted(extracted.rglob("*"))
    later = plan_extraction(clips, extracted, tiny_spec, frames=FRAMES, retry_failed=True)
    assert set(later.pending) == later.retried == {"a/broken", "a/text", "a/none"}
    assert sorted(extracted.rglob("*")) == before


def test_the_room_needed_is_the_room_taken(extracted, tiny_spec, clips):
    identity = plan_extraction(clips, extracted, tiny_spec, frames=FRAMES).identity
    shards = [file.stat().st_size for file in extracted.glob("seg-*/patch/c.*")]
    assert len(shards) == 6
    cls_bytes = identity.frames * identity.dim * 2
    for size in shards:
        assert 0.95 * size <= bytes_per_clip(identity) - cls_bytes <= 1.05 * size


def test_refuses_a_full_disk_before_it_starts(clips, tiny_spec, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage._replace(free=1000))
    with pytest.raises(InputError, match=r"need .* free"):
        run_extraction(clips, tmp_path / "s", tiny_spec, frames=FRAMES)
    assert not (tmp_path / "s").exists()


def test_refuses_features_of_another_kind(clips, tiny_spec, copied):
    with pytest.raises(IdentityMismatch, match="frames"):
        run_extraction(clips, copied, tiny_spec, frames=FRAMES + 1)


def test_refuses_two_clips_of_one_name(clips, tiny_spec, tmp_path):
    with pytest.raises(InputError, match="more than once"):
        run_extraction([*clips, clips[0]], tmp_path / "s", tiny_spec, frames=FRAMES)


def test_an_overflow_fails_its_clip(clips, tiny_spec, tmp_path):
    state = load_file(tiny_spec.weights)
    state["visual.ln_post.weight"][:] = 6e4
    save_file(state, tmp_path / "large.safetensors")
    spec = EncoderSpec(
        model="tiny",
        model_config=tiny_spec.model_config,
        weights=tmp_path / "large.safetensors",
        token_space="trunk",  # noqa: S106 -- no password
    )
    tally = run_extraction(clips[:2], tmp_path / "s", spec, frames=FRAMES, options=ONE_DECODER)
    assert tally.failed == 2
    assert {failure.reason for failure in tally.failures} == {"nonfinite"}


def test_names_that_hurt(video, tiny_spec, tmp_path):
    names = ["-rf.mp4", "a b;touch x.mp4", "new\nline.mp4", "=1+1.mp4", "http:x.mp4", "ü\u202e.mp4"]
    source = video(frames=4)
    clips = []
    for number, name in enumerate(names):
        path = tmp_path / "root" / name
        path.parent.mkdir(exist_ok=True)
        shutil.copy(source, path)
        clips.append(Clip(clip_id=f"c{number}", path=path))
    options = JobOptions(root=tmp_path / "root", decoders=1)
    tally = run_extraction(clips, tmp_path / "s", tiny_spec, frames=FRAMES, options=options)
    assert tally.ok == len(names)
    assert open_store(tmp_path / "s").outcome("c0").source_path == "-rf.mp4"
    assert open_store(tmp_path / "s").outcome("c2").source_path == ""


@pytest.mark.parametrize(
    ("choices", "failed"),
    [({}, 1), ({"extra_roots": "shared"}, 0), ({"follow_links": True}, 0)],
    ids=["refused", "into an admitted folder", "anywhere"],
)
def test_links_lead_out_of_the_root_on_request(video, tiny_spec, tmp_path, choices, failed):
    root, shared = tmp_path / "root", tmp_path / "shared"
    root.mkdir()
    shared.mkdir()
    video(frames=4).rename(shared / "v.mp4")
    (root / "videos").symlink_to(shared)
    if "extra_roots" in choices:
        choices = {"extra_roots": (shared,)}
    tally = run_extraction(
        [Clip(clip_id="c", path=root / "videos" / "v.mp4")],
        tmp_path / "s",
        tiny_spec,
        frames=FRAMES,
        options=JobOptions(root=root, decoders=1, **choices),
    )
    assert tally.failed == failed
    assert open_store(tmp_path / "s").outcome("c").source_path == "videos/v.mp4"
    for failure in tally.failures:
        assert failure.reason == "outside_root"
        assert "--allow-root" in failure.detail


def test_displays(clips, tmp_path, tiny_spec, caplog):
    """Both displays tell of the same events; no extraction is needed to see it."""
    stream = io.StringIO()
    terminal = TerminalProgress(
        Console(file=stream, force_terminal=True, width=200, highlight=False)
    )
    plan = plan_extraction(clips, tmp_path / "s", tiny_spec, frames=FRAMES)
    tally = Tally(ok=1, failed=1, skipped=0, left=7, frames=6, seconds=2.0)
    with caplog.at_level(logging.INFO, "extract"):
        for display in (terminal, LogProgress(every_s=0.0)):
            display.start(plan)
            display.clip(ClipDone(clip_id="a", ok=True, frames=6))
            report = BlockReport(
                clip_ids=("a", "b"), frames=6, decode_wait=1.0, encode=2.0, write=1.0
            )
            display.block(report)
            display.note("something")
            display.clip(ClipDone(clip_id="b", ok=False, frames=0))
            display.end(tally)
    for text in (stream.getvalue(), caplog.text):
        assert "9 of 9 clips to extract, 0 skipped" in text
        assert "1 failed" in text
        assert "waiting for decoder 25%, encoder 50%, disk 25%" in text
        assert "something" in text
        assert "1 extracted, 1 failed, 0 skipped, 7 left; run the same command" in text
    assert isinstance(progress_for(io.StringIO()), LogProgress)


@pytest.mark.parametrize(
    ("frames", "most", "batch"),
    [(100, 64, 50), (100, 256, 200), (16, 64, 64), (24, 64, 48), (101, 64, 51), (64, 64, 64)],
)
def test_batches_are_filled_by_whole_clips(frames, most, batch):
    assert even_batch(frames, most) == batch
