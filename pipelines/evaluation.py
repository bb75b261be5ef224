"""Answering the test questions with every run of a data set: predictions, and `summary.json`."""

import json
from collections.abc import Sequence
from pathlib import Path

from cache_schema.storage.durable_files import replace_file
from cache_schema.tables.question_table import QuestionTable, tabled
from pipelines.durations import read_durations, timed
from pipelines.experiment import PREDICTIONS, PREDICTIONS_AT_INIT, Experiment, is_newer
from pipelines.sentences import load_sentences
from pipelines.summary import Evaluated, Summary, provenance, summarise
from train.baselines.most_likely import majority_predictions
from train.checkpoint import peek_checkpoint
from train.coverage import coverage_by_split, usable
from train.evaluation import evaluate_run
from train.loop import BEST, INITIAL
from train.predictions import Prediction

MAJORITY = "majority"


def evaluate(experiment: Experiment) -> Summary:
    """Answer the test questions with every run, and write `summary.json`."""
    folder = experiment.folder
    if is_newer(folder / "summary.json", _evaluated_files(experiment)):
        experiment.say(
            f"evaluate: {folder / 'summary.json'} is newer than every run; nothing to do"
        )
        return dict(json.loads((folder / "summary.json").read_text()))
    with timed(folder, "evaluate"):
        store, annotations = experiment.store(), experiment.annotations
        sentences = load_sentences(experiment.beside, annotations)
        answers = dict[str, Sequence[Prediction]]()
        for name, config in experiment.runs.items():
            experiment.say(f"evaluate: {name}")
            answers[name] = evaluate_run(
                experiment.run_dir(name),
                store,
                annotations.questions,
                sentences,
                output=experiment.run_dir(name) / PREDICTIONS,
                min_coverage=config.min_coverage,
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
                min_coverage=experiment.runs[experiment.main_run].min_coverage,
            )
        questions = tabled(annotations.questions)
        test, training = questions.in_split("test"), questions.in_split("train")
        test = usable(test, store.clip_ids, 0.0, "test")
        answers[MAJORITY] = majority_predictions(training, test)
    summary: Summary = {"dataset": experiment.workspace.dataset.name}
    summary |= provenance(store.identity, experiment.workspace.seed, "videodistill evaluate")
    summary |= summarise(
        Evaluated(questions=test, evidence=annotations.evidence, answers=answers, at_init=at_init)
    )
    found = coverage_by_split(questions, store.clip_ids)
    summary |= {
        "coverage": {split: coverage.to_dict() for split, coverage in found.items()},
        "unknown_answers": _unknown_answers(experiment, test),
        "steps": next(iter(experiment.runs.values())).steps,
        "seconds": read_durations(folder),
    }
    replace_file(folder / "summary.json", (json.dumps(summary, indent=2) + "\n").encode())
    return summary


def _unknown_answers(experiment: Experiment, test: QuestionTable) -> dict[str, float]:
    """By run that answers in words: the share of the test answers that are none of its classes."""
    answers = test.column("answer").to_pylist()
    states = {name: peek_checkpoint(experiment.run_dir(name) / BEST) for name in experiment.runs}
    return {
        name: round(state.vocabulary.unknown_share(answers), 4)
        for name, state in states.items()
        if len(state.vocabulary)
    }


def _evaluated_files(experiment: Experiment) -> list[Path]:
    return [experiment.run_dir(name) / BEST for name in experiment.runs]
