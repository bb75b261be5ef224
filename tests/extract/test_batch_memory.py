import logging

import pytest
import torch

from extract.batch_memory import BatchMemory

ROWS = torch.arange(50 * 3, dtype=torch.float32).reshape(50, 3)


class Device:
    """Stands for a device: doubles rows, and has room for some of them."""

    def __init__(self, room, error):
        self.room, self.error = room, error
        self.sizes = []

    def __call__(self, rows):
        self.sizes.append(len(rows))
        if len(rows) > self.room:
            raise self.error
        return rows * 2


ERRORS = {
    "cuda": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    "cublas": RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"),
    "cpu": RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 8 bytes"),
    "other": RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"),
}


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
@pytest.mark.parametrize(
    ("room", "tried", "limit"),
    [
        (50, [50], None),
        (49, [50, 25, 25], 25),
        (20, [50, 25, 13, 13, 13, 13], 13),
        (1, [50, 25, 13, 7, 4, 2] + [1] * 50, 1),
    ],
    ids=str,
)
def test_halves_until_it_fits_and_all_parts_have_one_size(error, room, tried, limit):
    device = Device(room, error)
    memory = BatchMemory(device)
    assert torch.equal(memory(ROWS), ROWS * 2)
    assert device.sizes == tried
    assert memory.limit == limit


def test_a_size_that_did_not_fit_is_not_tried_again(caplog):
    device = Device(20, ERRORS["cuda"])
    memory = BatchMemory(device)
    with caplog.at_level(logging.WARNING):
        memory(ROWS)
        memory(ROWS[:30])
        memory(ROWS[:5])
    assert device.sizes == [50, 25, 13, 13, 13, 13, 13, 13, 13, 5]
    assert [record.args for record in caplog.records] == [(50, 25), (25, 13)]


@pytest.mark.parametrize(
    "error", [ERRORS["cuda"], RuntimeError("shapes do not match"), ValueError("out of memory")]
)
def test_gives_up_where_halving_does_not_help(error):
    device = Device(0, error)
    with pytest.raises(type(error)):
        BatchMemory(device)(ROWS[:2])
    assert device.sizes == ([2, 1] if error is ERRORS["cuda"] else [2])
