"""The post-norm transformer encoder layer that the baselines share with Vaswani et al. (2017).

Shapes: Q = questions, S = tokens, W = width.
"""

from torch import Tensor, nn

from train.model.attention import MultiHeadAttention


class EncoderLayer(nn.Module):
    """$u = LN(x + drop(MHA(x))), y = LN(u + drop(W_2 relu(W_1 u)))$, as torch's default layer."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(width, heads)
        self.norm_attention = nn.LayerNorm(width)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, width)
        )
        self.norm_feed_forward = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_QSW: Tensor) -> Tensor:
        """Map tokens [Q, S, W] to the same shape."""
        u_QSW = self.norm_attention(x_QSW + self.dropout(self.attention(x_QSW, None)))
        out: Tensor = self.norm_feed_forward(u_QSW + self.dropout(self.feed_forward(u_QSW)))
        return out
