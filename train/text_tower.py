"""What training needs of a text tower. The caller gives it: only extraction knows encoders.

Shapes: R = texts, T = context length, D = feature width, W = the tower's own width, V = words.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cache_schema.errors import InputError
from cache_schema.tables.sentence_table import SentenceTable
from train.config import TrainConfig
from train.precision import autocast
from train.question_set import QuestionSet

_QUESTIONS_AT_ONCE = 4096
_TEXTS_AT_ONCE = 256


class TextTower(Protocol):
    """A text encoder and its tokenizer."""

    @property
    def network(self) -> nn.Module:
        """Tokens int64 [R, T] -> sentence features [R, D] and word tokens [R, T, W]."""

    @property
    def width(self) -> int:
        """W."""

    @property
    def weights_sha256(self) -> str:
        """Of the encoder's weights; a sentence table that it made says the same."""

    @property
    def mask_id(self) -> int | None:
        """A token that stands for a hidden word and is in no sentence; None where there is none."""

    def tokens(self, texts: Sequence[str]) -> Tensor:
        """Tokens int64 [R, T], cut to the tower's context."""

    def truncated(self, texts: Sequence[str]) -> int:
        """How many of the texts are longer than the context, and lose their end."""

    def is_word(self, tokens: Tensor) -> Tensor:
        """Where a token is part of the sentence, bool [R, T]."""


LoadTower = Callable[[], TextTower]
"""Reads a tower from its files; fine-tuning changes what it gives, so that every run calls it anew."""


class Survey(NamedTuple):
    """What training texts are made of, once tokenised."""

    word_ids: Tensor
    """int64 [V], the tokens that are a word of any text, in ascending order."""
    truncated: int
    """How many texts lost their end; one that several questions have counts for each."""


def reads_texts(config: TrainConfig) -> bool:
    """Whether a run's model is given texts instead of their cached features."""
    return config.model.text == "finetune"


def masks_words(config: TrainConfig) -> bool:
    """Whether a run has the loss of Eq. 9."""
    return config.task == "pretrain" and config.pretraining.masked_words


def tower_for(
    config: TrainConfig, sentences: SentenceTable, load: LoadTower | None
) -> TextTower | None:
    """Load the text tower where a run needs one.

    Raises:
        InputError: it needs one and there is none, or it has other weights than the sentence
            features.
    """
    masks = masks_words(config)
    if not (masks or reads_texts(config)):
        return None
    option = "pretraining.masked_words = true" if masks else 'model.text = "finetune"'
    instead = "pretraining.masked_words=false" if masks else "model.text=linear"
    if load is None:
        raise InputError(
            f"This run has {option}, which needs the text tower of the encoder that made the features. "
            f"Name its weights, or go without: --set {instead}."
        )
    # Models are built with random weights before they get their own; nobody's draws change by it.
    with torch.random.fork_rng(devices=[]):
        tower = load()
    if tower.weights_sha256 != sentences.weights_sha256:
        raise InputError(
            f"The text tower has weights {tower.weights_sha256[:12]}, the sentence features were made "
            f"by {sentences.encoder} with weights {sentences.weights_sha256[:12]}; give the run the "
            "encoder of its store."
        )
    return tower


def sentence_features(
    texts: Sequence[str], sentences: SentenceTable, tower: TextTower | None, config: TrainConfig
) -> NDArray[np.float32]:
    """Features [R, D] of R texts: those of the table, or what a fine-tuned tower makes of them now."""
    if tower is None:
        return sentences.lookup(texts)
    device = torch.device(config.device)
    made = []
    with torch.inference_mode(), autocast(config):
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            token_RT = tower.tokens(texts[start : start + _TEXTS_AT_ONCE])
            made.append(tower.network.to(device)(token_RT.to(device))[0].float().cpu().numpy())
    return np.concatenate(made)


def survey(questions: QuestionSet, tower: TextTower) -> Survey:
    """Tokenise all texts of a set once."""
    known, truncated = torch.empty(0, dtype=torch.int64), 0
    for start in range(0, len(questions), _QUESTIONS_AT_ONCE):
        rows = np.arange(start, min(start + _QUESTIONS_AT_ONCE, len(questions)))
        texts = questions.pairs(rows).texts
        token_RT = tower.tokens(texts)
        words = token_RT[tower.is_word(token_RT)]
        known = torch.cat([known, words]).unique()  # type: ignore[no-untyped-call]
        truncated += tower.truncated(texts)
    return Survey(known, truncated)
