"""The two-layer perceptron that every transformer block of the model ends with."""

from torch import Tensor, nn


class MLP(nn.Module):
    """`Linear(D -> ratio * D)`, exact GELU, `Linear(-> D)`, as in ViT and Frozen in Time."""

    def __init__(self, dim: int, ratio: int = 4) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, ratio * dim)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(ratio * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., D] to [..., D]."""
        out: Tensor = self.fc2(self.act(self.fc1(x)))
        return out
