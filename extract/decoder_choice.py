"""Which libraries decode here: the one that was asked for where it is right, and PyAV."""

import functools
from collections.abc import Iterator
from typing import get_args

from cache_schema import InputError
from extract.decoding import Decoder, PyavDecoder
from extract.frame_request import Backend


class DecoderAbsent(InputError):  # noqa: N818 -- says what is the case
    """A decoding library is not installed, or does not load on this machine."""


def load_decoder(backend: Backend) -> Decoder:
    """Loads a library. A second FFmpeg in the process is left to those who ask for it.

    Raises:
        DecoderAbsent: it cannot be had here; says why.
    """
    found = _loaded(backend)
    if isinstance(found, DecoderAbsent):
        raise found
    return found


def offered_decoders() -> dict[Backend, Decoder | DecoderAbsent]:
    """Returns every backend by name, or why it is not offered."""
    return {backend: _loaded(backend) for backend in get_args(Backend)}


@functools.cache
def _loaded(backend: Backend) -> Decoder | DecoderAbsent:
    if backend == "pyav":
        return PyavDecoder()
    try:
        if backend == "decord":
            from extract.decord_backend import DecordDecoder

            return DecordDecoder()
        from extract.torchcodec_backend import TorchcodecDecoder

        return TorchcodecDecoder()
    except (ImportError, OSError, RuntimeError) as error:
        # torchcodec tells of every FFmpeg that it did not find, a screen each.
        reason = str(error).strip().partition("\n")[0].strip()
        return DecoderAbsent(
            f"the decoder {backend} does not load here ({reason}). Install it (docs/decoders.md), or "
            "use --backend pyav: the frames are the same."
        )


def decoders_for(backend: Backend) -> Iterator[Decoder]:
    """Yields who is to be tried for a clip, in this order; what does not load here is left out."""
    if backend != "pyav":
        asked = _loaded(backend)
        if not isinstance(asked, DecoderAbsent):
            yield asked
    yield PyavDecoder()
