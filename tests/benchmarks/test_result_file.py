"""What every benchmark says beside its figures, and the file that keeps it."""

import numpy as np
import pytest

from benchmarks import result_file
from benchmarks.result_file import benchmark_parser, publish

WORDS = ["--clips", "3", "4", "--folder", "elsewhere", "--fast"]


@pytest.fixture
def parser():
    parser = benchmark_parser("Measures something.\n\nAt length.")
    parser.add_argument("--clips", type=int, nargs="+")
    parser.add_argument("--peer-clips", type=int, default=7)
    parser.add_argument("--folder")
    parser.add_argument("--device", default=None)
    parser.add_argument("--fast", action="store_true")
    parser.add_argument("--slow", action="store_true")
    return parser


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(result_file, "RESULTS", tmp_path / "results")
    return tmp_path / "results"


def told(options):
    publish(
        "store-read_demo",
        "Reading",
        options,
        packages=["numpy"],
        notes=["warm"],
        body=["| a |", "|---|", "| 1 |"],
    )


def test_what_is_printed_is_kept(parser, results, capsys):
    told(parser.parse_args(WORDS))
    (path,) = results.iterdir()
    assert path.name.startswith("store-read_demo_")
    assert f"-{result_file.usable_cores()}core_20" in path.name
    text = path.read_text(encoding="utf-8")
    assert text == capsys.readouterr().out
    assert text.startswith("# Reading\n\n- date: 20")
    assert f"numpy {np.__version__}" in text
    assert text.endswith("- warm\n\n| a |\n|---|\n| 1 |\n")


def test_the_command_can_be_typed_again(parser, results, capsys):
    told(parser.parse_args([*WORDS, "--no-write"]))
    command = "`python -m benchmarks.store_read --clips 3 4 --peer-clips 7 --fast`"
    assert command in capsys.readouterr().out


def test_nothing_is_kept_if_told_so(parser, results):
    told(parser.parse_args(["--no-write"]))
    assert not results.exists()


def test_help_is_the_first_line(parser):
    assert parser.description == "Measures something."
