import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.decoder_conformance import (
    BEGIN,
    END,
    PAGE,
    SAMPLES,
    borrowed_ffmpeg,
    check_numbered,
    check_sample,
)
from benchmarks.numbered_videos import KINDS
from extract.decoder_choice import (
    DecoderAbsent,
    decoders_for,
    load_decoder,
    offered_decoders,
)
from extract.decoding import PyavDecoder
from extract.limits import DecodeLimits
from extract.probe import probe_video

OFFERED = [
    name for name, found in offered_decoders().items() if not isinstance(found, DecoderAbsent)
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_decoder_gives_the_frames_of_the_contract(tmp_path, kind):
    path = kind.write(tmp_path)
    for backend in OFFERED:
        result = check_numbered(kind, path, backend)
        assert (result.right, result.asked) == (kind.asked, kind.asked), result
        # Whoever has no objection delivers, but for a failure of decord2 3.4 with some sizes.
        probe = probe_video(path, DecodeLimits())
        if load_decoder(backend).objection(probe):
            assert result.by == "pyav"
        elif backend != "decord":
            assert result.by == backend


@pytest.mark.parametrize(
    "path", sorted(SAMPLES.iterdir()) if SAMPLES.is_dir() else [], ids=lambda path: path.name
)
def test_real_videos_equal_a_slow_decoding_of_everything(path):
    """Skipped with an empty list of parameters where the samples are not there."""
    for backend in OFFERED:
        result = check_sample(path, backend)
        assert result.right == result.asked or not result.by, result


def test_pyav_is_always_offered_and_the_last_to_be_tried():
    assert isinstance(load_decoder("pyav"), PyavDecoder)
    for backend in OFFERED:
        assert isinstance([*decoders_for(backend)][-1], PyavDecoder)
        assert load_decoder(backend).version.startswith(backend)


def test_a_decoder_that_does_not_load_says_so_and_is_not_tried(monkeypatch):
    from extract import decoder_choice

    monkeypatch.setitem(sys.modules, "extract.decord_backend", None)
    decoder_choice._loaded.cache_clear()
    try:
        with pytest.raises(DecoderAbsent, match="--backend pyav"):
            load_decoder("decord")
        assert [decoder.version.split()[0] for decoder in decoders_for("decord")] == ["pyav"]
    finally:
        decoder_choice._loaded.cache_clear()


def test_the_page_lists_every_kind():
    table = PAGE.read_text().partition(BEGIN)[2].partition(END)[0]
    listed = [line.split(" | ")[0].strip("| ") for line in table.splitlines() if "/" in line]
    missing = {kind.name for kind in KINDS} - set(listed)
    assert not missing, "write the table anew: python -m benchmarks.decoder_conformance"


@pytest.mark.slow
def test_torchcodec_with_the_ffmpeg_of_pyav(tmp_path):
    """Where the system has no FFmpeg, the one inside PyAV's wheel can serve torchcodec."""
    pytest.importorskip("torchcodec")
    command = [sys.executable, "-m", "benchmarks.decoder_conformance", "--no-write"]
    done = subprocess.run(
        [*command, "--samples", str(tmp_path / "none")],
        env={**borrowed_ffmpeg(tmp_path), "PYTHONPATH": str(Path(__file__).parents[2])},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert "torchcodec did not load" not in done.stdout, os.linesep.join(
        done.stdout.splitlines()[:2]
    )
