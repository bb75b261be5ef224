"""Questions ready for batches: their clips as numbers, their answers as classes, their sentences."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from cache_schema.errors import ClipMissing, InputError
from cache_schema.tables.question_table import Question, tabled
from cache_schema.tables.sentence_table import SentenceTable
from train.epoch_order import Rows
from train.features import FeatureReader
from train.vocabulary import Vocabulary


class QuestionSet:
    """Questions of one split, with what a batch needs of each, kept as columns: there may be millions.

    Attributes:
        questions: the questions, in the order of all row numbers; each is made when asked for.
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
        table = tabled(questions)
        several = pc.greater(pc.list_value_length(table.column("clip_ids")), 1).to_numpy()
        if several.any():
            first = table[int(several.argmax())].question_id
            raise InputError(
                f"{several.sum()} questions ask about several clips (first: {first!r}); "
                "training answers questions about one clip"
            )
        self.questions = table
        asked = table.column("clip_id").combine_chunks().dictionary_encode()
        names = asked.dictionary.to_pylist()
        order = sorted(range(len(names)), key=names.__getitem__)
        self.clip_ids: list[str] = [names[place] for place in order]
        number = np.empty(len(names), np.int64)
        number[order] = np.arange(len(names))
        self.clip_of_question: Rows = number[asked.indices.to_numpy()]
        self.answer = vocabulary.classes(table.column("answer").to_pylist())
        self._text = table.column("question").combine_chunks()
        self._ids = table.column("question_id").combine_chunks()
        self._sentences = sentences

    def __len__(self) -> int:
        return len(self.questions)

    def text(self, rows: Rows) -> NDArray[np.float32]:
        """Sentence features [len(rows), D] of some questions."""
        return self._sentences.lookup(self._text.take(pa.array(rows)).to_pylist())

    def ids(self, rows: Rows) -> tuple[str, ...]:
        """Ids of some questions."""
        return tuple(self._ids.take(pa.array(rows)).to_pylist())

    def clips(self, rows: Rows) -> list[str]:
        """The clip that each of some questions asks about."""
        return [self.clip_ids[number] for number in self.clip_of_question[rows]]

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
