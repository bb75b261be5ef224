import importlib
import re
from functools import reduce
from pathlib import Path

import pytest

from tests.command_lines import require_valid

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs/paper-map.md").read_text()
NAMED = sorted(set(re.findall(r"`([\w/]+\.py)::([\w.]+)`", TEXT)))
SYMBOLS = [pair for pair in NAMED if not pair[0].startswith("tests/")]
TESTS = [pair for pair in NAMED if pair[0].startswith("tests/")]


@pytest.mark.parametrize(("path", "symbol"), SYMBOLS)
def test_symbol_exists_and_says_what_it_is(path, symbol):
    module = importlib.import_module(path.removesuffix(".py").replace("/", "."))
    assert reduce(getattr, symbol.split("."), module).__doc__


@pytest.mark.parametrize(("path", "test"), TESTS)
def test_test_exists(path, test):
    assert re.search(rf"^def {test}\(", (ROOT / path).read_text(), re.MULTILINE)


def rows() -> list[str]:
    lines = [line for line in TEXT.splitlines() if line.startswith("|")]
    return [line for line in lines if not re.match(r"\|[-|]+$|\| (paper|question|what) \|", line)]


@pytest.mark.parametrize("row", rows())
def test_every_row_names_code_and_a_test(row):
    paths = re.findall(r"`([\w/]+\.py)::[\w.]+`", row)
    assert any(not path.startswith("tests/") for path in paths)
    assert any(path.startswith("tests/") for path in paths)


def commanded() -> dict[str, str]:
    """What -> its command, of the rows about equations, sections, tables and figures."""
    section = TEXT.split("## Equations and sections")[1].split("## Where the paper is silent")[0]
    cells = [line.split(" | ") for line in section.splitlines() if line.startswith("| ")]
    return {row[0].removeprefix("| "): row[1] for row in cells if row[1] != "command"}


@pytest.mark.parametrize(("what", "command"), commanded().items())
def test_every_row_names_commands_that_exist(what, command):
    commands = re.findall(r"`((?:make|videodistill) [^`]+)`", command)
    assert commands, f"{what}: {command}"
    for line in commands:
        require_valid(line)


@pytest.mark.parametrize(
    "what",
    [*(f"Eq. {n}" for n in range(1, 11)), *(f"Table {n}" for n in range(1, 5)), "Figure 5"],
)
def test_every_equation_table_and_figure_has_a_row(what):
    assert any(row.startswith(f"{what}, ") for row in commanded())


def test_every_option_named_is_one_of_the_configuration():
    from train.config import ModelConfig, TrainConfig

    known = {*ModelConfig.__dataclass_fields__, *TrainConfig.__dataclass_fields__}
    section = TEXT.split("## Where the paper is silent")[1].split("## Rivals")[0]
    named = set(re.findall(r"`(?:TrainConfig\.)?(\w+)=", section))
    assert named
    assert named <= known


def test_defaults_stated_are_the_defaults():
    from train.config import ModelConfig, TrainConfig

    defaults = {**TrainConfig().to_dict(), **ModelConfig().to_dict()}
    section = TEXT.split("## Where the paper is silent")[1].split("## Rivals")[0]
    for name, value in re.findall(r"`(?:TrainConfig\.)?(\w+)=([^`]+)`", section):
        assert str(defaults[name]) == value.strip('"'), name
