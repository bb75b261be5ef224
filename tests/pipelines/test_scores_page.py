"""docs/scores.md says of every score and preset what the code says."""

import re
from pathlib import Path

import pytest

from pipelines.datasets.registry import known
from pipelines.presets import PRESETS, read_preset
from pipelines.scores.official import OFFICIAL

PAGE = (Path(__file__).parents[2] / "docs" / "scores.md").read_text(encoding="utf-8")
SECTIONS = {
    name: section
    for section in re.split(r"^### ", PAGE, flags=re.MULTILINE)[1:]
    for name in re.findall(r"`([a-z0-9-]+)`", section.splitlines()[0])
}


@pytest.mark.parametrize("name", OFFICIAL)
def test_a_section_says_what_is_counted_whose_it_is_and_what_is_odd(name):
    words = " ".join(SECTIONS[name].split())
    assert OFFICIAL[name].metric in words
    assert f"**Source** {OFFICIAL[name].source}" in words
    assert "**Normalisation**" in words
    assert "**Quirks**" in words
    assert ("--compat" in words) == (OFFICIAL[name].compat is not None)


def test_sections_are_of_data_sets_that_are_there():
    retrieval = {d.name for d in known().values() if d.task == "retrieval" and not d.rendered}
    assert set(SECTIONS) == set(OFFICIAL) | retrieval


def test_every_ablation_is_listed_with_its_runs():
    rows = dict(re.findall(r"^\| `([a-z0-9][a-z0-9-]*)` \|(.*)\|$", PAGE, re.MULTILINE))
    inheriting = {p.stem for p in PRESETS.glob("*.toml") if "inherits =" in p.read_text()}
    assert set(rows) == inheriting
    for run in read_preset(PRESETS / "baselines.toml", [], 1, own="agqa").runs:
        assert f"`{run}`" in rows["baselines"]
