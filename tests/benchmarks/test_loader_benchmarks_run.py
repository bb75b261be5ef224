"""The benchmarks of loading still run, on little; no figure is looked at."""

import sys

import pytest

from benchmarks import cold_reads, data_size, loader
from benchmarks.batch_files import write_batch_files
from benchmarks.clip_readers import ClipSize
from cache_schema import InputError

SMALL = ClipSize(frames=6, patches=3, dim=16)


def test_ways_to_supply_batches_take_turns(tmp_path, monkeypatch):
    # Without the DataLoaders, whose workers take seconds to start.
    passes = {"DataLoader, .npy files": 3, "DataLoader, zarr-python": 2}
    monkeypatch.setattr(
        loader, "peers", lambda *_, **__: {name: iter([n] * 9) for name, n in passes.items()}
    )
    files = write_batch_files(tmp_path, 7, SMALL)
    found = loader.measure(files, loader.Shape(clips=2, epochs=1), [1, 2], rounds=2)
    assert {len(values) for values in found.speed.values()} == {2}
    lines = loader.table(found)
    assert sum(line.startswith("| loader") for line in lines) == 5
    assert lines[2].startswith("| memmap copy |")
    assert lines[-1].startswith("- loader, store, no checksums")


def test_what_a_run_does_unasked_is_compared_too():
    speed = {
        "memmap copy": [2.0],
        "loader, store, crc32c, 2 threads": [4.0],
        "loader, store, crc32c, 4 threads": [3.0],
        "loader, store, no checksums, 2 threads": [5.0],
        "DataLoader, .npy files": [1.0],
        "DataLoader, zarr-python": [0.5],
    }
    waits = {name: [0.01] for name in speed}
    lines = loader.comparisons(loader.Measured(reference=[2.0], speed=speed, waits=waits))
    assert [line.partition(" x memmap")[0] for line in lines] == [
        "- loader, store, crc32c, 4 threads: 1.50",
        "- loader, store, crc32c, 2 threads: 2.00",
        "- loader, store, no checksums, 2 threads: 2.50",
    ]


def test_reads_around_the_page_cache_are_measured(monkeypatch, capsys, tmp_path):
    command = ["cold_reads", "--clips", "3", "--rounds", "1", "--threads", "2", "--no-write"]
    monkeypatch.setattr(sys, "argv", [*command, "--folder", str(tmp_path)])
    try:
        assert cold_reads.main(SMALL) == 0
    except InputError as error:
        pytest.skip(str(error))
    told = capsys.readouterr().out
    assert "| O_DIRECT, crc32c | 2 |" in told
    (reference,) = [line for line in told.splitlines() if line.startswith("| page cache, no ")]
    assert reference.count(" 1.00 |") >= 2


def test_cold_reads_are_compared_with_the_reference_of_their_round():
    plain = [(2.0, 1.0), (4.0, 3.0), (8.0, 2.0)]
    found = {(cold_reads.REFERENCE, 1): plain, ("O_DIRECT, crc32c", 4): [(1.0, 0.5)] * 3}
    assert cold_reads.table(found, 2 * 10**9)[2:] == [
        "| page cache, no checksums | 1 | 0.50 | 1.00 | 1.00 | 1.00 |",
        "| O_DIRECT, crc32c | 4 | 2.00 | 4.00 | 0.25 | 0.25 |",
    ]


def test_sizes_of_data_are_compared(tmp_path):
    found = data_size.measure_size(tmp_path, 40, batches=3)
    assert all(value >= 0 for value in found.values())
    lines = data_size.table({40: found, 80: found})
    assert [line.split("|")[5].strip() for line in lines[2:]] == ["1.00", "1.00"]
