"""Tokens as int8 with a scale each: half the bytes of float16, for a loss that is measured."""

from typing import Final

import numpy as np
import numpy.typing as npt

LARGEST: Final = 127
MISSING: Final = -128
"""No value is quantised to this; the fill value of the arrays, so that a gap is not read as zero."""

Float16 = npt.NDArray[np.float16]
Float32 = npt.NDArray[np.float32]
Int8 = npt.NDArray[np.int8]

# Products this large stay normal numbers as float16, and 2^-112 times them as float32.
_SMALLEST_NORMAL: Final = np.float32(2.0**-14)
_REBIAS: Final = np.float32(2.0**-112)


def quantise(tokens: Float16) -> tuple[Int8, Float32]:
    """Quantises tokens, each by its own largest magnitude.

    Args:
        tokens: finite float16 [..., D].

    Returns:
        int8 [..., D] within -127 to 127, and the scales, float32 [...]: a value is about its int8
        times its token's scale, off by at most half the scale before rounding to float16.
    """
    wide = tokens.astype(np.float32)
    scale = np.abs(wide).max(axis=-1, initial=0.0) / np.float32(LARGEST)
    divisor = np.where(scale == 0, np.float32(1), scale)
    wide /= divisor[..., None]
    np.rint(wide, out=wide)
    np.clip(wide, -LARGEST, LARGEST, out=wide)
    return wide.astype(np.int8), scale


def dequantise(quantised: Int8, scale: Float32, out: Float16) -> None:
    """Writes float16(float32(value) x scale) of every value: what any reader of the arrays gets.

    Args:
        quantised: int8 [F, P, D].
        scale: float32 [F, P].
        out: float16 [F, P, D], C-contiguous; receives the tokens.
    """
    product = np.empty(quantised.shape[1:], dtype=np.float32)
    spare = np.empty(quantised.shape[1:], dtype=np.uint32)
    for frame, values, scales in zip(out, quantised, scale, strict=True):
        product[...] = values
        # numpy turns float32 into float16 one value at a time; whole arrays of integers go twice as
        # fast. A frame at a time, so that it all stays in the processor's cache.
        if (scales >= _SMALLEST_NORMAL).all():
            product *= (scales * _REBIAS)[:, None]
            _round_to_half(product.view(np.uint32), spare, frame.view(np.uint16))
        else:
            product *= scales[:, None]
            frame[...] = product


def _round_to_half(
    bits: npt.NDArray[np.uint32], spare: npt.NDArray[np.uint32], out: npt.NDArray[np.uint16]
) -> None:
    """Rounds to the nearest half, ties to even, by the bits of floats scaled by 2^-112.

    So scaled, a float32 has a half's exponent: dropping 13 bits of the fraction makes it one.
    """
    np.right_shift(bits, np.uint32(13), out=spare)
    spare &= np.uint32(1)
    spare += np.uint32(0xFFF)
    bits += spare
    bits >>= np.uint32(13)
    np.right_shift(bits, np.uint32(3), out=spare)
    spare &= np.uint32(0x8000)
    bits |= spare
    out[...] = bits
