"""What leaving packets out and seeking are worth, on a long video of which few frames are wanted.

    python -m benchmarks.decode_plans [--minutes 20] [--no-write]

Encodes a video (about a minute for 20 minutes of it), then takes frames of all of it and of a part,
each decoder in turn. CPU seconds, one thread, PyAV best of two; every result is checked to be the same
pictures, and the first row is the reference.
"""

import hashlib
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import av
import av.logging
import numpy as np

from benchmarks.result_file import benchmark_parser, publish
from extract.decode_plan import plan_decoding
from extract.decoder_choice import DecoderAbsent, offered_decoders
from extract.decoding import DecodeCount, Decoder, PyavDecoder
from extract.frame_choice import choose_frames
from extract.limits import DecodeLimits
from extract.probe import Probe, probe_video

RATE, GROUP, WIDTH, HEIGHT = 25, 250, 480, 270


def write_long_video(path: Path, minutes: float) -> None:
    """Pans over a field of soft noise; a key frame every ten seconds."""
    field = np.random.default_rng(0).normal(size=(HEIGHT * 3, WIDTH * 3, 3)).cumsum(0).cumsum(1)
    field = (255 * (field - field.min()) / np.ptp(field)).astype(np.uint8)
    with av.open(str(path), "w") as container:
        options = {"g": str(GROUP), "preset": "veryfast", "crf": "28"}
        stream = container.add_stream("libx264", rate=RATE, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(round(minutes * 60 * RATE)):
            left = round(WIDTH * (1 + np.sin(number / 97)))
            top = round(HEIGHT * (1 + np.cos(number / 61)))
            part = np.ascontiguousarray(field[top : top + HEIGHT, left : left + WIDTH])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(part, format="rgb24")))
        container.mux(stream.encode())


def measure(decoder: Decoder, probe: Probe, wanted: np.ndarray) -> tuple[float, int, str]:
    """Returns CPU seconds, pictures decoded, and a digest of the pictures."""
    best, count, digest = float("inf"), DecodeCount(), ""
    for _ in range(2 if isinstance(decoder, PyavDecoder) else 1):
        count, digests = DecodeCount(), hashlib.blake2b()
        pictures = decoder.pictures(probe, wanted, count)
        begin = time.process_time()
        chosen = list(pictures)
        best = min(best, time.process_time() - begin)
        for picture in chosen:
            digests.update(np.ascontiguousarray(picture))
        digest = digests.hexdigest()
    return best, count.frames, digest


def compare(probe: Probe, minutes: float) -> list[str]:
    length, middle = minutes * 60, minutes * 30
    tasks = {
        "100 frames of all": (0.0, length, 100),
        "32 frames of all": (0.0, length, 32),
        "100 frames of one minute in the middle": (middle, middle + 60, 100),
        "8 frames of one minute in the middle": (middle, middle + 60, 8),
    }
    decoders: dict[str, Decoder] = {"PyAV, everything in order": PyavDecoder(whole=True)}
    for name, found in offered_decoders().items():
        if not isinstance(found, DecoderAbsent):
            decoders["PyAV, as planned" if name == "pyav" else found.version] = found
    rows = ["| frames | " + " | ".join(decoders) + " | plan |", "|---" * (len(decoders) + 2) + "|"]
    for label, (start, end, frames) in tasks.items():
        wanted = choose_frames(probe.timestamps, start, end, frames).distinct
        results = [measure(decoder, probe, wanted) for decoder in decoders.values()]
        if len({digest for _, _, digest in results}) > 1:
            raise SystemExit(f"{label}: decoders differ")
        cells = [f"{seconds:.2f} s ({count})" for seconds, count, _ in results]
        plan = plan_decoding(probe, wanted)
        rows.append(
            f"| {label} | {' | '.join(cells)} | {plan.kind}, {len(plan.runs)} runs, "
            f"{len(plan.jumps)} by seeking |"
        )
    return rows


def timed(work: Callable[[], object]) -> float:
    begin = time.process_time()
    work()
    return time.process_time() - begin


def main() -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--minutes", type=float, default=20.0)
    options = parser.parse_args()
    av.logging.set_level(None)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "long.mp4"
        write_long_video(path, options.minutes)
        probe = probe_video(path, DecodeLimits())
        probing = timed(lambda: probe_video(path, DecodeLimits()))
        rows = compare(probe, options.minutes)
    publish(
        "decode-plans",
        "Decode plans",
        options,
        packages=["av"],
        notes=[
            (
                f"video: {options.minutes:g} minutes, {WIDTH}x{HEIGHT}, H.264, a key frame every "
                f"{GROUP} frames; the probe, once per file, takes {probing:.2f} s"
            ),
            "CPU seconds of one thread (pictures that went through the decoder)",
        ],
        body=rows,
    )


if __name__ == "__main__":
    main()
