"""The format's page shows a real store: what it lists is what lies in the golden store."""

import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "store-format.md").read_text(encoding="utf-8")
STORE = ROOT / "tests" / "cache_schema" / "stores" / "format-1"


def _block(kind: str, number: int) -> str:
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)[number]


def test_the_tree_is_that_of_the_store() -> None:
    listed = [line.split("  ")[0] for line in _block("", 0).splitlines()]
    files = sorted(
        file.relative_to(STORE).as_posix() for file in STORE.rglob("*") if file.is_file()
    )
    assert listed == files


def test_the_root_attributes_are_those_of_the_store() -> None:
    attributes = json.loads((STORE / "zarr.json").read_text())["attributes"]
    assert json.loads(_block("json", 0)) == attributes


def test_the_commit_is_that_of_the_store() -> None:
    commit = json.loads((STORE / "commits" / "000000.000001.json").read_text())
    assert json.loads(_block("json", 1)) == commit


def test_every_test_that_the_page_names_is_there() -> None:
    section = PAGE.split("\n## Faults\n")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")][1:]
    assert len(rows) == 23
    files = {
        file.stem: file.read_text(encoding="utf-8") for file in ROOT.glob("tests/**/test_*.py")
    }
    for row in rows:
        named = re.findall(r"`(test_\w+)::(test_\w+)`", row)
        assert named, row
        for file, test in named:
            assert f"def {test}(" in files[file], f"{file}::{test}"
