"""Trains the demo's small CLIP on renders and sentences whose seeds the data set never uses."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torchvision.transforms.v2 import functional as TF

from pipelines.datasets.demo.captions import Caption, describe
from pipelines.datasets.demo.drawing import Backdrop, Performance
from pipelines.datasets.demo.encoder_files import CARD_PATH, CONFIG_PATH, WEIGHTS_PATH
from pipelines.datasets.demo.scene import COLORS, SHAPES, Event, sample_scene

MOMENTS_PER_EVENT = 2
PROMPTS = {"shape": "a {}", "color": "a {} object"}


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderTraining:
    """How the demo encoder is trained; the shipped weights come from the defaults."""

    seed: int = 2024
    scenes: int = 8000
    """Scenes rendered for training: eleven pictures each."""
    held_out_scenes: int = 300
    steps: int = 2000
    batch: int = 256
    peak_lr: float = 1e-3
    warm_up: int = 150
    weight_decay: float = 0.05

    def __post_init__(self) -> None:
        if not 2 <= self.warm_up < self.steps:
            raise ValueError(f"warm_up is {self.warm_up}, must be in [2, steps={self.steps})")


@dataclass(frozen=True, slots=True)
class Renders:
    """Pictures and the event that each shows (None: clutter alone)."""

    pixels: NDArray[np.uint8]
    """`[M, S, S, 3]` at the encoder's own size."""
    events: list[Event | None]


def render_moments(seed: int, first: int, scenes: int, size: int) -> Renders:
    """Render a few moments of every event of many encoder scenes, and one of clutter per scene."""
    pictures, events = [], list[Event | None]()
    for index in range(first, first + scenes):
        scene = sample_scene(seed, "encoder", index)
        rng = np.random.default_rng((*scene.clutter_seed, 1))
        backdrop = Backdrop(rng, scene.frames)
        for event in scene.events:
            performance = Performance(rng, event)
            for progress in rng.uniform(0, 1, MOMENTS_PER_EVENT):
                picture = backdrop.frame(event.start_frame + int(progress * event.length))
                performance.draw(picture, float(progress))
                pictures.append(picture)
                events.append(event)
        pictures.append(backdrop.frame(0))
        events.append(None)
    # The same antialiased bicubic resize as extraction applies to decoded frames.
    small = [
        TF.resize(torch.from_numpy(np.stack(part)).permute(0, 3, 1, 2), [size, size],
                  interpolation=TF.InterpolationMode.BICUBIC, antialias=True)
        for part in _parts(pictures, 2048)
    ]  # fmt: skip
    return Renders(torch.cat(small).permute(0, 2, 3, 1).contiguous().numpy(), events)


def _parts(items: list[NDArray[np.uint8]], length: int) -> list[list[NDArray[np.uint8]]]:
    return [items[i : i + length] for i in range(0, len(items), length)]


def matching_loss(image_BD: Tensor, text_BD: Tensor, scale: Tensor, truth_BB: Tensor) -> Tensor:
    """CLIP's symmetric contrastive loss where one sentence may be true of several pictures.

    Radford et al. 2021 take the diagonal as the only match. "A red object" is true of every red
    picture in the batch, so the target is spread evenly over all true pairs instead.

    Args:
        image_BD: Unit picture embeddings.
        text_BD: Unit sentence embeddings.
        scale: Inverse temperature.
        truth_BB: 1 where sentence j is true of picture i.

    Returns:
        Mean of both directions' cross-entropies.
    """
    logits_BB = scale * image_BD @ text_BD.T
    to_text = truth_BB / truth_BB.sum(1, keepdim=True)
    to_image = truth_BB.T / truth_BB.T.sum(1, keepdim=True)
    return (F.cross_entropy(logits_BB, to_text) + F.cross_entropy(logits_BB.T, to_image)) / 2


def truth_matrix(events: list[Event | None], captions: list[Caption]) -> Tensor:
    """float32 `[B, B]`: 1 where caption j is true of picture i, the diagonal always."""
    cells = [[float(caption.is_true_of(event)) for caption in captions] for event in events]
    return torch.tensor(cells).fill_diagonal_(1.0)


def train_encoder(
    config: EncoderTraining, folder: Path, report: Callable[[str], None]
) -> dict[str, float]:
    """Train, measure and save the demo encoder.

    Args:
        config: Sizes, seed and schedule.
        folder: Where `demo-clip.safetensors` (float16) and `CARD.md` go.
        report: Receives one line of progress at a time.

    Returns:
        Zero-shot accuracies on held-out renders.
    """
    torch.manual_seed(config.seed)
    settings = json.loads(CONFIG_PATH.read_text())
    model = open_clip.model.CLIP(**settings["model_cfg"])
    size = settings["model_cfg"]["vision_cfg"]["image_size"]
    started = time.monotonic()
    renders = render_moments(config.seed, 0, config.scenes, size)
    report(f"rendered {len(renders.events)} pictures in {time.monotonic() - started:.0f} s")
    tokenizer = open_clip.SimpleTokenizer(
        context_length=settings["model_cfg"]["text_cfg"]["context_length"]
    )
    pixels = normaliser(settings["preprocess_cfg"])
    decay = [p for p in model.parameters() if p.ndim >= 2]
    rest = [p for p in model.parameters() if p.ndim < 2]
    optimiser = torch.optim.AdamW(
        [
            {"params": decay, "weight_decay": config.weight_decay},
            {"params": rest, "weight_decay": 0.0},
        ],
        lr=config.peak_lr,
        betas=(0.9, 0.98),
        fused=True,
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, config.peak_lr, config.steps, pct_start=config.warm_up / config.steps
    )
    rng = np.random.default_rng((config.seed, 99))
    for step in range(config.steps):
        chosen = rng.choice(len(renders.events), config.batch, replace=False)
        events = [renders.events[i] for i in chosen]
        captions = [describe(rng, event) for event in events]
        tokens = tokenizer([caption.text for caption in captions])
        # Plain products: the fused kernel's bfloat16 backward is twice as slow on CPUs.
        with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
            image = model.encode_image(pixels(renders.pixels[chosen]), normalize=True)
            text = model.encode_text(tokens, normalize=True)
        loss = matching_loss(
            image.float(), text.float(), model.logit_scale.exp(), truth_matrix(events, captions)
        )
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        with torch.no_grad():
            model.logit_scale.clamp_(max=float(np.log(100)))
        if step % 50 == 0 or step == config.steps - 1:
            left = (time.monotonic() - started) / (step + 1) * (config.steps - step - 1)
            report(f"step {step:5d}  loss {loss.item():.4f}  about {left:.0f} s left")
    held_out = render_moments(config.seed, config.scenes, config.held_out_scenes, size)
    weights = {name: value.half().contiguous() for name, value in model.state_dict().items()}
    save_file(weights, folder / WEIGHTS_PATH.name)
    model.load_state_dict({name: value.float() for name, value in weights.items()})
    accuracy = zero_shot(model.eval(), tokenizer, pixels, held_out)
    (folder / CARD_PATH.name).write_text(card(config, accuracy), encoding="utf-8")
    return accuracy


def card(config: EncoderTraining, accuracy: dict[str, float]) -> str:
    """The page that goes with the weights: what they are, how they were made, how good they are."""
    return f"""\
# demo-clip

A CLIP of 9 million parameters (most of them the 49,408-word vocabulary), made for the demo data set and
of no use beyond it: it knows {len(SHAPES)} shapes and {len(COLORS)} colours on grey clutter. Architecture and
preprocessing: `demo-clip.json`; weights: float16 safetensors; tokenizer: open_clip's.

Trained from scratch by `make demo-encoder` on renders and template sentences, whose seeds no demo data
set uses: {config.scenes} scenes, {config.steps} steps of {config.batch} pictures, seed {config.seed}. A sentence may be
true of several pictures of a batch; all of them count as its matches. No question, no video and no answer
of the demo data set was seen.

Zero-shot on {accuracy["pictures"]:.0f} held-out renders of single things, nearest of the prompts
"{PROMPTS["shape"].format("star")}" or "{PROMPTS["color"].format("red")}":

| | accuracy | chance |
|---|--:|--:|
| shape | {accuracy["zero_shot_shape"]:.3f} | {accuracy["chance_shape"]:.3f} |
| colour | {accuracy["zero_shot_color"]:.3f} | {accuracy["chance_color"]:.3f} |

Licence: Apache-2.0, as the project. The renders are the project's own.
"""


def normaliser(preprocess: dict[str, list[float]]) -> Callable[[NDArray[np.uint8]], Tensor]:
    """uint8 `[B, S, S, 3]` to the float `[B, 3, S, S]` that the encoder's own config asks for."""
    mean = torch.tensor(preprocess["mean"])[:, None, None]
    std = torch.tensor(preprocess["std"])[:, None, None]

    def normalise(pixels: NDArray[np.uint8]) -> Tensor:
        return (torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - mean) / std

    return normalise


@torch.inference_mode()
def zero_shot(
    model: open_clip.model.CLIP,
    tokenizer: open_clip.SimpleTokenizer,
    pixels: Callable[[NDArray[np.uint8]], Tensor],
    renders: Renders,
) -> dict[str, float]:
    """Share of single-thing pictures whose nearest prompt names the right shape, or colour."""
    shown = [
        (i, e.thing) for i, e in enumerate(renders.events) if e is not None and e.companion is None
    ]
    image = model.encode_image(pixels(renders.pixels[[i for i, _ in shown]]), normalize=True)
    accuracy = {}
    for kind, names in (("shape", SHAPES), ("color", tuple(COLORS))):
        prompts = [PROMPTS[kind].format(name) for name in names]
        text = model.encode_text(tokenizer(prompts), normalize=True)
        guessed = (image @ text.T).argmax(1).tolist()
        right = [
            names[g] == getattr(thing, kind) for g, (_, thing) in zip(guessed, shown, strict=True)
        ]
        accuracy[f"zero_shot_{kind}"] = sum(right) / len(right)
        accuracy[f"chance_{kind}"] = 1 / len(names)
    accuracy["pictures"] = len(shown)
    return accuracy
