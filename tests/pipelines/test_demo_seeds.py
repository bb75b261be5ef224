"""Comparing seeds: the demo's own runs are reused, and the result file says what was found."""

import io

import pytest
from rich.console import Console

from pipelines import steps
from pipelines.datasets.demo.generate import generate
from pipelines.datasets.registry import find
from pipelines.demo_seeds import measure_seeds
from pipelines.encoders import encoder_spec, store_of
from pipelines.experiment import Experiment
from pipelines.workspace import Workspace

PRESET = """
[train]
steps = 2
clips_per_batch = 2
warmup_steps = 1
validate_every = 1
[train.model]
selected = 4
sampling_blocks = 1
refinement_blocks = 1
heads = 4
[runs.videodistill]
[runs.uniform]
model.sampler = "uniform"
"""


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    space = Workspace(home=home, dataset=find("demo"), seed=1)
    generate(space.data, 1, {"train": 3, "val": 1, "test": 2}, workers=1)
    spec = encoder_spec(space.dataset)
    lines = list[str]()
    tally = steps.extract(
        space, steps.annotations_with_videos(space), spec, lines.append, workers=0
    )
    assert (tally.ok, tally.exit_code) == (6, 0), lines
    preset = home / "tiny.toml"
    preset.write_text(PRESET)
    return Experiment(
        workspace=space,
        store_path=store_of(space, spec, 100),
        preset=str(preset),
        overrides=[],
        console=Console(file=io.StringIO()),
    )


def test_two_steps_converge_for_no_seed_and_the_file_says_so(experiment, tmp_path):
    line = measure_seeds(experiment, 2, tmp_path)
    (result,) = tmp_path.iterdir()
    text = result.read_text()
    assert line.startswith("0 of 2 seeds converged")
    assert [row.split(" | ")[0] for row in text.splitlines() if row.startswith("| ")] == [
        "| run", "| uniform", "| videodistill", "| videodistill-seed2"
    ]  # fmt: skip
    assert experiment.store().identity.digest in text
    trained = (experiment.run_dir("videodistill") / "last.safetensors").stat().st_mtime_ns
    measure_seeds(experiment, 2, tmp_path)
    assert (experiment.run_dir("videodistill") / "last.safetensors").stat().st_mtime_ns == trained


def test_seeds_start_from_other_weights(experiment):
    first, second = (
        (experiment.run_dir(name) / "initial.safetensors").read_bytes()
        for name in ("videodistill", "videodistill-seed2")
    )
    assert first != second
