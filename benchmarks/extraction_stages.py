"""What each stage of extraction costs alone, in CPU seconds, with all cores at work on it."""

import multiprocessing
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True, kw_only=True)
class StageCosts:
    """CPU seconds of one frame."""

    decode: float
    preprocess: float
    encode: float

    @property
    def total(self) -> float:
        return self.decode + self.preprocess + self.encode


def stage_costs(
    spec: object, videos: Sequence[Path], frames: int, batch: int, batches: int, cores: int
) -> StageCosts:
    """Measures decoding and preprocessing of some clips, and encoding of some batches.

    Each stage runs alone, once per core at the same time: cores that share caches or are halves of one
    core are then as slow as they are in an extraction.
    """
    decoded = _on_all_cores(_decoding, cores, [(spec, v, frames) for v in _shares(videos, cores)])
    encoded = _on_all_cores(_encoding, cores, [(spec, batch, batches)] * cores)
    pictures = sum(count for _, _, count in decoded)
    return StageCosts(
        decode=sum(seconds for seconds, _, _ in decoded) / pictures,
        preprocess=sum(seconds for _, seconds, _ in decoded) / pictures,
        encode=sum(encoded) / (cores * batch * batches),
    )


def product_costs(batch: int, cores: int) -> dict[str, float]:
    """Measures the matrix products of a ViT-B/32's blocks alone, with all cores at work on them.

    Returns:
        CPU seconds of one frame, by precision: what remains if all else in the encoder were free.
    """
    return {
        precision: sum(_on_all_cores(_products, cores, [(precision, batch)] * cores)) / cores
        for precision in ("fp32", "bf16")
    }


def _products(precision: str, batch: int) -> float:
    import torch

    torch.set_num_threads(1)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    blocks, width, tokens = 12, 768, 50
    shapes = ((width, 3 * width), (width, width), (width, 4 * width), (4 * width, width))
    layers = [torch.nn.Linear(*shape, dtype=dtype) for shape in shapes]
    inputs = [torch.randn(batch * tokens, layer.in_features, dtype=dtype) for layer in layers]
    seconds = []
    with torch.inference_mode():
        for _ in range(4):
            begin = time.process_time()
            for layer, given in zip(layers, inputs, strict=True):
                layer(given)
            seconds.append(time.process_time() - begin)
    return blocks * min(seconds) / batch


def _shares(videos: Sequence[Path], cores: int) -> list[list[Path]]:
    return [list(videos[core::cores]) for core in range(cores)]


def _on_all_cores(work: Callable, cores: int, arguments: Sequence[tuple]) -> list:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(cores, context) as pool:
        return [future.result() for future in [pool.submit(work, *each) for each in arguments]]


def _decoding(spec: object, videos: Sequence[Path], frames: int) -> tuple[float, float, int]:
    import torch

    from extract.clip_frames import read_clip
    from extract.decoding import DecodeCount, PyavDecoder
    from extract.frame_choice import choose_frames
    from extract.frame_request import FrameRequest
    from extract.limits import DecodeLimits
    from extract.preprocessing import to_encoder_input
    from extract.probe import probe_video
    from extract.source_file import SourceReader

    torch.set_num_threads(1)
    preprocess, limits = spec.architecture.preprocess, DecodeLimits()
    request = FrameRequest(
        path=videos[0], root=None, start_s=None, end_s=None, frames=frames,
        preprocess=preprocess, limits=limits, backend="pyav",
    )  # fmt: skip
    read_clip(request, SourceReader().read(videos[0]), probe_video(videos[0], limits))  # warms up
    decoding = preprocessing = 0.0
    count = 0
    for video in videos:
        begin = time.process_time()
        SourceReader().read(video)
        probe = probe_video(video, limits)
        stamps = probe.timestamps
        choice = choose_frames(stamps, 0.0, float(stamps[-1] + stamps[1] - stamps[0]), frames)
        pictures = list(PyavDecoder().pictures(probe, choice.distinct, DecodeCount()))
        decoding += time.process_time() - begin
        begin = time.process_time()
        for picture in pictures:
            to_encoder_input(picture, preprocess)
        preprocessing += time.process_time() - begin
        count += len(pictures)
    return decoding, preprocessing, count


def _encoding(spec: object, batch: int, batches: int) -> float:
    import torch

    from extract.encoder import load_encoder

    torch.set_num_threads(1)
    encoder = load_encoder(spec)
    size = encoder.preprocess.image_size
    pixels = np.random.default_rng(0).integers(0, 256, (batch, size, size, 3), dtype=np.uint8)
    encoder.encode(pixels)
    begin = time.process_time()
    for _ in range(batches):
        encoder.encode(pixels)
    return time.process_time() - begin
