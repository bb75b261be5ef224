"""A text tower of a few thousand weights that knows the needle's words, one token each."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cache_schema.tables.sentence_table import SentenceTable
from train.text_tower import sentence_features

PAD, START, END = 0, 1, 2
CONTEXT = 7


class WordNetwork(nn.Module):
    """Each word token is a mean of the words so far; the sentence is read from the one at the end."""

    def __init__(self, words: int, width: int, dim: int) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(words, width)
        self.mix = nn.Linear(width, width)
        self.project = nn.Linear(width, dim, bias=False)
        self.encoded: list[int] = []

    def forward(self, token_RT: Tensor) -> tuple[Tensor, Tensor]:
        self.encoded.append(len(token_RT))
        counted_T1 = torch.arange(1, token_RT.shape[1] + 1, device=token_RT.device)[:, None]
        w_RTW = torch.tanh(self.mix(self.token_embedding(token_RT).cumsum(1) / counted_T1))
        end_R = (token_RT == END).int().argmax(-1)
        return self.project(w_RTW[torch.arange(len(token_RT)), end_R]), w_RTW


class WordTower:
    """As `train.text_tower.TextTower` has it."""

    def __init__(
        self, texts: Sequence[str], dim: int, *, width: int = 12, digest: str = ""
    ) -> None:
        words = sorted({word for text in texts for word in text.split()})
        self.known = {word: number for number, word in enumerate(words, END + 1)}
        self.width = width
        self.mask_id: int | None = START
        self.weights_sha256 = digest
        torch.manual_seed(4)
        self.network: nn.Module = WordNetwork(END + 1 + len(words), width, dim)

    def tokens(self, texts: Sequence[str]) -> Tensor:
        rows = []
        for text in texts:
            words = [self.known[word] for word in text.split()][: CONTEXT - 2]
            rows.append([START, *words, END] + [PAD] * (CONTEXT - 2 - len(words)))
        return torch.tensor(rows)

    def truncated(self, texts: Sequence[str]) -> int:
        return sum(len(text.split()) > CONTEXT - 2 for text in texts)

    def is_word(self, tokens: Tensor) -> Tensor:
        return tokens > END


def with_tower(sentences: SentenceTable, config) -> tuple[SentenceTable, WordTower]:
    """A tower, and the sentence table as this tower fills it."""
    with torch.random.fork_rng(devices=[]):
        tower = WordTower(sentences.texts, sentences.dim, digest=sentences.weights_sha256)
    features = sentence_features(sentences.texts, sentences, tower, config)
    filled = SentenceTable(
        texts=sentences.texts,
        features=features,
        encoder=sentences.encoder,
        weights_sha256=sentences.weights_sha256,
        context_length=CONTEXT,
        truncated=tower.truncated(sentences.texts),
    )
    return filled, tower


def fresh(tower: WordTower):
    """A loader that reads the tower's weights again for every run."""
    return lambda: copy.deepcopy(tower)
