"""Options of extraction: what is encoded how, where videos may lie, who decodes and schedules."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, cast, get_args

import typer

if TYPE_CHECKING:
    from extract.job_options import JobOptions
    from extract.slurm_options import SlurmOptions
    from pipelines.datasets.dataset import Dataset

_WEIGHT_SUFFIXES: Final = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")

Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "--encoder",
        help="Encoder, as open_clip names it (ViT-B-16); `demo` is the small one that ships, and "
        "the demo's default.",
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(
        help="The encoder's weights: a file (safetensors or .pt), or the tag of published ones "
        "(`encoders info MODEL`), which are then fetched."
    ),
]
ModelConfig = Annotated[
    Path | None,
    typer.Option(
        help="JSON of an architecture that open_clip does not know.", exists=True, dir_okay=False
    ),
]
Precision = Annotated[str, typer.Option(help="Arithmetic of the vision tower: fp32, bf16 or fp16.")]
Compile = Annotated[
    bool, typer.Option("--compile", help="Fuse the vision tower with torch.compile.")
]
Workers = Annotated[
    int | None,
    typer.Option(
        min=0, help="Worker processes; by default one per GPU or eight cores. 0: all in this one."
    ),
]
Slurm = Annotated[
    bool,
    typer.Option(
        "--slurm",
        help="Work in jobs of a SLURM cluster; with --dry-run, print the script of a job.",
    ),
]
SlurmFile = Annotated[
    Path | None,
    typer.Option(
        help="With --slurm: TOML with jobs, partition, account, time, memory, cores, gpus, ...",
        exists=True,
        dir_okay=False,
    ),
]
SlurmSet = Annotated[
    list[str] | None,
    typer.Option(help="With --slurm: change one of these, as in partition=gpu. Repeatable."),
]
Status = Annotated[
    Path | None,
    typer.Option(
        help="Keep the job's state in this file, replaced every 3 s: JSON, or Prometheus text if it "
        "ends in .prom.",
        dir_okay=False,
    ),
]
Int8 = Annotated[
    bool, typer.Option("--int8", help="Keep patches as int8: half the size, lossy, measured.")
]

DecoderName = Annotated[
    str,
    typer.Option(
        "--backend",
        help="Decoder to try first: pyav, decord or torchcodec. The frames are the same.",
    ),
]
Scheduler = Annotated[
    str | None, typer.Option(help="Address of a running Dask scheduler, as tcp://host:8786.")
]
AllowRoots = Annotated[
    list[Path] | None,
    typer.Option(
        "--allow-root",
        help="A further folder into which links below the data set may lead. Repeatable.",
        exists=True,
        file_okay=False,
    ),
]
FollowLinks = Annotated[
    bool, typer.Option("--follow-links", help="Let links below the data set lead anywhere.")
]
Tag = Annotated[
    str | None,
    typer.Option(
        help="Which published weights the file holds (`encoders info MODEL` lists them), or own."
    ),
]
TokenSpace = Annotated[
    str,
    typer.Option(help="joint: projected, as wide as a sentence; trunk: the tower's width."),
]
Device = Annotated[
    str,
    typer.Option(
        help="cpu, cuda, cuda:1, ... or auto: a GPU if there is one. Not in the identity."
    ),
]
Tokenizer = Annotated[
    Path | None,
    typer.Option(
        help="Folder of the text tower's tokenizer, where it is not CLIP's (SigLIP).",
        exists=True,
        file_okay=False,
    ),
]
Pool = Annotated[
    str | None,
    typer.Option(help="Keep a coarser grid of patches, as in 4x4: a lossy variant, measured."),
]


@dataclass(frozen=True, kw_only=True, slots=True)
class NamedWeights:
    """The encoder's weights as they were named; published ones may have to be fetched."""

    model: str | None
    file: Path | None
    """None where none was named, or published ones by their tag."""
    tag: str | None
    """open_clip's name of them."""
    published: bool
    """Whether the tag is all that was named."""

    def located(self, *, dry_run: bool) -> Path | None:
        """Returns the file, fetched if need be; a dry run takes it from the cache, or ends here.

        Raises:
            InputError: as `fetched_weights`.
            Exit: a dry run has no file of published weights.
        """
        if not self.published:
            return self.file
        from extract.weights_download import cached_weights, fetched_weights

        model, tag = str(self.model), str(self.tag)
        if not dry_run:
            return fetched_weights(model, tag)
        file = cached_weights(model, tag)
        if file is None:
            typer.echo(
                f"would fetch the weights {tag} of {model} first; which store it is, and what it lacks, is "
                "known when they are here"
            )
            raise typer.Exit
        return file


def named_weights(
    model: str | None, weights: str | None, tag: str | None, model_config: Path | None
) -> NamedWeights:
    """Says what `--weights` names; fetches nothing.

    Raises:
        InputError: There is no such file, or no such published weights, or they do not fit the model.
    """
    from cache_schema import InputError

    file = None if weights is None else Path(weights)
    if file is None or file.is_file():
        return NamedWeights(model=model, file=file, tag=tag, published=False)
    if model is None or file.suffix in _WEIGHT_SUFFIXES or file.name != weights:
        raise InputError(f"There is no weights file {weights}.")
    if tag not in {None, weights}:
        raise InputError(f"--weights names the published weights {weights!r}, and --tag {tag!r}.")
    from extract.weights_download import require_published

    require_published(model, str(weights), model_config)
    return NamedWeights(model=model, file=None, tag=weights, published=True)


def slurm_options(asked: bool, file: Path | None, changes: Sequence[str]) -> "SlurmOptions | None":
    """Returns what SLURM is asked for; None without `--slurm`.

    Raises:
        InputError: Options of SLURM without `--slurm`; or as `SlurmOptions`.
    """
    from cache_schema import InputError

    if not asked:
        if file is not None or changes:
            raise InputError("--slurm-file and --slurm-set are of no use without --slurm.")
        return None
    from extract.slurm_options import SlurmOptions

    return SlurmOptions.read(file, changes)


def job_options(
    *,
    backend: str,
    scheduler: str | None,
    slurm: "SlurmOptions | None",
    allow_roots: Sequence[Path],
    follow_links: bool,
    pool: str | None,
    int8: bool,
) -> "JobOptions":
    """Puts the options of a job together.

    Raises:
        InputError: There is no such decoder, a grid is malformed, or two ways to get workers.
    """
    from cache_schema import InputError
    from cache_schema.shards.patch_grid import parse_grid
    from extract.frame_request import Backend
    from extract.job_options import JobOptions

    if backend not in get_args(Backend):
        raise InputError(f"--backend is {backend!r}; it can be {' or '.join(get_args(Backend))}.")
    if scheduler is not None and slurm is not None:
        raise InputError("--scheduler and --slurm are two ways to get workers; give one.")
    return JobOptions(
        backend=cast("Backend", backend),
        scheduler=scheduler,
        slurm=slurm,
        extra_roots=tuple(allow_roots),
        follow_links=follow_links,
        pool=None if pool is None else parse_grid(pool),
        int8=int8,
    )


def device_of(asked: str, options: "JobOptions") -> str:
    """Returns the device to ask for: what SLURM's jobs have says more than what is here."""
    if asked == "auto" and options.slurm is not None:
        return "cuda" if options.slurm.gpus else "cpu"
    return asked


def dataset_or_paths(
    what: list[str], *, out: str | None, store: str | None, data_root: Path | None
) -> "Dataset | list[Path]":
    """Tells a data set's name from videos of one's own: what exists as a path is one.

    Raises:
        InputError: Nothing was named, a path is not there, or options do not go with it.
    """
    from cache_schema import InputError
    from pipelines.datasets.registry import find, known

    if not what:
        raise InputError(
            "Name a data set (`videodistill data ls` lists them), or videos with --out STORE."
        )
    paths = [Path(word) for word in what]
    absent = [path for path in paths if not path.exists()]
    if absent and len(what) == 1 and what[0] == absent[0].name and not absent[0].suffix:
        if out is not None:
            raise InputError(
                f"There is no file or folder {what[0]} here. --out is for videos of your own; a data "
                "set's store is named with --store."
            )
        return find(what[0])
    if absent:
        raise InputError(f"There is no file or folder {absent[0]}; nothing was extracted.")
    if out is None:
        both = what[0] in known() and len(what) == 1
        hint = (
            f" {what[0]!r} is a data set too, but what exists as a path is taken as such: for the data "
            "set, call this from another folder with --home."
            if both
            else ""
        )
        raise InputError(f"Videos of your own need --out STORE, a path or URL.{hint}")
    if store is not None or data_root is not None:
        raise InputError(
            "--store and --data-root are for data sets; videos of your own have --out."
        )
    return paths
