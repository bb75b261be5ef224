"""A deterministic pass over questions, reading patches of the selected frames alone.

Shapes: Q = questions, R = pairs of a text and a clip, A = answer classes, K = selected.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from cache_schema.tables.question_table import Question, Split, tabled
from cache_schema.tables.sentence_table import SentenceTable
from train.batches import Batch, BatchLoader
from train.checkpoint import read_checkpoint
from train.config import TrainConfig
from train.coverage import usable
from train.device_choice import require_device
from train.epoch_order import evaluation_batches
from train.features import FeatureReader, VisualInput, shown
from train.loop import BEST
from train.methods import reads_patches, restore_model
from train.model.video_distill import Answering, VideoDistill
from train.pair_score import pair_score
from train.precision import autocast
from train.predictions import Prediction, write_predictions
from train.question_set import QuestionSet
from train.selected_frames import SelectedFrames
from train.text_tower import LoadTower, TextTower, reads_texts, tower_for
from train.vocabulary import Vocabulary


class Predictor:
    """Answers the questions of a set, in batches whose composition never changes."""

    def __init__(
        self,
        config: TrainConfig,
        questions: QuestionSet,
        reader: FeatureReader,
        vocabulary: Vocabulary,
        *,
        tower: TextTower | None = None,
        keep_logits: bool = False,
    ) -> None:
        """Set up; `tower` tokenises for a model that has a text tower inside."""
        self._config = config
        self._questions = questions
        self._reader = reader
        self._vocabulary = vocabulary
        self._keep_logits = keep_logits
        self._batches = evaluation_batches(questions.clip_of_question, config.evaluation_questions)
        # Only a hard selection knows which K frames it needs before it has read any patch.
        self._lazy = config.method == "videodistill" and config.model.selection == "hard"
        self._loader = BatchLoader(
            questions,
            reader,
            clips=config.evaluation_questions * questions.clips_per_question,
            read_ahead=config.read_ahead,
            read_ahead_bytes=config.read_ahead_mib << 20,
            threads=config.read_threads,
            patches=reads_patches(config) and not self._lazy,
            device=torch.device(config.device),
            tokens=tower.tokens if tower is not None and reads_texts(config) else None,
            texts_as_tokens=True,
        )
        self._selected = SelectedFrames(
            reader, device=torch.device(config.device), threads=config.read_threads
        )

    @torch.inference_mode()
    def predict(self, model: nn.Module) -> list[Prediction]:
        """Answer every question, in the order of the set; twice gives the same twice."""
        model.eval()
        answered: dict[int, Prediction] = {}
        for rows, batch in self._loader.batches((rows, rows) for rows in self._batches):
            clips_R = [batch.clip_ids[place] for place in batch.clip_of_pair.tolist()]
            score, index_RK = self._score(model, batch, clips_R)
            first_pair = np.searchsorted(
                batch.question_of_pair.numpy(force=True), np.arange(len(rows) + 1)
            )
            for place, row in enumerate(rows.tolist()):
                own = slice(first_pair[place], first_pair[place + 1])
                # An open question is one pair with a score for every class.
                score_A = score[own] if self._questions.choosing else score[own][0]
                chosen = int(score_A.argmax())
                pair = own.start + (chosen if self._questions.choosing else 0)
                answered[row] = self._prediction(
                    row, score_A, chosen, clips_R[pair], index_RK[pair]
                )
        return [answered[row] for row in range(len(self._questions))]

    def accuracy(self, model: nn.Module) -> float:
        """Share of right answers."""
        predictions = self.predict(model)
        return sum(prediction.correct for prediction in predictions) / len(predictions)

    def _score(
        self, model: nn.Module, batch: Batch, clips_R: Sequence[str]
    ) -> tuple[Tensor, Tensor]:
        """Class scores [Q, A], or scores of the pairs [R], and frames [R, K], all on the CPU."""
        tau = self._config.tau_end
        with autocast(self._config):
            if self._lazy and isinstance(model, VideoDistill):
                t_cls = model.sentence(batch.text)
                choice = model.choose_frames(batch.cls, t_cls, batch.clip_of_pair, tau=tau)
                selected_RKPD = self._selected.read(clips_R, choice.frame_index.cpu().numpy())
                answering = model.answer(selected_RKPD, t_cls, choice)
            else:
                answering = Answering(
                    *model(batch.cls, batch.patch, batch.text, batch.clip_of_pair, tau=tau)
                )
        choosing = self._questions.choosing
        score = pair_score(self._config, answering) if choosing else answering.logits.float()
        return score.cpu(), answering.frame_index.cpu()

    def _prediction(
        self, row: int, score_A: Tensor, chosen: int, clip: str, index_K: Tensor
    ) -> Prediction:
        question = self._questions.questions[row]
        answers = question.choices if self._questions.choosing else self._vocabulary.answers
        frames = index_K.numpy()
        times = self._reader.frame_times(clip)[frames] if len(frames) else np.empty(0)
        if np.isnan(times).any():  # an imported store that does not know them: no hit can be judged
            times = times[:0]
        return Prediction(
            question_id=question.question_id,
            predicted=answers[chosen],
            answer=question.answer,
            frame_index=tuple(frames.tolist()),
            frame_time=tuple(times.tolist()),
            logit=tuple(score_A.tolist()) if self._keep_logits else (),
        )


def evaluate_run(
    run_dir: Path,
    store: FeatureReader,
    questions: Sequence[Question],
    sentences: SentenceTable,
    *,
    split: Split = "test",
    visual: VisualInput | None = None,
    checkpoint: str = BEST,
    output: Path | None = None,
    keep_logits: bool = False,
    min_coverage: float = 1.0,
    load_tower: LoadTower | None = None,
) -> list[Prediction]:
    """Answer the questions of a split with a trained run.

    Args:
        run_dir: where `train_run` left the run.
        store: the features; must be of the identity that the run was trained on.
        questions: the question table; only `split` is read.
        sentences: sentence features of the questions.
        split: which questions.
        visual: `static` and `noise` hide the video; None shows what the run was trained with.
        checkpoint: file in `run_dir`: the best by validation accuracy, the last, or the initial one,
            which shows what the start alone brings.
        output: where to write the predictions as Parquet; None writes nothing.
        keep_logits: put every class's score into the predictions.
        min_coverage: least share of the questions whose clips have features, where the run was not
            content with less; those without are not answered.
        load_tower: reads the encoder's text tower, for runs that have fine-tuned it.

    Raises:
        InputError: there is no such checkpoint, there are no questions in the split, or the run needs
            a text tower or a device that is not there.
        IdentityMismatch: the store holds other features than the run was trained on.
        ClipMissing: the store lacks clips of more questions than is accepted.
    """
    path = run_dir / checkpoint
    state = read_checkpoint(path)
    state.require_identity(store.identity, path)
    config = state.config
    require_device(config.device)
    classes = state.vocabulary if config.task == "answer" else None
    least = min(min_coverage, config.min_coverage)
    asked = usable(tabled(questions).in_split(split), store.clip_ids, least, split)
    question_set = QuestionSet(asked, sentences, classes)
    question_set.require_width(store)
    tower = tower_for(config, sentences, load_tower) if reads_texts(config) else None
    model = restore_model(state, tower)
    predictor = Predictor(
        config,
        question_set,
        shown(store, visual or config.visual),
        state.vocabulary,
        tower=tower,
        keep_logits=keep_logits,
    )
    predictions = predictor.predict(model.to(config.device))
    if output is not None:
        write_predictions(output, predictions)
    return predictions
