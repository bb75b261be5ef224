"""The answer head that every baseline ends with, where its paper has no classifier of its own.

Shapes: Q = questions, I = input width, A = answers.
"""

from torch import Tensor, nn


class Classifier(nn.Module):
    """LayerNorm, `Linear(I -> hidden)`, GELU, dropout, `Linear(-> A)`."""

    def __init__(self, width: int, hidden: int, answers: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, hidden),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, answers),
        )

    def forward(self, x_QI: Tensor) -> Tensor:
        """Return answer logits [Q, A]."""
        logit_QA: Tensor = self.layers(x_QI)
        return logit_QA
