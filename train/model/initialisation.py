"""How the model starts: the paper is silent, and on small data the start decides the outcome.

Shapes: D = model width, K = selected.
"""

from typing import TYPE_CHECKING, cast

import torch
from torch import nn

from train.config import ModelConfig
from train.model.cross_attention import CrossAttention
from train.model.frame_sampling_block import FrameSamplingBlock
from train.model.la_gate import LAGate
from train.model.sparse_sampling import SparseSampling
from train.model.timesformer_block import TimeSformerBlock

if TYPE_CHECKING:
    from train.model.video_distill import VideoDistill

_EMBEDDING_STD = 0.02
_QUIET = 0.1  # how much of w_v's random part the clip prior keeps
_PRIOR_STRENGTH = 3.0  # length of the prior's bias beside a normalised frame, of length sqrt(D)
_SELF_FOCUS = 2.0  # how much sharper than usual frames first attend to their like


def initialise(model: "VideoDistill", config: ModelConfig) -> None:
    """Set every weight: Xavier for linears, small normal for embeddings, then the named options.

    - `gate_init="identity"`: $w_q = w_k = I$ in every LA-Gate (and its rivals), so that the first
      similarities are those the frozen encoder was trained for.
    - the text linear, where there is one, starts as the identity map.
    - `sampler_init="clip_prior"`: see `apply_clip_prior`. It works through the gate's cosine, so a
      sampler built on cross-attention starts without it.
    - TimeSformer's extra linear map starts at zero, as in the original.
    """
    for name, parameter in model.named_parameters():
        if name.endswith("_embedding"):
            nn.init.trunc_normal_(parameter, std=_EMBEDDING_STD)
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
    if isinstance(model.text, nn.Linear):
        nn.init.eye_(model.text.weight)
    if config.gate_init == "identity":
        for module in model.modules():
            if isinstance(module, LAGate | CrossAttention):
                nn.init.eye_(module.w_q.weight)
                nn.init.eye_(module.w_k.weight)
    for module in model.modules():
        if isinstance(module, TimeSformerBlock):
            nn.init.zeros_(module.time_fc.weight)
    has_prior = config.sampler_init == "clip_prior" and config.fusion == "la_gate"
    if isinstance(model.sampler, SparseSampling) and has_prior:
        apply_clip_prior(model.sampler, config.sampler_gain)


@torch.no_grad()
def apply_clip_prior(sampler: SparseSampling, gain: float) -> None:
    r"""Start the sampler as a ranking of frames by CLIP similarity to the question.

    With random $w_v$, $w_o$, $W_s$ the sign of "similar to the question -> larger logit" is a
    coin toss, and a sampler that starts on the wrong side may never recover. Here a random unit
    direction $e$ carries the similarity: the first gate has $w_o = I$ and
    $w_v(v) = \epsilon\, w_v v + \beta e$, so that it adds about $\beta\, dist\, e$ to a frame, and the
    rows of $W_s$ are $(gain / \beta)\, e$ plus small noise: the first logits rise by about `gain`
    per unit of cosine(question, frame). The frame hit of the untrained model is therefore a prior
    that the encoder brings, and reports should state it beside the trained one.

    With `skip="frozen"` the gate reaches the stream only through the inter-frame attention. That
    one starts as a copy of each frame ($W_v = W_o = I$, and $W_q = W_k = I$ sharp enough for a
    frame to attend to itself and to those that look like it).
    """
    block = cast("FrameSamplingBlock", sampler.blocks[0])
    dim = sampler.temporal_embedding.shape[1]
    strength = _PRIOR_STRENGTH * dim**0.5
    direction_D = torch.sign(torch.randn(dim)) * dim**-0.5
    gate = cast("LAGate", block.gate)
    gate.w_v.weight.mul_(_QUIET)
    gate.w_v.bias.copy_(direction_D * strength)
    nn.init.eye_(gate.w_o.weight)
    if block.skip == "frozen":
        eye = torch.eye(dim)
        block.attention.qkv.weight.copy_(torch.cat([eye * _SELF_FOCUS, eye, eye]))
        nn.init.eye_(block.attention.proj.weight)
    rows_KD = (
        direction_D * (gain / strength) + torch.randn_like(sampler.w_s.weight) * _EMBEDDING_STD
    )
    sampler.w_s.weight.copy_(rows_KD)
