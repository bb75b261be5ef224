"""Questions ready for batches: their clips as numbers, their answers as classes, their sentences."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cache_schema.errors import ClipMissing, InputError
from cache_schema.question_table import Question
from cache_schema.sentence_table import SentenceTable
from train.epoch_order import Rows
from train.features import FeatureReader
from train.vocabulary import Vocabulary


class QuestionSet:
    """Questions of one split, with what a batch needs of each.

    Attributes:
        questions: the questions, in the order of all row numbers.
        clip_ids: the clips asked about, each once, in name order.
        clip_of_question: int64, a place in `clip_ids` for every question.
        answer: int64 class of every answer, `UNKNOWN` where training never saw it.
    """

    def __init__(
        self,
        questions: Sequence[Question],
        sentences: SentenceTable,
        vocabulary: Vocabulary,
    ) -> None:
        """Refuse questions about several clips, which this model cannot answer.

        Raises:
            InputError: there are no questions, or one asks about several clips.
        """
        if not questions:
            raise InputError("there are no questions in this split; check the question table")
        several = [question.question_id for question in questions if len(question.clips) > 1]
        if several:
            raise InputError(
                f"{len(several)} questions ask about several clips (first: {several[0]!r}); "
                "training answers questions about one clip"
            )
        self.questions = list(questions)
        self.clip_ids = sorted({question.clip_id for question in questions})
        number = {clip_id: place for place, clip_id in enumerate(self.clip_ids)}
        self.clip_of_question: Rows = np.array(
            [number[question.clip_id] for question in questions], np.int64
        )
        self.answer = vocabulary.classes([question.answer for question in questions])
        self._sentences = sentences

    def __len__(self) -> int:
        return len(self.questions)

    def text(self, rows: Rows) -> NDArray[np.float32]:
        """Sentence features [len(rows), D] of some questions."""
        return self._sentences.lookup([self.questions[row].question for row in rows])

    def require_features(self, reader: FeatureReader) -> None:
        """Refuse to start when the store lacks clips that are asked about.

        Raises:
            ClipMissing: with the number of clips and the first of them.
            InputError: sentence and clip features differ in width.
        """
        cached = set(reader.clip_ids)
        missing = [clip_id for clip_id in self.clip_ids if clip_id not in cached]
        if missing:
            raise ClipMissing(
                f"{len(missing)} of {len(self.clip_ids)} clips asked about have no features in the "
                f"store (first: {missing[0]!r}); extract them, or leave their questions out"
            )
        width = self.text(np.zeros(1, np.int64)).shape[1]
        if width != reader.identity.dim:
            raise InputError(
                f"sentence features have width {width}, clip features {reader.identity.dim}; both "
                "must come from one encoder, in the joint token space"
            )
