"""The first steps of every model cost what they cost when `golden_losses.json` was written."""

import json

import pytest
import torch

from tests.train.golden_losses import COMMAND, GOLDEN, RUNS, STEPS, losses

TOLERANCE = 1e-4
"""Relative, on every step. With AVX2 in place of AVX-512, or without vector instructions, the machine that
wrote the file differs by at most 2e-6."""


@pytest.fixture(scope="module")
def golden() -> dict[str, list[float]]:
    if not GOLDEN.exists():
        pytest.fail(f"{GOLDEN} is missing; `{COMMAND}` makes it")
    return json.loads(GOLDEN.read_text())


def test_golden_are_the_runs_that_there_are(golden):
    assert golden.keys() == RUNS.keys(), f"`{COMMAND}` makes the file anew"


@pytest.mark.skipif(
    not torch.backends.mkl.is_available(), reason="torch draws exponentials otherwise without MKL"
)
@pytest.mark.parametrize("name", RUNS)
def test_losses_are_golden(golden, name):
    if name not in golden:
        pytest.fail(f"{GOLDEN} has no losses of {name!r}; `{COMMAND}` makes them")
    assert len(golden[name]) == STEPS
    assert losses(name) == pytest.approx(golden[name], rel=TOLERANCE)
