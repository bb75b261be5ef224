"""Runs of block addresses are a set, in less room."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache_schema.blocks.block_runs import BlockRuns, runs_rule

addresses = st.sets(st.integers(0, 40), max_size=30)


@given(first=addresses, more=addresses)
def test_runs_are_a_set(first: set[int], more: set[int]) -> None:
    runs = BlockRuns.of(first)
    both = runs.union(more)
    assert list(both) == sorted(first | more)
    assert len(both) == len(first | more)
    assert both.end == max(first | more, default=-1) + 1
    assert list(both.gaps()) == sorted(set(range(both.end)) - first - more)
    assert [address in both for address in range(45)] == [a in first | more for a in range(45)]
    assert list(runs) == sorted(first)
    assert all(b[0] > a[1] + 1 for a, b in zip(both.runs, both.runs[1:], strict=False))


@given(first=addresses)
def test_a_record_says_the_same(first: set[int]) -> None:
    runs = BlockRuns.of(first)
    said = json.loads(json.dumps(runs.to_json()))
    assert runs_rule()(said) is None
    assert BlockRuns(tuple((a, b) for a, b in said)) == runs


def test_a_million_blocks_are_one_run() -> None:
    assert BlockRuns(((0, 999_999),)).union([1_000_000]).runs == ((0, 1_000_000),)


@pytest.mark.parametrize(
    "value",
    [[[3, 2]], [[0, 1], [2, 3]], [[4, 5], [0, 1]], [[0, 4], [3, 9]], [[-1, 2]], [[1]], "runs"],
    ids=["backwards", "touching", "unsorted", "overlapping", "negative", "short", "text"],
)
def test_runs_out_of_order_are_refused(value: object) -> None:
    assert runs_rule()(value) is not None
