"""One training run from features, questions and sentences to checkpoints and curves."""

import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from cache_schema.errors import InputError
from cache_schema.storage.durable_files import replace_file
from cache_schema.tables.question_table import Question, QuestionTable, tabled
from cache_schema.tables.sentence_table import SentenceTable
from train.batches import BatchLoader
from train.caption_pairs import told_apart
from train.config import TrainConfig
from train.coverage import usable
from train.device_choice import require_device
from train.epoch_order import dealt, training_order
from train.evaluation import Predictor
from train.feature_statistics import fit_standardisation
from train.features import FeatureReader, ResidentFeatures, feature_bytes, shown
from train.freed_memory import keep_freed_memory
from train.loop import BEST, Trainer
from train.methods import build_model, reads_patches, sizes_of
from train.objectives.by_task import build_objective
from train.options import ConfigError
from train.processes import ALONE, Processes
from train.progress import ProgressCallback
from train.question_record import record_of
from train.question_set import QuestionSet
from train.run_state import find_state
from train.text_tower import LoadTower, TextTower, reads_texts, survey, tower_for
from train.transfer import start_from
from train.usable_features import require_usable
from train.vocabulary import NO_ANSWERS, Vocabulary


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainResult:
    """Where a run ended."""

    run_dir: Path
    """Holds `config.json`, `curves.jsonl`, `tensorboard/`, and the checkpoints `initial`, `best` and
    `last` (`.safetensors`)."""
    steps: int
    """Optimisation steps done, those before a resume included."""
    best_accuracy: float
    """Best validation accuracy."""
    best_step: int
    """Step of the best validation."""
    unknown_answers: int
    """Training questions with features that are left out: their answer is beyond `vocabulary_limit`."""
    truncated_texts: int
    """Texts longer than the text tower's context, which lost their end: of the training texts where
    the run has the tower, otherwise of the sentence table."""


def train_run(
    config: TrainConfig,
    store: FeatureReader,
    questions: Sequence[Question],
    sentences: SentenceTable,
    run_dir: Path,
    *,
    resume: bool = True,
    on_step: ProgressCallback | None = None,
    processes: Processes = ALONE,
    load_tower: LoadTower | None = None,
) -> TrainResult:
    """Train one run, or go on with an interrupted one.

    Of a pretraining run the questions are captions, as `caption_questions` makes them.

    Answer classes and feature statistics come from the `train` split alone; the best checkpoint is
    chosen on `val`; `test` is not read.

    Args:
        config: the run.
        store: the features.
        questions: the question table, all splits.
        sentences: sentence features of the questions.
        run_dir: created if absent; refused if it holds another configuration's run.
        resume: go on from the last checkpoint if there is one; otherwise start again.
        on_step: called after every step, for a progress display.
        processes: those that train this run together, as `joined_processes` gives them. All call
            this alike; the first writes and validates.
        load_tower: reads the encoder's text tower; called where the run masks words or fine-tunes it.

    Raises:
        InputError: no questions in `train` or `val`, `run_dir` holds another run or one of other
            questions, or the features are such that this run cannot use them; the processes cannot
            share the batch; or the run needs a text tower or a device that is not there.
        IdentityMismatch: the run to go on with was trained on other features.
        ClipMissing: the store lacks clips of more questions than `min_coverage` lets go.
        TrainingDiverged: the loss is no longer a number.
        ProcessLost: another process has ended.
    """
    require_device(config.device)
    _require_parts(config, processes)
    require_usable(config, store.identity, sentences)
    table, cached = tabled(questions), store.clip_ids
    training = usable(table.in_split("train"), cached, config.min_coverage, "train")
    validation = usable(table.in_split("val"), cached, config.min_coverage, "val")
    train_set, val_set, vocabulary = _question_sets(config, training, validation, sentences)
    for question_set in (train_set, val_set):
        question_set.require_width(store)
    tower = tower_for(config, sentences, load_tower)
    known_texts = None if tower is None else survey(train_set, tower)
    _claim(run_dir, config, processes)
    # The caller's random state is left as it was found.
    with torch.random.fork_rng(devices=[]):
        trainer = _fit(
            config,
            store,
            train_set,
            val_set,
            vocabulary,
            tower=tower,
            word_id_V=None if known_texts is None else known_texts.word_ids,
            run_dir=run_dir,
            resume=resume,
            on_step=on_step,
            processes=processes,
        )
    return TrainResult(
        run_dir=run_dir,
        steps=trainer.progress.step,
        best_accuracy=trainer.progress.best_accuracy,
        best_step=trainer.progress.best_step,
        unknown_answers=len(training) - len(train_set),
        truncated_texts=sentences.truncated if known_texts is None else known_texts.truncated,
    )


def _question_sets(
    config: TrainConfig,
    training: QuestionTable,
    validation: QuestionTable,
    sentences: SentenceTable,
) -> tuple[QuestionSet, QuestionSet, Vocabulary]:
    """What a run's task makes of its questions: those to train on, to validate with, and the classes."""
    if config.task == "answer":
        vocabulary = Vocabulary.from_answers(
            training.column("answer").to_pylist(), config.vocabulary_limit
        )
        known = pc.is_in(training.column("answer"), pa.array(vocabulary.answers)).to_numpy()
        return (
            QuestionSet(training.take(np.flatnonzero(known)), sentences, vocabulary),
            QuestionSet(validation, sentences, vocabulary),
            vocabulary,
        )
    if config.task == "choose":
        choices = QuestionSet(training, sentences, None)
        return choices, QuestionSet(validation, sentences, None), NO_ANSWERS
    # A caption is a pair whose answer nobody asks for; validation asks which of two clips it is of.
    return (
        QuestionSet(training, sentences, NO_ANSWERS),
        QuestionSet(told_apart(validation, config.seed), sentences, None),
        NO_ANSWERS,
    )


def _fit(
    config: TrainConfig,
    store: FeatureReader,
    train_set: QuestionSet,
    val_set: QuestionSet,
    vocabulary: Vocabulary,
    *,
    tower: TextTower | None,
    word_id_V: Tensor | None,
    run_dir: Path,
    resume: bool,
    on_step: ProgressCallback | None,
    processes: Processes,
) -> Trainer:
    """Build the run's parts, in a random state of its own, and train."""
    keep_freed_memory()
    torch.manual_seed(config.seed)
    model = build_model(
        config, sizes_of(store.identity), len(vocabulary), tower=tower, word_id_V=word_id_V
    ).to(config.device)
    asked = record_of(train_set.questions, val_set.questions)
    trainer = Trainer(
        config=config,
        model=model,
        objective=build_objective(config, model, tower),
        vocabulary=vocabulary,
        questions=asked,
        identity=store.identity,
        store_version=store.version,
        run_dir=run_dir,
        processes=processes,
    )
    reader = _nearest(config, store, train_set, val_set)
    left = find_state(run_dir) if resume else None
    if left is not None:
        left.require_identity(store.identity, run_dir)
        left.require_questions(asked, vocabulary, run_dir)
        trainer.resume(left)
    elif config.start_from:
        start_from(model, run_dir / config.start_from / BEST, store.identity)
    elif config.model.standardise and processes.first:
        fit_standardisation(model, reader, train_set, config.statistics_clips, config.seed)
    seen = f"{run_dir.name} at step {trainer.progress.step}, store version {store.version}"
    processes.require_same("runs or stores", seen)
    processes.from_first(list(model.state_dict().values()))
    validation = Predictor(config, val_set, reader, vocabulary, tower=tower)
    loader = BatchLoader(
        train_set,
        reader,
        clips=_most_clips(config, train_set),
        read_ahead=config.read_ahead,
        read_ahead_bytes=config.read_ahead_mib << 20,
        threads=config.read_threads,
        patches=reads_patches(config),
        device=torch.device(config.device),
        tokens=None if tower is None else tower.tokens,
        texts_as_tokens=reads_texts(config),
    )
    order = training_order(
        train_set.clip_of_question,
        config.seed,
        config.clips_per_part,
        config.questions_per_clip,
        trainer.progress.position,
    )
    own = dealt(order, processes.rank, processes.count)
    with closing(loader.batches(own)) as batches:
        trainer.fit(
            batches, lambda: validation.accuracy(trainer.measured), lambda: loader.waited_s, on_step
        )
    return trainer


def _most_clips(config: TrainConfig, questions: QuestionSet) -> int:
    """The most clips that a part can have: a group's own, and of a choice between clips the others."""
    others = config.questions_per_clip * (questions.clips_per_question - 1)
    return config.clips_per_part * (1 + others)


def _nearest(
    config: TrainConfig, store: FeatureReader, train_set: QuestionSet, val_set: QuestionSet
) -> FeatureReader:
    """What the run reads: the store, a copy of its clips nearby, or a video that shows nothing."""
    if config.visual != "real":
        return shown(store, config.visual)
    clips = sorted({*train_set.clip_ids, *val_set.clip_ids})
    needed = feature_bytes(store.identity, len(clips))
    if needed <= config.device_limit_mib << 20:
        return ResidentFeatures(store, clips, torch.device(config.device))
    fits = needed <= config.ram_limit_mib << 20
    if config.cache_in_ram == "always" or (config.cache_in_ram == "auto" and fits):
        return ResidentFeatures(store, clips)
    return store


def _require_parts(config: TrainConfig, processes: Processes) -> None:
    """Refuse a batch whose parts cannot be dealt out evenly."""
    if config.accumulate % processes.count:
        raise InputError(
            f"{processes.count} processes share the parts of a batch, of which accumulate = "
            f"{config.accumulate} makes {config.accumulate}. Add --set accumulate={processes.count} or a "
            f"multiple of it; the batch of a step stays clips_per_batch = {config.clips_per_batch}."
        )


def _claim(run_dir: Path, config: TrainConfig, processes: Processes) -> None:
    """Write `config.json` into a new run folder, or check that it is this run's."""
    run_dir.mkdir(parents=True, exist_ok=True)
    path = run_dir / "config.json"
    if not path.exists():
        if processes.first:
            replace_file(path, json.dumps(config.to_dict(), indent=2).encode())
        return
    try:
        # Options that came later have their defaults in it.
        theirs = TrainConfig.from_dict(json.loads(path.read_text()))
    except (ConfigError, ValueError, TypeError) as error:
        raise InputError(f"{path} holds no configuration ({error}); remove {run_dir}") from error
    if theirs != config:
        raise InputError(
            f"{run_dir} holds a run with another configuration ({path}); choose another folder, or "
            "remove it to train anew"
        )
