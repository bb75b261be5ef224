"""Questions ready for batches: clips as numbers, answers as classes, and the pairs to be scored."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from cache_schema.errors import InputError
from cache_schema.tables.question_table import (
    OPEN_ENDED,
    Question,
    choice_text,
    tabled,
)
from cache_schema.tables.sentence_table import SentenceTable
from train.epoch_order import Rows
from train.features import FeatureReader
from train.vocabulary import Vocabulary


class Pairs(NamedTuple):
    """What a model is given for some questions: R pairs of a text and a clip.

    An open question is one pair. A choice is one pair for every candidate, or for every clip.
    """

    clip: Rows
    """[R], a place in `QuestionSet.clip_ids`."""
    question: Rows
    """[R], which of the questions asked for a pair belongs to; those of one lie side by side."""
    texts: list[str]
    """R texts."""


class QuestionSet:
    """Questions of one split, with what a batch needs of each, kept as columns: there may be millions.

    Attributes:
        questions: the questions, in the order of all row numbers; each is made when asked for.
        clip_ids: the clips asked about, each once, in name order.
        clip_of_question: int64, a place in `clip_ids` for every question; of several, the first.
        clips_per_question: the most clips that one question is about.
        answer: int64 class of every answer, `UNKNOWN` where training never saw it; of a choice, the
            place of the right one.
    """

    def __init__(
        self,
        questions: Sequence[Question],
        sentences: SentenceTable,
        vocabulary: Vocabulary | None,
    ) -> None:
        """Take open questions with the classes of `vocabulary`, or choices where it is None.

        Raises:
            InputError: there are no questions, one has nothing to choose from where choices are
                expected, or one is about several clips without asking which.
        """
        if not questions:
            raise InputError("there are no questions to make batches of")
        self.questions = tabled(questions)
        self.choosing = vocabulary is None
        clips = self._clip_lists()
        counts = pc.list_value_length(clips).to_numpy(zero_copy_only=False)
        flat = clips.flatten().dictionary_encode()
        names = flat.dictionary.to_pylist()
        order = sorted(range(len(names)), key=names.__getitem__)
        self.clip_ids: list[str] = [names[place] for place in order]
        number = np.empty(len(names), np.int64)
        number[order] = np.arange(len(names))
        self._clips: Rows = number[flat.indices.to_numpy()]
        self._first_clip: Rows = np.cumsum(counts) - counts
        self._asks_which_clip = counts > 1
        self.clip_of_question: Rows = self._clips[self._first_clip]
        self.clips_per_question = int(counts.max())
        self._pairs_of_question: Rows = counts.astype(np.int64)
        if vocabulary is None:
            self._pairs_of_question = self._count_choices(counts)
            self.answer = self.questions.column("answer_index").to_numpy().astype(np.int64)
        else:
            self.answer = vocabulary.classes(self.questions.column("answer").to_pylist())
        self._text = self.questions.column("question").combine_chunks()
        self._candidates = self.questions.column("candidates").combine_chunks()
        self._ids = self.questions.column("question_id").combine_chunks()
        self._sentences = sentences

    def __len__(self) -> int:
        return len(self.questions)

    def pairs(self, rows: Rows) -> Pairs:
        """The pairs of text and clip that answer some questions."""
        count = self._pairs_of_question[rows]
        question = np.repeat(np.arange(len(rows)), count)
        place = np.arange(len(question)) - np.repeat(np.cumsum(count) - count, count)
        row = rows[question]
        clip = self._clips[self._first_clip[row] + place * self._asks_which_clip[row]]
        asked = self._text.take(pa.array(rows)).to_pylist()
        texts = [asked[number] for number in question]
        if self.choosing:
            candidates = self._candidates.take(pa.array(rows)).to_pylist()
            texts = [
                choice_text(text, candidates[number][at]) if candidates[number] else text
                for text, number, at in zip(texts, question, place, strict=True)
            ]
        return Pairs(clip, question, texts)

    def text_features(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Sentence features [len(texts), D]."""
        return self._sentences.lookup(texts)

    def ids(self, rows: Rows) -> tuple[str, ...]:
        """Ids of some questions."""
        return tuple(self._ids.take(pa.array(rows)).to_pylist())

    def names(self, clips: Rows) -> list[str]:
        """The ids of some clips, given by their places in `clip_ids`."""
        return [self.clip_ids[number] for number in clips]

    def require_width(self, reader: FeatureReader) -> None:
        """Refuse sentences of another encoder than the clips'.

        Raises:
            InputError: sentence and clip features differ in width.
        """
        width = self._sentences.dim
        if width != reader.identity.dim:
            raise InputError(
                f"sentence features have width {width}, clip features {reader.identity.dim}; both "
                "must come from one encoder, in the joint token space"
            )

    def _clip_lists(self) -> pa.ListArray:
        """The clips of every question, at least one; several only where they are the choice."""
        several = self.questions.column("clip_ids").combine_chunks()
        counts = pc.list_value_length(several).to_numpy(zero_copy_only=False)
        refused = (counts > 1) & (not self.choosing or self._has_candidates())
        if refused.any():
            first = self.questions[int(refused.argmax())].question_id
            raise InputError(
                f"{refused.sum()} questions ask about several clips (first: {first!r}); a question "
                "about several clips can only ask which of them is meant"
            )
        one = pa.ListArray.from_arrays(
            pa.array(np.arange(len(self.questions) + 1, dtype=np.int32)),
            self.questions.column("clip_id").combine_chunks(),
        )
        return pc.if_else(pa.array(counts > 1), several, one)

    def _has_candidates(self) -> NDArray[np.bool_]:
        candidates = self.questions.column("candidates").combine_chunks()
        has: NDArray[np.bool_] = pc.list_value_length(candidates).to_numpy() > 0
        return has

    def _count_choices(self, clips: NDArray[np.int32]) -> Rows:
        """How many candidates or clips each question gives to choose from."""
        candidates = self.questions.column("candidates").combine_chunks()
        choices: Rows = np.maximum(
            pc.list_value_length(candidates).to_numpy(), clips, dtype=np.int64
        )
        index = self.questions.column("answer_index").to_numpy()
        open_ended = (index == OPEN_ENDED) | (choices < 2)
        if open_ended.any():
            first = self.questions[int(open_ended.argmax())].question_id
            raise InputError(
                f"{open_ended.sum()} of {len(choices)} questions give nothing to choose from (first: "
                f'{first!r}); answers in words are trained with task = "answer"'
            )
        return choices
