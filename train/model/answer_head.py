"""Section 4: the open-ended head, an MLP classifier on top of v*_cls.

Shapes: Q = questions, D = model width, A = answers.
"""

from torch import Tensor, nn


class AnswerHead(nn.Module):
    """`Linear(D -> 2 D)`, GELU, dropout, `Linear(-> A)`; it sees v*_cls and no text."""

    def __init__(self, dim: int, answers: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.hidden = nn.Linear(dim, 2 * dim)
        self.act = nn.GELU()
        self.dropout = nn.Dropout(dropout)
        self.answer = nn.Linear(2 * dim, answers)

    def forward(self, v_star_QD: Tensor) -> Tensor:
        """Return answer logits [Q, A]."""
        logit_QA: Tensor = self.answer(self.dropout(self.act(self.hidden(v_star_QD))))
        return logit_QA
