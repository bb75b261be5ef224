"""Preset files: strict, merged in a stated order, each shipped one valid."""

from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from cache_schema.errors import InputError
from pipelines.datasets.registry import find, known
from pipelines.experiment import Experiment
from pipelines.presets import MAIN_RUN, PRESETS, own_preset, preset_path, read_preset
from pipelines.steps import report
from pipelines.workspace import Workspace
from train.methods import MODELS

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
    runs = read_preset(preset, [], seed=5).runs
    assert list(runs) == ["main", "rival"]
    assert {(r.steps, r.model.selected, r.seed) for r in runs.values()} == {(300, 4, 5)}
    assert (runs["main"].model.sampler, runs["rival"].model.sampler) == ("learned", "uniform")
    assert runs["rival"].lr == 1e-3


def test_overrides_win_and_keep_their_types(preset):
    runs = read_preset(
        preset, ["steps=200", "model.selected=2", "model.draws=without_replacement"], 1
    ).runs
    main = runs["main"]
    assert (main.steps, main.model.selected, main.model.draws) == (200, 2, "without_replacement")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        pytest.param("stepps=3", "did you mean 'steps'", id="misspelt"),
        pytest.param("model.selectd=3", "did you mean 'model.selected'", id="misspelt inside"),
        pytest.param("steps", "key=value", id="no value"),
        pytest.param("steps=many", "steps", id="wrong type"),
    ],
)
def test_wrong_overrides_are_refused(preset, override, message):
    with pytest.raises(InputError, match=message):
        read_preset(preset, [override], 1)


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
        read_preset(path, [], 1)


@pytest.mark.parametrize("path", sorted(PRESETS.glob("*.toml")), ids=lambda p: p.stem)
def test_shipped_presets_are_valid(path):
    assert preset_path(path.stem) == path
    assert read_preset(path, [], seed=1, own="demo").runs


def test_unknown_presets_list_the_shipped_ones():
    with pytest.raises(InputError, match="demo"):
        preset_path("nothing-like-it")


INHERITING = """
inherits = "data set"
[train]
lr = 2e-3
[runs.few]
model.selected = 2
"""


@pytest.fixture
def inheriting(tmp_path):
    path = tmp_path / "ablation.toml"
    path.write_text(INHERITING)
    return path


def test_an_inheriting_file_changes_the_main_run_of_the_data_set(inheriting, preset):
    made = read_preset(inheriting, ["steps=200"], 5, own=str(preset))
    main = read_preset(preset, ["steps=200"], 5).runs["main"]
    changed = replace(main, lr=2e-3, model=replace(main.model, selected=2))
    assert made.runs == {"few": changed}
    assert (made.folder, made.main_run) == ("ablation", "few")


def test_the_preset_of_a_data_set_has_no_folder_of_its_own(preset):
    made = read_preset(preset, [], 1)
    assert (made.folder, made.per_store, made.main_run) == ("", False, "main")


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        pytest.param('inherits = "demo"\n[runs.a]', "x", "the only choice is", id="by name"),
        pytest.param(INHERITING, "rival", "has a run 'rival' already", id="taken folder"),
        pytest.param("per_store = true\n[runs.a]", "x", "goes with inherits", id="per store alone"),
        pytest.param(INHERITING + "per_stor = 1", "x", "no option 'per_stor'", id="misspelt"),
        pytest.param(
            'inherits = "data set"\nper_store = 1\n[runs.a]', "x", "true or false", id="a number"
        ),
    ],
)
def test_wrong_inheriting_files_are_refused(tmp_path, preset, text, name, message):
    path = tmp_path / f"{name}.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_preset(path, [], 1, own=str(preset))


def test_inheriting_needs_a_preset_that_does_not_inherit(inheriting):
    with pytest.raises(InputError, match="name the data set"):
        read_preset(inheriting, [], 1)
    with pytest.raises(InputError, match="inherits itself"):
        read_preset(inheriting, [], 1, own="table4")


TESTS_ONLY = {"msrvtt-mc", "egomcq", "egoschema"}
"""Data sets that nothing is trained on."""
TRAINED = [d for d in known().values() if d.name not in TESTS_ONLY and not d.rendered]
ASKED = [d for d in known().values() if d.task == "open-ended"]
TASKS = {
    "open-ended": "answer",
    "multiple-choice": "choose",
    "retrieval": "pretrain",
    "captions": "pretrain",
}
ABLATIONS = [p for p in sorted(PRESETS.glob("*.toml")) if "inherits =" in p.read_text()]


@pytest.mark.parametrize("dataset", TRAINED, ids=lambda d: d.name)
def test_every_data_set_that_can_be_trained_has_a_preset(dataset):
    made = read_preset(preset_path(own_preset(dataset)), [], 1)
    assert made.main_run == MAIN_RUN
    assert made.folder == ""
    assert {run.task for run in made.runs.values()} == {TASKS[dataset.task]}
    main = made.runs[MAIN_RUN].model
    assert (main.selected, main.sampling_blocks) == (16, 3)


def test_a_data_set_that_is_only_asked_has_no_preset():
    assert [
        n for n in sorted(TESTS_ONLY) if (PRESETS / f"{own_preset(find(n))}.toml").exists()
    ] == []


@pytest.mark.parametrize("dataset", ASKED, ids=lambda d: d.name)
@pytest.mark.parametrize("path", ABLATIONS, ids=lambda p: p.stem)
def test_every_ablation_fits_every_data_set(path, dataset):
    made = read_preset(path, [], 1, own=own_preset(dataset))
    assert made.folder == path.stem
    assert len(set(made.runs.values())) == len(made.runs)


def test_every_value_of_a_data_sets_preset_says_where_it_comes_from():
    for path in PRESETS.glob("*.toml"):
        text = path.read_text().partition("[runs.")[0]
        if path in ABLATIONS or path.stem.startswith("demo"):
            continue
        values = [line for line in text.splitlines() if " = " in line and not line.startswith("#")]
        assert len(values) >= 10
        assert [line for line in values if "#" not in line] == [], path


def test_the_ablations_are_the_papers():
    made = {path.stem: read_preset(path, [], 1, own="agqa") for path in ABLATIONS}
    four = {name: run.model for name, run in made["table4"].runs.items()}
    assert [name[0] for name in four] == ["a", "b", "c", "d", "e", "v"]
    assert [(m.sampler, m.selection, m.refinement, m.fusion) for m in four.values()] == [
        ("uniform", "hard", "transformer", "la_gate"),
        ("uniform", "hard", "gated", "la_gate"),
        ("learned", "soft", "gated", "la_gate"),
        ("learned", "hard", "transformer", "la_gate"),
        ("learned", "hard", "gated", "v2t"),
        ("learned", "hard", "gated", "la_gate"),
    ]
    assert {m.refinement_blocks for m in four.values() if m.refinement == "transformer"} == {3}
    five = [(run.model.selected, run.model.sampler) for run in made["figure5"].runs.values()]
    assert five == [(k, s) for k in (1, 2, 4, 8, 16, 32) for s in ("learned", "uniform")]
    assert {run.method for run in made["baselines"].runs.values()} == set(MODELS) - {MAIN_RUN}
    assert {r.model.fusion for r in made["fusion"].runs.values()} == {"la_gate", "v2t", "t2v"}
    assert {r.visual for r in made["table3"].runs.values()} == {"real", "static", "noise"}
    assert made["frames"].per_store


@pytest.mark.parametrize(
    ("preset", "folder"),
    [
        pytest.param("demo", "runs/demo-seed2", id="own"),
        pytest.param("table4", "runs/demo-seed2/table4", id="ablation"),
        pytest.param("frames", "runs/demo-seed2/frames/clip-n50", id="of one store"),
    ],
)
@pytest.mark.parametrize("store", ["stores/clip-n50", "s3://bucket/stores/clip-n50"])
def test_runs_never_meet(tmp_path, preset, folder, store):
    experiment = Experiment(
        workspace=Workspace(home=tmp_path, dataset=find("demo"), seed=2),
        store_path=store,
        preset=preset,
        overrides=["steps=400"],
        console=Console(),
    )
    assert experiment.folder == tmp_path / folder
    assert experiment.run_dir("x") == tmp_path / folder / "x"
    assert {run.seed for run in experiment.runs.values()} == {2}
    assert {run.steps for run in experiment.runs.values()} == {400}


def experiment_of_demo(home, **options):
    values = {"store_path": "stores/clip-n50", "preset": "demo", "overrides": []} | options
    return Experiment(
        workspace=Workspace(home=home, dataset=find("demo"), seed=1), console=Console(), **values
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        pytest.param({}, "", id="own runs"),
        pytest.param({"preset": "table4"}, " --preset table4", id="ablation"),
        pytest.param(
            {"preset": "frames"}, " --store stores/clip-n50 --preset frames", id="of one store"
        ),
        pytest.param(
            {"start_from": Path("runs/my webvid")}, " --start-from 'runs/my webvid'", id="start"
        ),
        pytest.param({"run": Path("runs/webvid/main")}, " --run runs/webvid/main", id="elsewhere"),
        pytest.param({"overrides": ["lr=1e-3"]}, " --set lr=1e-3", id="changed"),
    ],
)
def test_a_report_without_numbers_says_how_to_get_those_of_its_runs(
    tmp_path, monkeypatch, options, words
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="There is no") as caught:
        report(experiment_of_demo(Path(), **options))
    assert f"run `videodistill evaluate demo{words}` first" in str(caught.value)
    elsewhere = experiment_of_demo(tmp_path, **options).command("evaluate")
    assert elsewhere == f"videodistill evaluate demo --home {tmp_path}{words}"
