"""Which encoder a data set is extracted with: the demo's own, or weights named by the user."""

from dataclasses import dataclass
from pathlib import Path

from cache_schema.errors import InputError
from extract.device_choice import chosen_device
from extract.encoder_spec import EncoderSpec, identity_of
from pipelines.datasets.dataset import Dataset
from pipelines.datasets.demo.encoder_files import CONFIG_PATH, WEIGHTS_PATH
from pipelines.datasets.extraction_cost import DEFAULT_FRAMES
from pipelines.workspace import Workspace

DEMO_ENCODER = "demo"
"""What the small CLIP that ships with the project is called on the command line."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderFiles:
    """Where the encoder of a store is, unless it is the demo's."""

    weights: Path | None = None
    model_config: Path | None = None
    pretrained_tag: str | None = None
    tokenizer: Path | None = None


def encoder_spec(
    dataset: Dataset | None,
    model: str | None = None,
    weights: Path | None = None,
    config: Path | None = None,
    precision: str = "fp32",
    *,
    tag: str | None = None,
    token_space: str = "joint",  # noqa: S107 -- no password
    tokenizer: Path | None = None,
    compile_tower: bool = False,
    device: str = "cpu",
) -> EncoderSpec:
    """The encoder for a data set, or for videos of one's own.

    Args:
        dataset: The demo defaults to the small CLIP that ships with it; others have no default, nor
            have videos that belong to none.
        model: open_clip's name, as in `ViT-B-16`; `demo` for the one that ships.
        weights: Local file of its weights.
        config: JSON of a model that open_clip does not know by name.
        precision: `fp32`, `bf16` or `fp16`.
        tag: open_clip's name of the weights, or `own`.
        token_space: `joint` or `trunk`.
        tokenizer: Folder of the text tower's tokenizer, where it is not CLIP's.
        compile_tower: Whether torch.compile fuses the vision tower.
        device: As torch names it, or `auto`.

    Raises:
        InputError: No encoder was named and the data set has none of its own.
    """
    if precision not in {"fp32", "bf16", "fp16"}:
        raise InputError(f"--precision is {precision!r}; it can be fp32, bf16 or fp16.")
    if token_space not in {"joint", "trunk"}:
        raise InputError(f"--token-space is {token_space!r}; it can be joint or trunk.")
    device = chosen_device(device)
    if model is not None and weights is not None:
        return EncoderSpec(
            model=model,
            weights=weights,
            model_config=config,
            precision=precision,  # type: ignore[arg-type]
            pretrained_tag=tag,
            token_space=token_space,  # type: ignore[arg-type]
            tokenizer=tokenizer,
            compile=compile_tower,
            device=device,
        )
    shipped = model == DEMO_ENCODER or (
        model is None and dataset is not None and dataset.folder == "demo"
    )
    if not shipped or weights is not None:
        which = "these videos" if dataset is None else repr(dataset.name)
        raise InputError(
            f"Name an encoder for {which}: --model ViT-B-16 --weights FILE, where FILE holds "
            "its weights as open_clip saves or downloads them (safetensors or .pt); or --model demo, the "
            "small one that ships with the project and knows rendered shapes alone."
        )
    return EncoderSpec(
        model="demo-clip",
        weights=WEIGHTS_PATH,
        model_config=CONFIG_PATH,
        precision=precision,  # type: ignore[arg-type]
        token_space=token_space,  # type: ignore[arg-type]
        compile=compile_tower,
        device=device,
    )


def store_of(
    space: Workspace,
    spec: EncoderSpec,
    frames: int,
    *,
    pool: tuple[int, int] | None = None,
    int8: bool = False,
) -> Path:
    """Where the features of an encoder and N frames belong, or a smaller variant: by their identity."""
    return space.stores / identity_of(spec, frames).reduced(pool=pool, int8=int8).name


def default_store(space: Workspace) -> Path:
    """The store that is meant when none is named: the demo encoder's, or the only one there is.

    Raises:
        InputError: There is none, or there are several.
    """
    if space.dataset.folder == "demo":
        return store_of(space, encoder_spec(space.dataset), DEFAULT_FRAMES)
    return space.only_store()
