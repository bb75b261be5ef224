"""What the key packets of a container are worth: not every one lets decoding begin there."""

from collections.abc import Iterator
from enum import IntEnum
from typing import Final


class Access(IntEnum):
    """What decoding from a key packet gives, the best first."""

    CLEAN = 0
    """Every picture from there on."""
    OPEN = 1
    """Every picture shown after it; those between it and the one before it refer to others."""
    LATE = 2
    """Whole pictures only some frames later, or never: intra refresh, or a wrong mark."""


_H264_IDR, _H264_SEI = 5, 6
_H264_SLICES: Final = frozenset({1, 2})
_HEVC_SLICES: Final = range(32)
_HEVC_CRA: Final = 21
_HEVC_CLEAN: Final = range(16, 21)
_RECOVERY_POINT: Final = 6
# The first byte of an H.264 slice of intra blocks that begins the picture: the number of its
# first block, 0, then the type 2 or 7, both Exp-Golomb coded.
_FIRST_INTRA_SLICE: Final = frozenset({*range(0xB0, 0xC0), 0x88})


def access_at(packet: memoryview, codec: str, extradata: bytes | None) -> Access:
    """Classifies a key packet of an MP4 or Matroska file by its NAL units.

    Sources: ITU-T H.264, 7.4.1 (unit types) and D.2.8 (``recovery_frame_cnt``); ITU-T H.265,
    7.4.2.2; ISO/IEC 14496-15 for the records that tell how units are delimited.

    Args:
        packet: an access unit, NAL units each behind its length.
        codec: ``h264`` or ``hevc``; key packets of other codecs are taken at their word.
        extradata: the stream's ``avcC`` or ``hvcC`` record.
    """
    if codec not in {"h264", "hevc"}:
        return Access.CLEAN
    place = 4 if codec == "h264" else 21
    if not extradata or extradata[0] != 1 or len(extradata) <= place:
        return Access.OPEN  # delimited otherwise; the container may be right
    units = _nal_units(packet, (extradata[place] & 3) + 1)
    return _h264_access(units) if codec == "h264" else _hevc_access(units)


def _h264_access(units: Iterator[memoryview]) -> Access:
    for unit in units:
        kind = unit[0] & 31
        if kind == _H264_IDR:
            return Access.CLEAN
        if kind == _H264_SEI and (count_is_zero := _recovery_count_is_zero(unit[1:])) is not None:
            return Access.OPEN if count_is_zero else Access.LATE
        if kind in _H264_SLICES:
            intra = len(unit) > 1 and unit[1] in _FIRST_INTRA_SLICE
            return Access.OPEN if intra else Access.LATE
    return Access.LATE


def _hevc_access(units: Iterator[memoryview]) -> Access:
    for unit in units:
        kind = unit[0] >> 1 & 63
        if kind in _HEVC_CLEAN:
            return Access.CLEAN
        if kind in _HEVC_SLICES:
            return Access.OPEN if kind == _HEVC_CRA else Access.LATE
    return Access.LATE


def _nal_units(packet: memoryview, length_bytes: int) -> Iterator[memoryview]:
    place = 0
    while place + length_bytes < len(packet):
        size = int.from_bytes(packet[place : place + length_bytes])
        place += length_bytes
        if not 0 < size <= len(packet) - place:
            return
        yield packet[place : place + size]
        place += size


def _recovery_count_is_zero(messages: memoryview) -> bool | None:
    """Looks for a recovery point; its frame count, Exp-Golomb coded, is 0 if the first bit is 1."""
    place = 0
    while place + 2 < len(messages):
        kind, place = _number(messages, place)
        size, place = _number(messages, place)
        if kind == _RECOVERY_POINT and place < len(messages):
            return messages[place] >= 128
        place += size
    return None


def _number(messages: memoryview, place: int) -> tuple[int, int]:
    """Reads a type or size: bytes of 255 add up with the first other one."""
    value = 0
    while place < len(messages):
        byte = messages[place]
        place += 1
        value += byte
        if byte != 255:
            break
    return value, place
