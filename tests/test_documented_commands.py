"""Every command that a page shows is one that the program has: parsed, never run."""

import re
from pathlib import Path

import pytest

from cache_schema.errors import InputError
from tests.command_lines import require_valid

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def shown(page: Path) -> list[str]:
    """The command lines of a page's code blocks, without prompts, remarks and output."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    lines = [line.removeprefix("$ ") for block in blocks for line in block.splitlines()]
    commands = [part for line in lines for part in line.split(" && ")]
    # What follows two spaces or a number sign explains, and brackets say that a word may be left out.
    cut = [re.split(r"  |\s#", line)[0].replace("[", "").replace("]", "") for line in commands]
    return [line for line in cut if re.match(r"(make|videodistill) \S", line)]


COMMANDS = [(page.name, line) for page in PAGES for line in shown(page)]


@pytest.mark.parametrize(("page", "line"), COMMANDS)
def test_a_page_shows_commands_that_exist(page, line):
    require_valid(line)


def test_most_pages_show_some():
    assert len({page for page, _ in COMMANDS}) >= 8


@pytest.mark.parametrize(
    "line",
    [
        "make trian DATASET=agqa",
        "make train DATASET=agqq",
        'make train ARGS="--preset table5"',
        "videodistill trian agqa",
        "videodistill store dif A B",
        "videodistill train agqa --tagg own",
        "videodistill train agqa --set model.selectd=3",
        "videodistill store diff A",
        "videodistill store diff A B C",
    ],
)
def test_what_does_not_exist_is_found(line):
    with pytest.raises((ValueError, InputError)):
        require_valid(line)
