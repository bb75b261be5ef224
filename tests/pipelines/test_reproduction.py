"""Claims as measurements: arms, seeds, intervals, and a page that says which hold."""

import json
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from cache_schema import create_store
from cache_schema.errors import InputError
from extract.encoder_spec import identity_of
from pipelines import steps
from pipelines.cli import app
from pipelines.datasets.annotations import Annotations
from pipelines.datasets.demo.generate import generate
from pipelines.datasets.registry import find
from pipelines.encoders import default_store, encoder_spec
from pipelines.reproduction.claims import Claim, read_study
from pipelines.reproduction.interval import Interval
from pipelines.reproduction.page import difference, page
from pipelines.workspace import Workspace
from train.config import TrainConfig

TINY = """
[shared]
steps = 2
warmup_steps = 1
validate_every = 1
model.selected = 4
[convergence]
arms = ["learned"]
baseline = "uniform"
least_gain = 0.4
least_hit = 0.7
[arms.learned]
seeds = 2
[arms.uniform]
seeds = 2
model.sampler = "uniform"
[arms.captions]
dataset = "demo-captions"
seeds = 1
[arms.choices]
dataset = "demo-choices"
after = "captions"
seeds = 1
[[claims]]
group = "Sampling"
text = "learned beats uniform"
source = "Table 4"
figure = "core"
plus = ["learned"]
minus = ["uniform"]
[[claims]]
group = "Pretraining"
text = "choices are right more often than captions are found"
source = "nowhere"
figure = "accuracy"
plus = ["choices"]
minus = ["captions"]
"""


@pytest.mark.parametrize(
    ("values", "mean", "half", "above", "around"),
    [
        pytest.param([0.5], 0.5, None, None, None, id="one seed"),
        pytest.param([1.0, 3.0], 2.0, 12.706, False, True, id="two"),
        # R: t.test(c(5, 6, 7, 8, 9))$conf.int is 5.036757 8.963243
        pytest.param([5.0, 6.0, 7.0, 8.0, 9.0], 7.0, 1.963243, True, False, id="five"),
        pytest.param([-1.0] * 4, -1.0, 0.0, False, False, id="below"),
        pytest.param([float(n % 2) for n in range(40)], 0.5, 0.15692, True, False, id="many"),
    ],
)
def test_intervals_are_students(values, mean, half, above, around):
    interval = Interval.over(values)
    assert interval.mean == mean
    assert interval.half_width == (None if half is None else pytest.approx(half, rel=1e-3))
    claim = Claim(group="g", text="t", source="s", figure="core", plus=("a",), minus=("b",))
    assert claim.holds(interval) is above
    assert replace(claim, expected="around zero").holds(interval) is around


def test_differences_are_paired_by_seed():
    claim = Claim(group="g", text="t", source="s", figure="core", plus=("a", "b"), minus=("c", "d"))
    found = {
        "a": [{"core": 0.9}, {"core": 0.8}, {"core": 0.1}],
        "b": [{"core": 0.5}, {"core": 0.6}],
        "c": [{"core": 0.4}, {"core": 0.2}],
        "d": [{"core": 0.3}, {"core": 0.3}],
    }
    assert difference(claim, found).values == pytest.approx((0.7, 0.9))
    assert difference(claim, found | {"d": []}) is None
    assert difference(claim, found | {"d": [{"accuracy": 1.0}]}) is None


def test_shipped_claims_fit_their_arms():
    study = read_study()
    arms = [arm.name for arm in study.needed([])]
    assert sorted(arms) == sorted(study.arms)
    assert arms.index("captions") < arms.index("choices-pretrained")
    for arm in study.arms.values():
        assert arm.seeds >= 5
        assert find(arm.dataset).folder == "demo"
        options = arm.config(TrainConfig(), 3)
        assert (options.seed, bool(options.start_from)) == (3, bool(arm.after))
    assert {arm.name for arm in study.needed(["Refinement"])} == {
        "videodistill",
        "without-refinement",
    }
    with pytest.raises(InputError, match="no group of claims 'Refinment'"):
        study.needed(["Refinment"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("[arms.a]\n", "is not a file of arms and claims", id="no claims"),
        pytest.param(
            TINY.replace('minus = ["uniform"]', 'minus = ["none"]'), "no arm 'none'", id="arm"
        ),
        pytest.param(TINY.replace("source", "sauce", 1), "is not a file of arms", id="unknown key"),
        pytest.param(TINY.replace('"core"', '"cor"'), "'cor' is none of core, hard", id="figure"),
        pytest.param(
            TINY.replace("selected", "selcted", 1), "did you mean 'model.selected'", id="option"
        ),
    ],
)
def test_a_broken_file_is_refused(tmp_path, text, message):
    (tmp_path / "claims.toml").write_text(text)
    with pytest.raises(InputError, match=message):
        [arm.config(TrainConfig(), 1) for arm in read_study(tmp_path / "claims.toml").arms.values()]


def test_a_page_says_what_holds_and_what_was_not_run(tmp_path):
    (tmp_path / "claims.toml").write_text(TINY)
    study = read_study(tmp_path / "claims.toml")
    found = {
        "learned": [{"core": 0.70, "hit": 0.9}, {"core": 0.71, "hit": 0.6}],
        "uniform": [{"core": 0.20, "hit": 0.1}, {"core": 0.21, "hit": 0.1}],
    }
    text = page(study, study.claims, found, {"seed": 1})
    assert "1 of 1 claims hold" in text
    assert "| learned beats uniform | Table 4 | core | +50.0 ± 0.0 | yes |" in text
    assert (
        "main run with `steps=2`, `warmup_steps=1`, `validate_every=1`, `model.selected=4` and"
        in text
    )
    assert "| uniform | demo | `model.sampler=uniform` | 2 | 20.5 ± 6.4 | - |" in text
    assert "| nowhere | accuracy | not run | - |" in text
    assert "| learned | 1 of 2 | 70.0 / 0.90, 71.0 / 0.60 |" in text


def test_nothing_is_trained_where_an_arm_has_no_features(tmp_path, monkeypatch):
    (tmp_path / "claims.toml").write_text(TINY)
    command = ["reproduce", "--claims", str(tmp_path / "claims.toml"), "--home", str(tmp_path)]

    def refused() -> str:
        with pytest.raises(InputError) as caught:
            CliRunner().invoke(app, command, catch_exceptions=False)
        assert f"run `videodistill extract demo --home {tmp_path}` first" in str(caught.value)
        return str(caught.value)

    assert "There is no feature store" in refused()
    space = Workspace(home=tmp_path, dataset=find("demo"), seed=1)
    create_store(default_store(space), identity_of(encoder_spec(space.dataset), 100))
    assert "annotations/questions_train.jsonl" in refused()
    monkeypatch.setattr("pipelines.experiment.load", lambda *_: Annotations(clips=[], questions=[]))
    assert "The sentences of the data set have no features" in refused()
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_the_command_trains_every_arm_once_and_goes_on(tmp_path):
    space = Workspace(home=tmp_path, dataset=find("demo"), seed=1)
    generate(space.data, 1, {"train": 3, "val": 2, "test": 2}, workers=1)
    for name in ("demo", "demo-choices", "demo-captions"):
        space = Workspace(home=tmp_path, dataset=find(name), seed=1)
        clips = steps.annotations_with_videos(space)
        steps.extract(space, clips, encoder_spec(space.dataset), lambda _: None, workers=0)
    (tmp_path / "claims.toml").write_text(TINY)
    command = ["reproduce", "--claims", str(tmp_path / "claims.toml"), "--home", str(tmp_path)]
    command += ["--results", str(tmp_path / "results"), "--jobs", "1"]
    first = CliRunner().invoke(app, [*command, "--seeds", "1"], catch_exceptions=False)
    assert first.exit_code == 0
    assert "0 of 4 runs are complete" in first.output
    assert first.output.index("captions-seed1") < first.output.index("choices-seed1")
    runs = tmp_path / "runs" / "reproduction"
    before = {path: path.stat().st_mtime_ns for path in runs.glob("*-seed1/*.safetensors")}
    assert len({path.parent for path in before}) == 4

    assert CliRunner().invoke(app, [*command, "Sampling"], catch_exceptions=False).exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert (runs / "uniform-seed2" / "figures.json").is_file()
    (result,) = (tmp_path / "results").glob("*_sampling.json")
    figures = json.loads(result.read_text())["figures"]
    assert [len(seeds) for seeds in figures.values()] == [2, 2]
    assert json.loads(result.read_text())["about"]["command"] == "videodistill reproduce 'Sampling'"
    (whole,) = {*(tmp_path / "results").glob("*.json")} - {result}
    assert [len(seeds) for seeds in json.loads(whole.read_text())["figures"].values()] == [1] * 4
    assert {"core", "hard", "accuracy", "hit"} <= figures["learned"][0].keys()
