"""Appendix C: text-to-video retrieval, a matching score for every pair of a sentence and a clip.

Shapes: T = texts, C = clips, G = clips of a group, R = pairs of one pass, N = frames, D = width.
"""

import io
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cache_schema.errors import InputError
from cache_schema.storage.durable_files import replace_file
from cache_schema.tables.question_table import Question, QuestionTable, Split, tabled
from cache_schema.tables.sentence_table import SentenceTable
from train.checkpoint import read_checkpoint
from train.config import TrainConfig
from train.coverage import usable
from train.device_choice import require_device
from train.features import FeatureReader, Half, shown
from train.loop import BEST
from train.methods import reads_patches, restore_model
from train.pair_score import pair_score
from train.precision import autocast
from train.text_tower import LoadTower, reads_texts, sentence_features, tower_for

CLIPS_PER_READ: Final = 8
"""Clips whose patches are in memory at once."""

Scores = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True)
class Retrieval:
    """Every text's score for every clip."""

    scores: Scores
    """[T, C], higher is nearer."""
    caption_ids: tuple[str, ...]
    """T ids."""
    clip_ids: tuple[str, ...]
    """C ids, the gallery: each clip once, in the order of its first caption."""
    right: tuple[int, ...]
    """The column of each text's own clip."""
    pairs: int
    """Pairs that the model looked at; less than T x C with a shortlist."""
    seconds: float
    """What they took."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PairsReport:
    """How far a retrieval is."""

    done: int
    """Pairs scored; 0 before the model runs."""
    pairs: int
    """Pairs to score."""
    clips: int
    """C, the gallery."""
    seconds: float
    """Since the start."""

    @property
    def left_s(self) -> float:
        """Seconds that the rest will take, at the speed so far; not to be told before the first pass."""
        return self.seconds * (self.pairs - self.done) / self.done


def retrieve_run(
    run_dir: Path,
    store: FeatureReader,
    captions: Sequence[Question],
    sentences: SentenceTable,
    *,
    split: Split = "test",
    shortlist: int | None = None,
    checkpoint: str = BEST,
    output: Path | None = None,
    on_pairs: Callable[[PairsReport], None] | None = None,
    min_coverage: float = 1.0,
    load_tower: LoadTower | None = None,
) -> Retrieval:
    """Score the clips of a split for each of its captions with a trained run.

    v*_cls depends on the text, so that no clip has an embedding of its own: each of the T x C pairs
    wants a pass through the model.

    Args:
        run_dir: where `train_run` left a run of the task `pretrain` or `choose`.
        store: the features; must be of the identity that the run was trained on.
        captions: as `caption_questions` makes them; only `split` is read.
        sentences: sentence features of the captions.
        split: which captions.
        shortlist: look only at that many clips for each text, those whose mean CLS has the highest
            cosine with t_cls; the others come after them, by that cosine. None looks at all.
        checkpoint: file in `run_dir`.
        output: where to write the scores, as `write_scores` does; None writes nothing.
        on_pairs: called before the first pass, and after every one with what the rest will cost.
        min_coverage: least share of the captions whose clips have features; the others are left out.
        load_tower: reads the encoder's text tower, for runs that have fine-tuned it.

    Raises:
        InputError: the run answers in words, there are no captions in the split, or the run needs a
            text tower or a device that is not there.
        IdentityMismatch: the store holds other features than the run was trained on.
        ClipMissing: the store lacks clips of more captions than is accepted.
    """
    path = run_dir / checkpoint
    state = read_checkpoint(path)
    state.require_identity(store.identity, path)
    config = state.config
    if config.task == "answer":
        raise InputError(
            f"{run_dir} answers in words and has no matching head to rank clips by; retrieval wants a run "
            "that was trained on captions or on choices."
        )
    require_device(config.device)
    table = tabled(captions).in_split(split)
    if not len(table):
        raise InputError(f"There are no captions in the split {split!r} to find clips by.")
    table = usable(table, store.clip_ids, min(min_coverage, config.min_coverage), split)
    tower = tower_for(config, sentences, load_tower) if reads_texts(config) else None
    model = restore_model(state, tower)
    found = _retrieve(
        model.to(config.device).eval(),
        config,
        shown(store, config.visual),
        table,
        sentence_features(table.column("question").to_pylist(), sentences, tower, config),
        shortlist,
        on_pairs,
    )
    if output is not None:
        write_scores(output, found)
    return found


def _retrieve(
    model: nn.Module,
    config: TrainConfig,
    reader: FeatureReader,
    captions: QuestionTable,
    text_TD: NDArray[np.float32],
    shortlist: int | None,
    on_pairs: Callable[[PairsReport], None] | None,
) -> Retrieval:
    own = captions.column("clip_id").to_pylist()
    place = {clip_id: number for number, clip_id in enumerate(dict.fromkeys(own))}
    clip_ids = list(place)
    wanted_TC = np.ones((len(text_TD), len(clip_ids)), bool)
    cosine_TC = None
    if shortlist is not None:
        cosine_TC = mean_cosine(reader, clip_ids, text_TD)
        wanted_TC = highest(cosine_TC, shortlist)
    started = time.perf_counter()
    scores_TC = score_pairs(model, config, reader, clip_ids, text_TD, wanted_TC, on_pairs)
    if cosine_TC is not None:
        # Below all that the model scored, whatever a cosine's range of 2 adds.
        rest_TC = scores_TC[wanted_TC].min() - 2 + cosine_TC
        scores_TC = np.where(wanted_TC, scores_TC, rest_TC)
    return Retrieval(
        scores=scores_TC,
        caption_ids=tuple(captions.column("question_id").to_pylist()),
        clip_ids=tuple(clip_ids),
        right=tuple(place[clip_id] for clip_id in own),
        pairs=int(wanted_TC.sum()),
        seconds=time.perf_counter() - started,
    )


@torch.inference_mode()
def score_pairs(
    model: nn.Module,
    config: TrainConfig,
    reader: FeatureReader,
    clip_ids: Sequence[str],
    text_TD: NDArray[np.float32],
    wanted_TC: NDArray[np.bool_],
    on_pairs: Callable[[PairsReport], None] | None = None,
) -> Scores:
    """Return the model's scores [T, C] of the pairs wanted, 0 elsewhere.

    Clip by clip, so that each clip's features are read once, whatever the number of texts.

    Args:
        model: in evaluation mode, of a task that scores pairs.
        config: of its run.
        reader: the features.
        clip_ids: C clips.
        text_TD: sentence features.
        wanted_TC: which pairs.
        on_pairs: called before the first pass, and after every one of at most
            `config.evaluation_questions` pairs.
    """
    device = torch.device(config.device)
    all_text_TD = torch.from_numpy(text_TD).to(device)
    scores_TC = np.zeros(wanted_TC.shape, np.float32)
    started, done, pairs = time.perf_counter(), 0, int(wanted_TC.sum())

    def tell() -> None:
        if on_pairs is not None:
            seconds = time.perf_counter() - started
            on_pairs(PairsReport(done=done, pairs=pairs, clips=len(clip_ids), seconds=seconds))

    tell()
    for group, cls_GND, patch_GNPD in _groups(config, reader, clip_ids, wanted_TC):
        cls, patch = (torch.from_numpy(part).to(device) for part in (cls_GND, patch_GNPD))
        within, text = np.nonzero(wanted_TC[:, group].T)
        for start in range(0, len(text), config.evaluation_questions):
            clip_R = within[start : start + config.evaluation_questions]
            text_R = text[start : start + config.evaluation_questions]
            with autocast(config):
                answering = model(
                    cls,
                    patch,
                    all_text_TD[torch.from_numpy(text_R).to(device)],
                    torch.from_numpy(clip_R).to(device),
                    tau=config.tau_end,
                )
            scores_TC[text_R, group[clip_R]] = pair_score(config, answering).cpu().numpy()
            done += len(text_R)
            tell()
    return scores_TC


def _groups(
    config: TrainConfig,
    reader: FeatureReader,
    clip_ids: Sequence[str],
    wanted_TC: NDArray[np.bool_],
) -> Iterator[tuple[NDArray[np.int64], Half, Half]]:
    """The columns, CLS [G, N, D] and patches [G, N, P, D] of the clips that any text wants."""
    columns = np.flatnonzero(wanted_TC.any(axis=0))
    identity = reader.identity
    for start in range(0, len(columns), CLIPS_PER_READ):
        group = columns[start : start + CLIPS_PER_READ]
        names = [clip_ids[column] for column in group]
        unread: Half = np.empty((len(group), identity.frames, 0, identity.dim), np.float16)
        patch_GNPD = reader.read_patches(names) if reads_patches(config) else unread
        yield group, reader.read_cls(names), patch_GNPD


def mean_cosine(
    reader: FeatureReader, clip_ids: Sequence[str], text_TD: NDArray[np.float32]
) -> Scores:
    """Return the cosine [T, C] of each text with the mean of each clip's CLS features."""
    groups = range(0, len(clip_ids), CLIPS_PER_READ)
    mean_CD = np.concatenate(
        [
            reader.read_cls(clip_ids[start : start + CLIPS_PER_READ]).mean(1, dtype=np.float32)
            for start in groups
        ]
    )
    cosine_TC: Scores = _unit(text_TD) @ _unit(mean_CD).T
    return cosine_TC


def highest(score_TC: Scores, count: int) -> NDArray[np.bool_]:
    """Return which `count` clips of each text have the highest score; of equals the first come first.

    Raises:
        InputError: the count is below 1.
    """
    if count < 1:
        raise InputError(f"A shortlist of {count} clips ranks nothing; give at least 1.")
    order_TM = np.argsort(-score_TC, axis=1, kind="stable")[:, :count]
    chosen = np.zeros(score_TC.shape, bool)
    np.put_along_axis(chosen, order_TM, True, axis=1)
    return chosen


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def write_scores(path: Path, found: Retrieval) -> None:
    """Write `scores`, `caption_ids` and `clip_ids` durably as `.npz`."""
    content = io.BytesIO()
    np.savez(
        content,
        scores=found.scores,
        caption_ids=np.array(found.caption_ids),
        clip_ids=np.array(found.clip_ids),
    )
    replace_file(path, content.getvalue())
