"""docs/datasets.md says of every data set what the code says."""

import re
from pathlib import Path

import pytest

from pipelines.datasets.extraction_cost import costs, shown_size
from pipelines.datasets.registry import known
from pipelines.datasets.template import FILES

PAGE = Path(__file__).parents[2] / "docs" / "datasets.md"
DESCRIBED = [d for d in known().values() if not d.rendered and d.name != "custom"]


def section(name: str) -> str:
    parts = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    found = [part for part in parts if part.startswith(f"`{name}`\n")]
    assert len(found) == 1, f"{name} has {len(found)} sections"
    return found[0]


@pytest.mark.parametrize("dataset", DESCRIBED, ids=lambda d: d.name)
def test_a_section_says_what_the_code_says(dataset):
    text = section(dataset.name)
    assert f"`data/{dataset.folder}`" in text
    for words in (dataset.licence, dataset.offered, dataset.splits, dataset.videos):
        assert words in text
    for file in dataset.files:
        assert f"| `{file.name}` | {file.holds}" in text
    for count in dataset.published:
        assert f"{count.count:,} {count.what} in {count.split}" in text
    for kind in dataset.tags:
        assert f"`{kind}` (" in text
    assert "**Traps**" in text
    if dataset.clips is not None:
        for cost in costs(dataset.clips):
            assert f"{cost.encoder} {shown_size(cost.bytes)} and " in text


def test_no_section_is_of_a_data_set_that_is_not_there():
    names = re.findall(r"^## `([a-z0-9-]+)`$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert names == [d.name for d in DESCRIBED]


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("README.md", r"\*\*(\d+) data sets\*\*"),
        ("CHANGELOG.md", r", (\d+) in their owners' files"),
    ],
)
def test_as_many_data_sets_are_announced_as_are_there(file, said):
    text = " ".join((PAGE.parents[1] / file).read_text(encoding="utf-8").split())
    assert re.findall(said, text) == [str(len(DESCRIBED))]


def test_the_example_is_the_template():
    text = PAGE.read_text(encoding="utf-8")
    for block in re.findall(
        r"^```\n((?:clip_id|question_id),.*?)^```", text, re.MULTILINE | re.DOTALL
    ):
        (name,) = [n for n, content in FILES.items() if content.startswith(block.splitlines()[0])]
        assert set(block.splitlines()) <= set(FILES[name].splitlines())
    for name in FILES:
        assert name.removesuffix(".csv") in text
