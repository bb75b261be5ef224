"""The habits of CONTRIBUTING.md that a machine can check; run by `make check` too."""

import ast
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("cache_schema", "extract", "train", "pipelines")
DRAWERS = {
    "utils",
    "util",
    "common",
    "helpers",
    "helper",
    "misc",
    "base",
    "core",
    "types",
    "constants",
}
MOST_LINES_OF_A_FILE = 400
MOST_LINES_OF_A_FUNCTION = 60
MODULES = sorted(p for package in PACKAGES for p in (ROOT / package).rglob("*.py"))


def _tracked() -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode != 0:
        pytest.skip("not a git checkout: which files are tracked is not known")
    return [name for name in listed.stdout.split("\0") if name]


def test_no_file_is_a_drawer():
    assert [p for p in MODULES if p.stem in DRAWERS] == []


def test_tests_have_no_packages():
    """With an `__init__.py`, `tests/train` would shadow `train`."""
    assert list((ROOT / "tests").rglob("__init__.py")) == []


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_modules_say_what_they_are_for_and_stay_readable(path):
    source = path.read_text()
    tree = ast.parse(source)
    assert ast.get_docstring(tree), "opens with one sentence saying what it is for"
    assert source.count("\n") <= MOST_LINES_OF_A_FILE
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            documented = node.body[0] if ast.get_docstring(node) else None
            begin = (documented.end_lineno or node.lineno) if documented else node.lineno
            length = (node.end_lineno or begin) - begin
            assert length <= MOST_LINES_OF_A_FUNCTION, node.name


def test_nothing_large_and_no_data_is_tracked():
    sizes = {name: (ROOT / name).stat().st_size for name in _tracked() if (ROOT / name).is_file()}
    assert {name: size for name, size in sizes.items() if size > 20_000_000} == {}
    assert [name for name in sizes if name.startswith(("data/", "stores/", "runs/"))] == []


def test_every_relative_link_of_the_documents_leads_somewhere():
    import re

    for page in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")):
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
