"""Testing every run of a data set: answers or retrieval scores, and `summary.json`."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from cache_schema import FeatureIdentity, FeatureStore, SentenceTable
from cache_schema.errors import InputError
from cache_schema.storage.durable_files import replace_file
from cache_schema.tables.question_table import QuestionTable, Split
from pipelines.durations import read_durations, timed
from pipelines.experiment import Experiment, is_newer, predictions_file
from pipelines.presets import dotted
from pipelines.scores.answered import reported_split
from pipelines.scores.reruns import RERUNS
from pipelines.scores.retrieval import rank_numbers, ranks
from pipelines.sentences import load_sentences
from pipelines.summary import (
    MAJORITY,
    MAJORITY_OF_ALL,
    Evaluated,
    Summary,
    provenance,
    summarise,
)
from pipelines.task_questions import task_questions
from pipelines.text_tower import tower_loader
from train.baselines.most_likely import majority_predictions
from train.checkpoint import peek_checkpoint
from train.coverage import coverage_by_split, usable
from train.evaluation import evaluate_run
from train.loop import BEST, INITIAL
from train.predictions import Prediction
from train.retrieval import PairsReport, retrieve_run

_ACCEPTED: Final = {"min_coverage", "allow_unknown_identity"}
"""Options that say what was accepted, which may be more or less when a run is asked."""
_LINES: Final = 10
"""How often the progress of a retrieval is told."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Asked:
    """What every run is given."""

    questions: QuestionTable
    """All splits; of a retrieval, the captions as questions."""
    split: Split
    """The one that is asked."""
    store: FeatureStore
    sentences: SentenceTable

    @property
    def covered(self) -> QuestionTable:
        """The questions of the split whose clips have features."""
        return usable(self.questions.in_split(self.split), self.store.clip_ids, 0.0, self.split)


def evaluate(experiment: Experiment, *, shortlist: int | None = None) -> Summary:
    """Ask every run the test questions, or to find the test clips by captions; write `summary.json`.

    Where a data set has no test questions, validation takes their place.

    Args:
        experiment: the runs.
        shortlist: of a retrieval, the clips that the model looks at for each caption; None is all.

    Raises:
        InputError: there is nothing of the runs' task to ask, a shortlist of what is no retrieval, or a
            run that is not trained, or was trained with other options.
        IdentityMismatch: a run was trained on other features than the store's.
    """
    folder, task = experiment.folder, experiment.task
    if shortlist is not None and task != "pretrain":
        raise InputError(
            "--shortlist is for finding clips by captions; these runs answer questions."
        )
    store = experiment.store()
    _require_trained(experiment, store.identity)
    asked_with = {
        "store_version": store.version,
        "min_coverage": {name: config.min_coverage for name, config in experiment.runs.items()},
        "shortlist": shortlist,
    }
    if is_newer(folder / "summary.json", [experiment.run_dir(n) / BEST for n in experiment.runs]):
        summary: Summary = json.loads((folder / "summary.json").read_text())
        if summary.get("asked_with") == asked_with:
            experiment.say(
                f"evaluate: {folder / 'summary.json'} is newer than every run; nothing to do"
            )
            return summary
    annotations = experiment.annotations
    questions = task_questions(experiment.workspace.dataset, annotations, task)
    folder.mkdir(parents=True, exist_ok=True)
    with timed(folder, "evaluate"):
        asked = _Asked(
            questions=questions,
            split=reported_split(questions),
            store=store,
            sentences=load_sentences(experiment.beside, annotations),
        )
        if task == "pretrain":
            found = _retrieve(experiment, asked, shortlist)
        else:
            found = _answer(experiment, asked)
    summary = {"dataset": experiment.workspace.dataset.name, "split": asked.split}
    summary |= provenance(asked.store.identity, experiment.workspace.seed, "videodistill evaluate")
    if experiment.run is not None:
        summary["run"] = str(experiment.run)
    coverage = coverage_by_split(questions, asked.store.clip_ids)
    summary |= found | {
        "asked_with": asked_with,
        "coverage": {split: counts.to_dict() for split, counts in coverage.items()},
        "clip_cache_reruns": [n for n, run in experiment.runs.items() if run.method in RERUNS],
        "unknown_answers": _unknown_answers(experiment, asked.covered),
        "steps": next(iter(experiment.runs.values())).steps,
        "seconds": read_durations(folder),
    }
    replace_file(folder / "summary.json", (json.dumps(summary, indent=2) + "\n").encode())
    return summary


def _require_trained(experiment: Experiment, identity: FeatureIdentity) -> None:
    """Refuse to ask runs that are not those which the options name."""
    for name, config in experiment.runs.items():
        path = experiment.run_dir(name) / BEST
        state = peek_checkpoint(path)
        state.require_identity(identity, path)
        trained, wanted = (dotted(options.to_dict()) for options in (state.config, config))
        differing = [
            f"{key}={trained[key]}, not {value}"
            for key, value in wanted.items()
            if key not in _ACCEPTED and trained[key] != value
        ]
        if differing:
            raise InputError(
                f"{path.parent} was trained with {'; '.join(differing)}. A run is asked as it was trained: "
                "give the --preset and --set of its training, or train another run with these."
            )


def _answer(experiment: Experiment, asked: _Asked) -> Summary:
    """Accuracies; predictions lie in each run's folder."""
    answers = dict[str, Sequence[Prediction]]()
    for name in experiment.runs:
        experiment.say(f"evaluate: {name}")
        answers[name] = _predictions(experiment, asked, name, BEST)
    at_init = None
    if (experiment.run_dir(experiment.main_run) / INITIAL).is_file():
        at_init = _predictions(experiment, asked, experiment.main_run, INITIAL)
    training = asked.questions.in_split("train")
    if experiment.task == "answer" and len(training):
        answers[MAJORITY] = majority_predictions(training, asked.covered)
        answers[MAJORITY_OF_ALL] = majority_predictions(training, asked.covered, over="all")
    return summarise(
        Evaluated(
            questions=asked.covered,
            evidence=experiment.annotations.evidence,
            answers=answers,
            at_init=at_init,
        )
    )


def _predictions(
    experiment: Experiment, asked: _Asked, name: str, checkpoint: str
) -> list[Prediction]:
    file = Path(predictions_file(asked.split))
    if checkpoint == INITIAL:
        file = file.with_stem(f"{file.stem}_at_init")
    output = experiment.output_dir(name) / file
    output.parent.mkdir(parents=True, exist_ok=True)
    return evaluate_run(
        experiment.run_dir(name),
        asked.store,
        asked.questions,
        asked.sentences,
        split=asked.split,
        checkpoint=checkpoint,
        output=output,
        min_coverage=experiment.runs[name].min_coverage,
        load_tower=tower_loader(asked.sentences, experiment.encoder),
    )


def _retrieve(experiment: Experiment, asked: _Asked, shortlist: int | None) -> Summary:
    """R@k and ranks; the scores of all pairs lie in each run's folder."""
    runs, queries, clips = Summary(), 0, 0
    for name, config in experiment.runs.items():
        output = experiment.output_dir(name) / f"retrieval_{asked.split}.npz"
        output.parent.mkdir(parents=True, exist_ok=True)
        found = retrieve_run(
            experiment.run_dir(name),
            asked.store,
            asked.questions,
            asked.sentences,
            split=asked.split,
            shortlist=shortlist,
            output=output,
            on_pairs=_told(f"evaluate: {name}", experiment.say),
            min_coverage=config.min_coverage,
            load_tower=tower_loader(asked.sentences, experiment.encoder),
        )
        queries, clips = found.scores.shape
        runs[name] = rank_numbers(ranks(found.scores, np.array(found.right))) | {
            "pairs": found.pairs,
            "seconds": round(found.seconds, 1),
        }
        experiment.say(f"evaluate: {name}: scores of {queries:,} x {clips:,} in {output}")
    return {"retrieval": {"queries": queries, "clips": clips, "shortlist": shortlist, "runs": runs}}


def _told(name: str, say: Callable[[str], None]) -> Callable[[PairsReport], None]:
    """Tell what is to be done before the first pass, its time after it, then how far it is, a few times."""
    shown = -1

    def tell(report: PairsReport) -> None:
        nonlocal shown
        if not report.done:
            say(
                f"{name}: {report.pairs:,} pairs of a caption and one of {report.clips:,} clips, a pass of "
                "the model each"
            )
        elif (part := report.done * _LINES // report.pairs) > shown:
            shown = part
            minutes, seconds = divmod(round(report.left_s), 60)
            say(f"{name}: {report.done:,} pairs done, about {minutes}:{seconds:02d} min left")

    return tell


def _unknown_answers(experiment: Experiment, test: QuestionTable) -> dict[str, float]:
    """By run that answers in words: the share of the test answers that are none of its classes."""
    answers = test.column("answer").to_pylist()
    states = {name: peek_checkpoint(experiment.run_dir(name) / BEST) for name in experiment.runs}
    return {
        name: round(state.vocabulary.unknown_share(answers), 4)
        for name, state in states.items()
        if len(state.vocabulary)
    }
