"""The steps between raw videos and a report: each does what is missing and says what it skipped."""

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from rich.console import Console

from cache_schema import FeatureStore, open_store
from cache_schema.errors import InputError, StoreAbsent
from cache_schema.storage.durable_files import replace_file
from cache_schema.tables.question_table import tabled
from extract.encoder_spec import EncoderSpec
from extract.job import JobOptions, plan_extraction, run_extraction
from extract.progress import ProgressDisplay, describe, progress_for
from extract.tally import Tally
from extract.tokenizer_files import tokenizer_folder
from pipelines.datasets.annotations import Annotations
from pipelines.datasets.dataset import Dataset
from pipelines.datasets.demo.generate import generate
from pipelines.datasets.description import describe as describe_dataset
from pipelines.datasets.extraction_cost import DEFAULT_FRAMES
from pipelines.datasets.registry import require_videos
from pipelines.durations import read_durations, record_duration, timed
from pipelines.encoders import store_of
from pipelines.prepared import load
from pipelines.presets import Preset, own_preset, preset_path, read_preset
from pipelines.reporting import write_report
from pipelines.sentences import encode_sentences, load_sentences
from pipelines.summary import Evaluated, Summary, provenance, summarise
from pipelines.training import is_complete, train_all
from pipelines.workspace import Workspace
from train.baselines.most_likely import majority_predictions
from train.config import TrainConfig
from train.evaluation import evaluate_run
from train.loop import BEST, INITIAL
from train.predictions import Prediction

PREDICTIONS = "predictions_test.parquet"
PREDICTIONS_AT_INIT = "predictions_test_at_init.parquet"
MAJORITY = "majority"
_VIDEOS_PER_LINE = 50
_CHOSEN = {"clip-choice": "clips", "multiple-choice": "answers"}


class Experiment:
    """One data set in its workspace, its feature store, and the preset that is trained on it."""

    def __init__(
        self,
        *,
        workspace: Workspace,
        store_path: str | os.PathLike[str],
        preset: str,
        overrides: Sequence[str],
        console: Console,
    ) -> None:
        self.workspace = workspace
        self.store_path = store_path
        self.preset = preset
        self.overrides = overrides
        self.console = console

    @cached_property
    def annotations(self) -> Annotations:
        """Clips, questions and evidence, read once from the data set's own files."""
        return load(self.workspace.dataset, self.workspace.data)

    @property
    def runs(self) -> dict[str, TrainConfig]:
        """The preset's runs."""
        return dict(self._preset.runs)

    @property
    def main_run(self) -> str:
        """The run that the report shows the frames of."""
        return self._preset.main_run

    @property
    def folder(self) -> Path:
        """Where the preset's runs, their summary and their report lie."""
        folder = self.workspace.runs / self._preset.folder
        return folder / Path(self.store_path).name if self._preset.per_store else folder

    @cached_property
    def _preset(self) -> Preset:
        return read_preset(
            preset_path(self.preset),
            list(self.overrides),
            self.workspace.seed,
            own=own_preset(self.workspace.dataset),
        )

    @property
    def beside(self) -> Path:
        """The local path that stands for the store: its sentences lie beside it."""
        return self.workspace.beside(self.store_path)

    def run_dir(self, name: str) -> Path:
        """Where one run lies."""
        return self.folder / name

    def say(self, text: str) -> None:
        """Print one line, unmarked: ids and paths may hold square brackets."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def store(self) -> FeatureStore:
        """The feature store, at its newest manifest.

        Raises:
            StoreAbsent: Nothing was extracted yet.
        """
        try:
            return open_store(self.store_path)
        except StoreAbsent as error:
            name = self.workspace.dataset.name
            raise StoreAbsent(f"{error} Run `make extract DATASET={name}` first.") from error


def make_data(space: Workspace, say: Callable[[str], None]) -> None:
    """Render what is missing of the demo.

    Raises:
        InputError: The data set is not a rendered one; says what belongs where.
    """
    if not space.dataset.rendered:
        raise InputError(
            f"{space.dataset.name!r} cannot be rendered.\n{describe_dataset(space.dataset, space.data)}"
        )

    def on_video(done: int, total: int) -> None:
        if done % _VIDEOS_PER_LINE == 0 or done == total:
            say(f"data: rendered {done} of {total} videos")

    started = time.monotonic()
    made = generate(space.data, space.seed, on_video=on_video)
    if made.rendered:
        record_duration(space.runs, "generate", time.monotonic() - started)
    else:
        say(f"data: {made.kept} videos are in {space.data}; nothing to do")


def annotations_with_videos(space: Workspace) -> Annotations:
    """The data set's annotations, if there are videos to extract.

    Raises:
        InputError: An annotation file, or every video, is missing; says what belongs where.
    """
    annotations = load(space.dataset, space.data)
    require_videos(space.dataset, annotations.clips, space.data)
    return annotations


def describe_plan(
    space: Workspace,
    annotations: Annotations,
    spec: EncoderSpec,
    frames: int,
    *,
    retry_failed: bool,
    store: str | None = None,
    options: JobOptions | None = None,
) -> str:
    """What `extract` would do and how large its store gets; writes nothing."""
    options = options or JobOptions()
    location = extraction_target(space, spec, frames, store, options)
    plan = plan_extraction(
        annotations.clips, location, spec, frames=frames, retry_failed=retry_failed, options=options
    )
    return f"{location}: {describe(plan)}"


def extraction_target(
    space: Workspace, spec: EncoderSpec, frames: int, store: str | None, options: JobOptions
) -> str | Path:
    """The store that extraction writes: the one named, or the identity's own in the workspace."""
    return store or store_of(space, spec, frames, pool=options.pool, int8=options.int8)


def extract(
    space: Workspace,
    annotations: Annotations,
    spec: EncoderSpec,
    say: Callable[[str], None],
    *,
    frames: int = DEFAULT_FRAMES,
    retry_failed: bool = False,
    workers: int | None = None,
    store: str | None = None,
    options: JobOptions | None = None,
    progress: ProgressDisplay | None = None,
) -> Tally:
    """Stage one: whatever the encoder's store lacks of the data set's clips and questions.

    The store is the one named, by path or URL; by default the identity's own in the workspace.

    Raises:
        InputError: As `run_extraction`.
    """
    if annotations.questions:
        # They are encoded last; that it cannot be done is to be known first.
        tokenizer_folder(spec, spec.architecture)
    options = options or JobOptions()
    location = extraction_target(space, spec, frames, store, options)
    beside = space.beside(location)
    beside.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    tally = run_extraction(
        annotations.clips,
        location,
        spec,
        frames=frames,
        workers=workers,
        retry_failed=retry_failed,
        progress=progress or progress_for(sys.stderr),
        options=replace(
            options, root=space.data, failures=beside.with_name(f"{beside.name}.failures.csv")
        ),
    )
    encoded = encode_sentences(spec, beside, annotations.questions) if annotations.questions else 0
    if encoded:
        say(f"extract: encoded {encoded} distinct questions")
    tried = tally.ok + tally.failed + tally.left
    if tried:
        record_duration(space.runs, "extract", time.monotonic() - started)
    elif not encoded:
        say(f"extract: {location} holds all that can be had; nothing to do")
    for failure in tally.failures:
        say(f"  failed: {failure.clip_id}: {failure.reason}: {failure.detail}")
    return tally


def train(experiment: Experiment) -> None:
    """Stage two: every run of the preset that is not complete."""
    _require_trainable(experiment.workspace.dataset, experiment.annotations)
    folder, runs = experiment.folder, experiment.runs
    if all(is_complete(folder / name, config) for name, config in runs.items()):
        experiment.say(f"train: {', '.join(runs)} are complete in {folder}; nothing to do")
        return
    with timed(folder, "train"):
        done = train_all(
            runs,
            experiment.store(),
            experiment.annotations.questions,
            load_sentences(experiment.beside, experiment.annotations.questions),
            folder,
            experiment.console,
        )
    for run in done:
        outcome = (
            "was complete"
            if run.result is None
            else f"best validation accuracy {run.result.best_accuracy:.3f} at step {run.result.best_step}"
        )
        experiment.say(f"train: {run.name}: {outcome}")


def _require_trainable(dataset: Dataset, annotations: Annotations) -> None:
    """Refuse what the trainer cannot learn yet, before anything else is asked for."""
    if not annotations.questions:
        raise InputError(
            f"{dataset.name!r} has captions and no questions. Its features can be extracted and its "
            "tables prepared; training on captions is not there yet."
        )
    if dataset.task in {"clip-choice", "multiple-choice"}:
        raise InputError(
            f"{dataset.name!r} asks to choose one of several {_CHOSEN[dataset.task]}; so far, only "
            "answers in words are trained. Its features can be extracted and its tables prepared."
        )


def evaluate(experiment: Experiment) -> Summary:
    """Answer the test questions with every run, and write `summary.json`."""
    folder = experiment.folder
    if _is_newer(folder / "summary.json", _evaluated_files(experiment)):
        experiment.say(
            f"evaluate: {folder / 'summary.json'} is newer than every run; nothing to do"
        )
        return dict(json.loads((folder / "summary.json").read_text()))
    with timed(folder, "evaluate"):
        store, annotations = experiment.store(), experiment.annotations
        sentences = load_sentences(experiment.beside, annotations.questions)
        answers = dict[str, Sequence[Prediction]]()
        for name in experiment.runs:
            experiment.say(f"evaluate: {name}")
            answers[name] = evaluate_run(
                experiment.run_dir(name),
                store,
                annotations.questions,
                sentences,
                output=experiment.run_dir(name) / PREDICTIONS,
            )
        at_init = None
        if (experiment.run_dir(experiment.main_run) / INITIAL).is_file():
            at_init = evaluate_run(
                experiment.run_dir(experiment.main_run),
                store,
                annotations.questions,
                sentences,
                checkpoint=INITIAL,
                output=experiment.run_dir(experiment.main_run) / PREDICTIONS_AT_INIT,
            )
        questions = tabled(annotations.questions)
        test, training = questions.in_split("test"), questions.in_split("train")
        answers[MAJORITY] = majority_predictions(training, test)
    summary: Summary = {"dataset": experiment.workspace.dataset.name}
    summary |= provenance(store.identity, experiment.workspace.seed, "videodistill evaluate")
    summary |= summarise(
        Evaluated(questions=test, evidence=annotations.evidence, answers=answers, at_init=at_init)
    )
    summary |= {
        "steps": next(iter(experiment.runs.values())).steps,
        "seconds": read_durations(folder),
    }
    replace_file(folder / "summary.json", (json.dumps(summary, indent=2) + "\n").encode())
    return summary


def report(experiment: Experiment) -> Path:
    """Write `report.html` from the evaluated runs.

    Raises:
        InputError: The runs were not evaluated yet.
    """
    space = experiment.workspace
    page, numbers = experiment.folder / "report.html", experiment.folder / "summary.json"
    if not numbers.is_file():
        name = space.dataset.name
        raise InputError(f"There is no {numbers}: run `make evaluate DATASET={name}` first.")
    if _is_newer(page, [numbers]):
        experiment.say(f"report: {page} is newer than the numbers; nothing to do")
        return page
    write_report(
        page,
        title=f"VideoDistill on {space.dataset.name}",
        about=_about(space),
        summary=json.loads(numbers.read_text()),
        runs={name: experiment.run_dir(name) for name in experiment.runs},
        predictions=experiment.run_dir(experiment.main_run) / PREDICTIONS,
        annotations=experiment.annotations,
        store=experiment.store(),
    )
    experiment.say(f"report: {page}")
    return page


def _about(space: Workspace) -> tuple[str, ...]:
    if not space.dataset.rendered:
        return (space.dataset.about,)
    return (
        (
            "Every video is rendered: 40 to 90 seconds of drifting grey clutter, and five events of 3 to 5 "
            "percent of the frames each, in which a coloured shape does something, perhaps beside another. "
            "Every question is about one or two of these events, so most frames are of no use to it."
        ),
        (
            "Core questions ask for a colour, a shape, or whether something appears. Hard ones, after AGQA's "
            "types, ask about combinations, relations, actions, order and duration."
        ),
    )


def _evaluated_files(experiment: Experiment) -> list[Path]:
    return [experiment.run_dir(name) / BEST for name in experiment.runs]


def _is_newer(target: Path, sources: list[Path]) -> bool:
    """As make has it: the target exists and no source is missing or younger."""
    if not target.is_file() or not all(source.is_file() for source in sources):
        return False
    return all(target.stat().st_mtime_ns >= source.stat().st_mtime_ns for source in sources)
