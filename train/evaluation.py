"""A deterministic pass over questions, reading patches of the selected frames alone.

Shapes: Q = questions, K = selected.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from cache_schema.tables.question_table import Question, Split, tabled
from cache_schema.tables.sentence_table import SentenceTable
from train.batches import BatchLoader
from train.checkpoint import read_checkpoint
from train.config import TrainConfig
from train.epoch_order import Rows, evaluation_batches
from train.features import FeatureReader, VisualInput, shown
from train.loop import BEST, autocast
from train.methods import build_model, reads_patches, sizes_of
from train.model.video_distill import VideoDistill
from train.predictions import Prediction, write_predictions
from train.question_set import QuestionSet
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
        keep_logits: bool = False,
    ) -> None:
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
            clips=config.evaluation_questions,
            read_ahead=1,
            patches=reads_patches(config) and not self._lazy,
        )

    @torch.inference_mode()
    def predict(self, model: nn.Module) -> list[Prediction]:
        """Answer every question, in the order of the set; twice gives the same twice."""
        model.eval()
        answered: dict[int, Prediction] = {}
        for rows in self._batches:
            logit_QA, index_QK = self._answer(model, rows)
            for place, row in enumerate(rows.tolist()):
                answered[row] = self._prediction(row, logit_QA[place], index_QK[place])
        return [answered[row] for row in range(len(self._questions))]

    def accuracy(self, model: nn.Module) -> float:
        """Share of right answers."""
        predictions = self.predict(model)
        return sum(prediction.correct for prediction in predictions) / len(predictions)

    def _answer(self, model: nn.Module, rows: Rows) -> tuple[Tensor, Tensor]:
        """Logits [Q, A] and selected frames [Q, K] of one batch, on the CPU."""
        device = torch.device(self._config.device)
        batch = self._loader.read(rows).to(device)
        asked = (batch.cls, batch.text, batch.clip_of_question)
        with autocast(self._config):
            if self._lazy and isinstance(model, VideoDistill):
                index_QK = model.choose_frames(*asked, tau=self._config.tau_end).frame_index
                patches = self._reader.read_patches(
                    self._questions.clips(rows),
                    frames=index_QK.cpu().numpy(),
                )
                selected_QKPD = torch.from_numpy(patches).to(device)
                logit_QA = model.answer(selected_QKPD, batch.text, index_QK)
            else:
                logit_QA, index_QK, _ = model(
                    asked[0], batch.patch, *asked[1:], tau=self._config.tau_end
                )
        return logit_QA.float().cpu(), index_QK.cpu()

    def _prediction(self, row: int, logit_A: Tensor, index_K: Tensor) -> Prediction:
        question = self._questions.questions[row]
        frames = index_K.numpy()
        times = self._reader.frame_times(question.clip_id)[frames] if len(frames) else np.empty(0)
        if np.isnan(times).any():  # an imported store that does not know them: no hit can be judged
            times = times[:0]
        return Prediction(
            question_id=question.question_id,
            predicted=self._vocabulary.answers[int(logit_A.argmax())],
            answer=question.answer,
            frame_index=tuple(frames.tolist()),
            frame_time=tuple(times.tolist()),
            logit=tuple(logit_A.tolist()) if self._keep_logits else (),
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

    Raises:
        InputError: there is no such checkpoint, or there are no questions in the split.
        IdentityMismatch: the store holds other features than the run was trained on.
        ClipMissing: the store lacks clips that are asked about.
    """
    path = run_dir / checkpoint
    state = read_checkpoint(path)
    state.require_identity(store.identity, path)
    config = state.config
    question_set = QuestionSet(tabled(questions).in_split(split), sentences, state.vocabulary)
    question_set.require_features(store)
    model = build_model(config, sizes_of(store.identity), len(state.vocabulary))
    model.load_state_dict(state.part("model"))
    predictor = Predictor(
        config,
        question_set,
        shown(store, visual or config.visual),
        state.vocabulary,
        keep_logits=keep_logits,
    )
    predictions = predictor.predict(model.to(config.device))
    if output is not None:
        write_predictions(output, predictions)
    return predictions
