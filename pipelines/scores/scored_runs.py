"""Our trained and evaluated runs, each with its kind and its score, to stand beside published numbers."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from cache_schema.errors import InputError
from pipelines.datasets.annotations import Annotations
from pipelines.datasets.dataset import Dataset
from pipelines.datasets.registry import known
from pipelines.experiment import PREDICTIONS
from pipelines.prepared import load
from pipelines.scores.score_report import ScoreReport, score
from pipelines.workspace import Workspace
from train.config import TrainConfig

RUNS: Final = "runs"
_SEED: Final = re.compile(r"-seed(\d+)")


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoredRun:
    """One run."""

    name: str
    """Its path below `runs/<data set>`."""
    dataset: str
    kind: str
    """What it is a run of; see `run_kind`."""
    report: ScoreReport


def run_kind(config: TrainConfig) -> str:
    """What a run is of, as the tables name it: its method and what is exchanged in it.

    `videodistill` is the whole model, whatever its sizes; `uniform+transformer` has evenly spaced frames
    and no vision refinement; `hcrn/static` is HCRN without the video.
    """
    model, kind = config.model, str(config.method)
    if config.method == "videodistill":
        exchanged = {
            model.sampler: model.sampler != "learned",
            "soft": model.selection == "soft",
            "transformer": model.refinement == "transformer",
            "cross-attention": model.fusion != "la_gate",
        }
        kind = "+".join(name for name, there in exchanged.items() if there) or kind
    return kind if config.visual == "real" else f"{kind}/{config.visual}"


def score_runs(
    folders: Sequence[Path], datasets: Sequence[str], home: Path, data_root: Path | None
) -> list[ScoredRun]:
    """Score runs on the test questions of their data sets.

    Args:
        folders: `runs/<data set>/<run>` with the run's configuration and test predictions.
        datasets: the data sets that are wanted.
        home: the folder that holds data/.
        data_root: the folder of the annotations, where it is not data/<name>; of one data set.

    Raises:
        InputError: a folder is no evaluated run, or is of another data set.
    """
    found = [(folder, *dataset_of(folder)) for folder in folders]
    for folder, dataset, _, _ in found:
        if dataset.name not in datasets:
            raise InputError(
                f"{folder} is a run of {dataset.name!r}; wanted are runs of {' or '.join(datasets)}."
            )
    if data_root is not None and len({dataset.name for _, dataset, _, _ in found}) > 1:
        raise InputError("--data-root is one data set's folder, and the runs are of several.")

    @cache
    def annotations(dataset_name: str, seed: int) -> Annotations:
        dataset = known()[dataset_name]
        space = Workspace(home=home, dataset=dataset, seed=seed, data_root=data_root)
        return load(dataset, space.data)

    return [
        _scored(folder, dataset, seed, name, annotations) for folder, dataset, seed, name in found
    ]


def _scored(
    folder: Path,
    dataset: Dataset,
    seed: int,
    name: str,
    annotations: Callable[[str, int], Annotations],
) -> ScoredRun:
    config, predictions = folder / "config.json", folder / PREDICTIONS
    if not config.is_file():
        raise InputError(f"{folder} is no run: there is no {config.name}.")
    if not predictions.is_file():
        raise InputError(
            f"{folder} has no {predictions.name}: run `videodistill evaluate {dataset.name}` with the "
            "run's preset first."
        )
    try:
        kind = run_kind(TrainConfig.from_dict(json.loads(config.read_text(encoding="utf-8"))))
    except ValueError as error:
        raise InputError(f"{config} is not a run's configuration: {error}") from error
    report = score(dataset, annotations(dataset.name, seed), predictions, split="test")
    return ScoredRun(name=name, dataset=dataset.name, kind=kind, report=report)


def dataset_of(folder: Path) -> tuple[Dataset, int, str]:
    """Data set, seed and name that a run's path tells.

    Raises:
        InputError: it does not lie in `runs/<data set>`.
    """
    parts = folder.resolve().parts
    places = [place for place, part in enumerate(parts[:-2]) if part == RUNS]
    if not places:
        raise InputError(f"{folder} does not lie in {RUNS}/<data set>/, where runs do.")
    named, datasets = parts[places[-1] + 1], known()
    seed = _SEED.search(named)
    name = named.removesuffix(seed.group()) if seed else named
    if name not in datasets:
        raise InputError(f"{folder} lies in {RUNS}/{named}, and there is no data set {name!r}.")
    inside = "/".join(parts[places[-1] + 2 :])
    run = f"{inside} (seed {seed.group(1)})" if seed else inside
    return datasets[name], int(seed.group(1)) if seed else 1, run
