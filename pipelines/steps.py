"""The steps between raw videos and a report: each does what is missing and says what it skipped."""

import json
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from cache_schema.errors import InputError
from cache_schema.tables.question_table import QuestionTable
from extract.encoder_spec import EncoderSpec
from extract.job import JobOptions, plan_extraction, run_extraction
from extract.progress import ProgressDisplay, describe, progress_for
from extract.tally import Tally
from extract.tokenizer_files import tokenizer_folder
from pipelines.datasets.annotations import Annotations
from pipelines.datasets.demo.generate import generate
from pipelines.datasets.description import describe as describe_dataset
from pipelines.datasets.extraction_cost import DEFAULT_FRAMES
from pipelines.datasets.registry import require_videos
from pipelines.durations import record_duration, timed
from pipelines.encoders import store_of
from pipelines.experiment import Experiment, is_newer, predictions_file
from pipelines.joined_data import joined_features, joined_questions, joined_sentences
from pipelines.prepared import load
from pipelines.reporting import write_report
from pipelines.sentences import encode_sentences, load_sentences
from pipelines.task_questions import require_training, task_questions
from pipelines.text_tower import tower_loader
from pipelines.training import is_complete, train_all
from pipelines.workspace import Workspace
from train.coverage import coverage_by_split
from train.processes import Processes, joined_processes

_VIDEOS_PER_LINE = 50


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
    sentences = bool(annotations.questions or annotations.captions)
    if sentences:
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
    encoded = encode_sentences(spec, beside, annotations) if sentences else 0
    if encoded:
        say(f"extract: encoded {encoded} distinct sentences")
    tried = tally.ok + tally.failed + tally.left
    if tried:
        record_duration(space.runs, "extract", time.monotonic() - started)
    elif not encoded:
        say(f"extract: {location} holds all that can be had; nothing to do")
    for failure in tally.failures:
        say(f"  failed: {failure.clip_id}: {failure.reason}: {failure.detail}")
    return tally


def train(experiment: Experiment) -> None:
    """Stage two: every run that is not complete, by all processes of a torchrun.

    Raises:
        InputError: The data set has nothing to train on, or nothing of the runs' task.
    """
    tables = []
    for part in experiment.parts:
        dataset, annotations = part.workspace.dataset, part.annotations
        require_training(dataset, annotations)
        tables.append(task_questions(dataset, annotations, experiment.task))
        left_out = len(annotations.questions) - len(tables[-1])
        if experiment.task != "pretrain" and left_out:
            experiment.say(f"train: {left_out:,} questions are of another task and are left out")
    questions = joined_questions(tables)
    with joined_processes() as processes:
        experiment.console.quiet = not processes.first
        _train_runs(experiment, questions, processes)


def _train_runs(experiment: Experiment, questions: QuestionTable, processes: Processes) -> None:
    folder, runs = experiment.folder, experiment.runs
    if all(is_complete(folder / name, config) for name, config in runs.items()):
        experiment.say(f"train: {', '.join(runs)} are complete in {folder}; nothing to do")
        return
    stores = {str(part.store_path): part.store() for part in experiment.parts}
    store = joined_features(list(stores.values()))
    found = coverage_by_split(questions, store.clip_ids)
    for split, coverage in found.items():
        experiment.say(f"train: {split}: {coverage}")
    sentences = joined_sentences(
        [load_sentences(part.beside, part.annotations) for part in experiment.parts]
    )
    with timed(folder, "train") if processes.first else nullcontext():
        done = train_all(
            runs,
            store,
            questions,
            sentences,
            folder,
            experiment.console,
            processes,
            load_tower=tower_loader(sentences, experiment.encoder),
        )
    for run in done:
        outcome = (
            "was complete"
            if run.result is None
            else f"best validation accuracy {run.result.best_accuracy:.3f} at step {run.result.best_step}"
        )
        experiment.say(f"train: {run.name}: {outcome}")
        if run.result is not None and run.result.truncated_texts:
            experiment.say(
                f"train: {run.name}: {run.result.truncated_texts:,} texts are longer than the text "
                "tower's context and lost their end"
            )


def report(experiment: Experiment) -> Path:
    """Write `report.html` from the evaluated runs.

    Raises:
        InputError: The runs were not evaluated yet.
    """
    space = experiment.workspace
    page, numbers = experiment.folder / "report.html", experiment.folder / "summary.json"
    if not numbers.is_file():
        raise InputError(f"There is no {numbers}: run `{experiment.command('evaluate')}` first.")
    if is_newer(page, [numbers]):
        experiment.say(f"report: {page} is newer than the numbers; nothing to do")
        return page
    summary = json.loads(numbers.read_text())
    predictions = experiment.output_dir(experiment.main_run) / predictions_file(summary["split"])
    write_report(
        page,
        title=f"VideoDistill on {space.dataset.name}",
        about=_about(space),
        summary=summary,
        runs={name: experiment.run_dir(name) for name in experiment.runs},
        predictions=None if "retrieval" in summary else predictions,
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
