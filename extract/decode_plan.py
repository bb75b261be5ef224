"""Which packets of a file must be decoded for the pictures that a clip takes, and where to seek."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from extract.key_packet import Access
from extract.probe import Probe

# Containers whose index marks true random access points, and codecs in which decoding from one
# of those gives every picture shown at or after it. tests/extract holds both against a decoding
# that leaves nothing out.
_INDEXED_CONTAINERS: Final = frozenset({"mov", "matroska"})
_CODECS_WITH_ACCESS_POINTS: Final = frozenset({"h264", "hevc", "vp8", "vp9", "av1"})
_CODECS_WITH_DISPOSABLE_PICTURES: Final = frozenset({"h264", "hevc"})
# Reading past fewer packets than this costs less than a jump (docs/adr/0003).
_SHORTEST_JUMP: Final = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodePlan:
    """The runs of packets that a decoder is given; between two runs it forgets everything."""

    runs: tuple[tuple[int, int], ...]
    """Half-open ranges of places in the file's order of packets, increasing; each begins with a
    key packet, except where the plan is the whole file."""
    jumps: frozenset[int]
    """Runs, by number, that are reached by seeking instead of reading on."""
    disposable: bool
    """Whether pictures that no other refers to may be skipped when they are not wanted."""

    @property
    def packets(self) -> int:
        """The most packets that are decoded."""
        return sum(end - begin for begin, end in self.runs)

    @property
    def kind(self) -> str:
        """``in order``, ``groups`` or ``seek``: what the plan does, for a person."""
        if self.jumps:
            return "seek"
        return "in order" if len(self.runs) == 1 and self.runs[0][0] == 0 else "groups"


def plan_decoding(probe: Probe, wanted: npt.NDArray[np.int32]) -> DecodePlan:
    """Chooses the cheapest way to the wanted pictures that changes no bit of them.

    A stream is cut at its key packets into groups of pictures. A group without a wanted picture is
    left out, and so is the rest of a group behind its last wanted packet: a picture only refers to
    pictures that come before it in the file. Pictures shown before the key packet that they follow
    (open groups) also need the group before. Where everything between two wanted groups is long,
    the container's index leads to the next one; else the packets between are read and dropped.

    Short videos end up decoded in order from begin to end, long ones with few wanted pictures by
    seeking.

    Args:
        probe: a file whose timestamps are known (``probe.timed``).
        wanted: int32 [d]: places among the presentable frames, at least one.
    """
    disposable = probe.codec in _CODECS_WITH_DISPOSABLE_PICTURES
    if not _has_access_points(probe):
        return DecodePlan(runs=((0, probe.pts.size),), jumps=frozenset(), disposable=disposable)
    runs = _runs(probe, np.isin(probe.pts, probe.ticks[wanted]))
    ends = [0, *(end for _, end in runs)]
    jumps = frozenset(
        number for number, (begin, _) in enumerate(runs) if begin - ends[number] >= _SHORTEST_JUMP
    )
    return DecodePlan(runs=runs, jumps=jumps, disposable=disposable)


def _has_access_points(probe: Probe) -> bool:
    # Hidden packets come with edit lists, and those move what a seek leads to.
    return bool(
        not probe.hidden
        and probe.access < Access.LATE
        and probe.codec in _CODECS_WITH_ACCESS_POINTS
        and _INDEXED_CONTAINERS & set(probe.container.split(","))
        and probe.keyframe[0]
    )


def _runs(probe: Probe, is_wanted: npt.NDArray[np.bool_]) -> tuple[tuple[int, int], ...]:
    """Returns the ranges of packets to decode, those that touch joined into one."""
    begins = np.flatnonzero(probe.keyframe)
    group = probe.group
    needs_before = is_wanted & probe.leading
    runs: list[tuple[int, int]] = []
    for number in np.unique(group[is_wanted]).tolist():
        members = np.flatnonzero(is_wanted & (group == number))
        begin, end = int(begins[number]), int(members[-1]) + 1
        if number > 0 and needs_before[members].any():
            begin = int(begins[number - 1])
        if runs and begin <= runs[-1][1]:
            runs[-1] = (runs[-1][0], end)
        else:
            runs.append((begin, end))
    return tuple(runs)
