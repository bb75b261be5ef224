"""Sets of block addresses as runs: nearly all blocks below the newest are folded, so a few runs tell."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cache_schema import field_rules
from cache_schema.field_rules import Rule

_pair = field_rules.sequence(field_rules.integer(most=2**48), length=2)


@dataclass(frozen=True, slots=True)
class BlockRuns:
    """A set of block addresses; the address of a block is segment x (blocks of a segment) + block.

    Its size in memory and in a record depends on the gaps, not on the number of blocks.
    """

    runs: tuple[tuple[int, int], ...] = ()
    """First and last address of each run, ascending; a gap lies between any two."""

    @classmethod
    def of(cls, addresses: Iterable[int]) -> "BlockRuns":
        """Returns the set of some addresses, in any order."""
        return cls().union(addresses)

    def __contains__(self, address: int) -> bool:
        place = bisect_right(self.runs, address, key=lambda run: run[0])
        return place > 0 and address <= self.runs[place - 1][1]

    def __iter__(self) -> Iterator[int]:
        for first, last in self.runs:
            yield from range(first, last + 1)

    def __len__(self) -> int:
        return sum(last - first + 1 for first, last in self.runs)

    @property
    def end(self) -> int:
        """One past the highest address, 0 for the empty set."""
        return self.runs[-1][1] + 1 if self.runs else 0

    def gaps(self) -> Iterator[int]:
        """Returns the addresses below ``end`` that are not in the set, ascending."""
        start = 0
        for first, last in self.runs:
            yield from range(start, first)
            start = last + 1

    def union(self, addresses: Iterable[int]) -> "BlockRuns":
        """Returns this set with some addresses more."""
        merged: list[tuple[int, int]] = []
        for first, last in sorted([*self.runs, *((address, address) for address in addresses)]):
            if merged and first <= merged[-1][1] + 1:
                merged[-1] = merged[-1][0], max(merged[-1][1], last)
            else:
                merged.append((first, last))
        return BlockRuns(tuple(merged))

    def to_json(self) -> list[list[int]]:
        """Returns the runs as plain JSON values."""
        return [list(run) for run in self.runs]


def runs_rule() -> Rule:
    """A list of runs [first, last] that ascend, with a gap between any two."""

    def rule(value: object) -> str | None:
        if (problem := field_rules.sequence(_pair)(value)) is not None:
            return problem
        before = -2
        for first, last in value:  # type: ignore[attr-defined]
            if first < before + 2 or last < first:
                return f"has the run {[first, last]} out of order"
            before = last
        return None

    return rule
