"""W&B by a stand-in for its module: the package is no dependency of the tests."""

import logging
import sys
from types import SimpleNamespace

import pytest

from train.curves import Curves, read_curves


class StandIn:
    """Keeps what W&B is told."""

    def __init__(self) -> None:
        self.runs = []
        self.refusal = None
        self.errors = SimpleNamespace(Error=type("Error", (Exception,), {}))

    def init(self, **options):
        if self.refusal:
            raise self.errors.Error(self.refusal)
        run = StandInRun(options)
        self.runs.append(run)
        return run


class StandInRun:
    def __init__(self, options):
        self.options, self.metrics, self.logged, self.ended = options, [], [], None

    def define_metric(self, name, *, step_metric):
        self.metrics.append((name, step_metric))

    def log(self, data):
        self.logged.append(data)

    def finish(self, exit_code):
        self.ended = exit_code


@pytest.fixture
def wandb(monkeypatch):
    stand_in = StandIn()
    monkeypatch.setitem(sys.modules, "wandb", stand_in)
    monkeypatch.setenv("WANDB_PROJECT", "cache")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    return stand_in


def _two_events(run_dir, resumed_step=0):
    with Curves(run_dir, resumed_step) as curves:
        curves.log("train", resumed_step + 1, loss=0.5, lr=0.1)
        curves.log("validation", resumed_step + 1, accuracy=0.25)


def test_the_same_numbers_go_there(wandb, tmp_path):
    (tmp_path / "config.json").write_text('{"steps": 20}')
    _two_events(tmp_path)
    (run,) = wandb.runs
    assert run.logged == [
        {"train/loss": 0.5, "train/lr": 0.1, "step": 1},
        {"validation/accuracy": 0.25, "step": 1},
    ]
    assert run.metrics == [("*", "step")]
    assert run.ended == 0
    assert run.options["project"] == "cache"
    assert run.options["config"] == {"steps": 20}
    assert run.options["dir"] == str(tmp_path)
    assert len(read_curves(tmp_path)) == 2


@pytest.mark.parametrize(("said", "mode"), [(None, "offline"), ("online", "online")])
def test_nothing_leaves_the_machine_unless_somebody_says_so(
    wandb, tmp_path, monkeypatch, said, mode
):
    if said:
        monkeypatch.setenv("WANDB_MODE", said)
    _two_events(tmp_path)
    assert wandb.runs[0].options["mode"] == mode


def test_being_installed_is_not_being_asked_for(wandb, tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_PROJECT")
    _two_events(tmp_path)
    assert wandb.runs == []
    assert [path.name for path in tmp_path.iterdir() if "wandb" in path.name] == []


def test_a_run_that_goes_on_is_the_same_run_there(wandb, tmp_path):
    _two_events(tmp_path)
    _two_events(tmp_path, resumed_step=1)
    (tmp_path / "other").mkdir()
    _two_events(tmp_path / "other")
    first, again, other = (run.options["id"] for run in wandb.runs)
    assert first == again != other
    assert {run.options["resume"] for run in wandb.runs} == {"allow"}


def test_a_failure_is_told(wandb, tmp_path):
    with pytest.raises(ZeroDivisionError), Curves(tmp_path, 0):
        raise ZeroDivisionError
    assert wandb.runs[0].ended == 1


@pytest.mark.parametrize("trouble", ["absent", "refused"])
def test_what_cannot_be_had_is_a_warning_and_the_curves_are_kept(
    wandb, tmp_path, monkeypatch, caplog, trouble
):
    if trouble == "absent":
        monkeypatch.setitem(sys.modules, "wandb", None)
    wandb.refusal = "no API key"
    with caplog.at_level(logging.WARNING):
        _two_events(tmp_path)
    assert ("not installed" if trouble == "absent" else "no API key") in caplog.text
    assert len(read_curves(tmp_path)) == 2
