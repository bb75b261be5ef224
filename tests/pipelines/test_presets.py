"""Preset files: strict, merged in a stated order, each shipped one valid."""

import pytest

from cache_schema.errors import InputError
from pipelines.presets import PRESETS, preset_path, read_runs

FILE = """
[train]
steps = 300
[train.model]
selected = 4
[runs.main]
[runs.rival]
lr = 1e-3
model.sampler = "uniform"
"""


@pytest.fixture
def preset(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(FILE)
    return path


def test_runs_share_what_is_shared_and_differ_in_what_they_say(preset):
    runs = read_runs(preset, [], seed=5)
    assert list(runs) == ["main", "rival"]
    assert {(r.steps, r.model.selected, r.seed) for r in runs.values()} == {(300, 4, 5)}
    assert (runs["main"].model.sampler, runs["rival"].model.sampler) == ("learned", "uniform")
    assert runs["rival"].lr == 1e-3


def test_overrides_win_and_keep_their_types(preset):
    runs = read_runs(
        preset, ["steps=200", "model.selected=2", "model.draws=without_replacement"], 1
    )
    main = runs["main"]
    assert (main.steps, main.model.selected, main.model.draws) == (200, 2, "without_replacement")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        pytest.param("stepps=3", "did you mean 'steps'", id="misspelt"),
        pytest.param("model.selectd=3", "did you mean 'selected'", id="misspelt inside"),
        pytest.param("steps", "key=value", id="no value"),
        pytest.param("steps=many", "steps", id="wrong type"),
    ],
)
def test_wrong_overrides_are_refused(preset, override, message):
    with pytest.raises(InputError, match=message):
        read_runs(preset, [override], 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("[train", "not TOML", id="not toml"),
        pytest.param("[train]\nsteps=3", "names no runs", id="no runs"),
        pytest.param("[runs.a]\n[trian]\nx=1", "unknown tables", id="unknown table"),
    ],
)
def test_wrong_files_are_refused(tmp_path, text, message):
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_runs(path, [], 1)


@pytest.mark.parametrize("path", sorted(PRESETS.glob("*.toml")), ids=lambda p: p.stem)
def test_shipped_presets_are_valid(path):
    assert preset_path(path.stem) == path
    assert read_runs(path, [], seed=1)


def test_unknown_presets_list_the_shipped_ones():
    with pytest.raises(InputError, match="demo"):
        preset_path("nothing-like-it")
