"""The commands `videodistill store ...` that change the form of features: export, import, convert."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer

from pipelines.data_commands import DataRoot, DatasetName, Home, Seed
from pipelines.store_commands import AsJson, Store
from pipelines.store_sharing_commands import DryRun

if TYPE_CHECKING:
    from cache_schema.exchange.feature_source import FeatureSource

exchange_app = typer.Typer()


@exchange_app.command("export")
def store_export(
    store: Store,
    target: Annotated[Path, typer.Argument(help="The HDF5 file to write; it must not exist.")],
    layout: Annotated[
        str,
        typer.Option(
            help="rows (HCRN's: arrays over all clips, and ids), mist (its tokens in one array) or "
            "per-clip (one dataset an id)."
        ),
    ] = "rows",
    patches: Annotated[
        bool, typer.Option("--patches", help="Patch features too, not CLS alone; mist always does.")
    ] = False,
    dtype: Annotated[
        str, typer.Option(help="float16, or float32 with the same values.")
    ] = "float16",
    features_name: Annotated[
        str, typer.Option(help="In rows, the dataset's name before _features; HCRN says resnet.")
    ] = "cls",
    numeric_ids: Annotated[
        bool, typer.Option("--numeric-ids", help="Write ids as numbers, as HCRN reads them.")
    ] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Write a store's features as HDF5, as other projects' loaders read them.

    The file appears when it is whole, and nothing is overwritten.
    """
    from cache_schema import open_store
    from cache_schema.exchange.hdf5_export import (
        ExportDtype,
        ExportLayout,
        export_bytes,
        export_hdf5,
    )
    from pipelines.clip_progress import clip_progress
    from pipelines.store_report import print_json, shown_bytes

    source, form = open_store(store), cast("ExportLayout", layout)
    number = cast("ExportDtype", dtype)
    size = export_bytes(source, layout=form, patches=patches, dtype=number)
    if not dry_run:
        with clip_progress("exporting") as on_clip:
            done = 0

            def tell(_clip_id: str) -> None:
                nonlocal done
                done += 1
                if on_clip is not None:
                    on_clip(done, len(source))

            export_hdf5(
                source,
                target,
                layout=form,
                patches=patches,
                dtype=number,
                name=features_name,
                numeric_ids=numeric_ids,
                on_clip=tell,
            )
        size = target.stat().st_size
    if as_json:
        print_json({"clips": len(source), "bytes": size, "file": str(target), "dry_run": dry_run})
        return
    what = "about " if dry_run else f"written to {target}, "
    typer.echo(f"{len(source)} clips, {what}{shown_bytes(size)}")


@exchange_app.command("import")
def store_import(
    source: Annotated[
        Path, typer.Argument(help="The HDF5 file, or the folder of .npy files.", exists=True)
    ],
    store: Annotated[str, typer.Argument(help="The store to import into; made if absent.")],
    layout: Annotated[
        str,
        typer.Option(
            help="HDF5: mist, hcrn, rows or per-clip (as `store export` writes). Folders: "
            "clip-video-encode (<id>.npy) or video-features (<id>_clip.npy)."
        ),
    ],
    origin: Annotated[
        str,
        typer.Option(
            help="A few words for where the features are from; other words, other features."
        ),
    ],
    frames: Annotated[
        int | None,
        typer.Option(min=1, help="Keep N frames of each clip, at the middles of N equal parts."),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Name of the HDF5 dataset, where it has another.")
    ] = None,
    key: Annotated[
        str, typer.Option(help="video_features' feature type, before .npy in its names.")
    ] = "clip",
    encoder: Annotated[
        str | None, typer.Option(help="The encoder, if you know it, as open_clip names it.")
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(help="Its weights, if you have the file.", exists=True, dir_okay=False),
    ] = None,
    quick_gelu: Annotated[
        bool | None, typer.Option("--quick-gelu/--no-quick-gelu", help="Its activation, if known.")
    ] = None,
    token_space: Annotated[
        str | None, typer.Option(help="joint or trunk, if known: with or without the projection.")
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="fp32, bf16 or fp16, if known: what the encoder ran in.")
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try clips again that failed earlier.")
    ] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Take features that another program computed into a store.

    What nobody tells is written down as unknown, and training asks before it uses such features. A
    broken file becomes a failed row with its reason; Python objects in files are never loaded.
    May be stopped at any moment: the same command goes on. Exit code 1 if anything was left out.
    """
    from cache_schema.exchange.store_import import import_features, imported_identity, plan_import
    from pipelines.clip_progress import clip_progress
    from pipelines.store_exchange_report import print_import, print_import_plan

    told = {
        "encoder": encoder,
        "weights_sha256": _digest(weights),
        "quick_gelu": quick_gelu,
        "token_space": token_space,
        "precision": precision,
    }
    features = _source(source, layout, dataset, key)
    try:
        identity = imported_identity(
            features,
            origin=origin,
            frames=frames,
            told={name: value for name, value in told.items() if value is not None},
        )
        if dry_run:
            plan = plan_import(features, store, identity, retry_failed=retry_failed)
            print_import_plan(plan, as_json=as_json)
            return
        with clip_progress("importing") as on_clip:
            report = import_features(
                features, store, identity, retry_failed=retry_failed, on_clip=on_clip
            )
    finally:
        features.close()
    print_import(store, identity.unknown, report, as_json=as_json)
    raise typer.Exit(0 if report.complete else 1)


@exchange_app.command("convert")
def store_convert(
    source: Store,
    target: Annotated[str, typer.Argument(help="The variant; made if absent.")],
    int8: Annotated[
        bool, typer.Option("--int8", help="Patches as int8 with a scale per token: half the size.")
    ] = False,
    pool: Annotated[
        str | None, typer.Option(help="Patch grids averaged to rows x columns, as in 4x4.")
    ] = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Make a smaller, lossy variant of a store; the loss is measured and kept with every clip.

    The variant is read and trained from like any store, under an identity of its own.
    May be stopped at any moment: the same command goes on.
    """
    from cache_schema import open_store
    from cache_schema.exchange.store_convert import convert_store, plan_conversion
    from cache_schema.shards.patch_grid import parse_grid
    from cache_schema.storage.storage import is_url
    from pipelines.clip_progress import clip_progress
    from pipelines.sentences import copy_sentences
    from pipelines.store_exchange_report import print_conversion

    grid = parse_grid(pool) if pool is not None else None
    whole = open_store(source)
    plan = plan_conversion(whole, target, pool=grid, int8=int8)
    if dry_run:
        print_conversion(target, plan, None, as_json=as_json)
        return
    with clip_progress("converting") as on_clip:
        report = convert_store(whole, target, pool=grid, int8=int8, on_clip=on_clip)
    if not (is_url(source) or is_url(target)):
        copy_sentences(Path(source), Path(target))
    print_conversion(target, plan, report, as_json=as_json)


@exchange_app.command("sentences")
def store_sentences(
    store: Annotated[str, typer.Argument(help="The store's path or URL.")],
    dataset: DatasetName,
    model: Annotated[
        str | None, typer.Option(help="The store's encoder, as open_clip names it.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Its weights.", exists=True, dir_okay=False)
    ] = None,
    model_config: Annotated[
        Path | None,
        typer.Option(
            help="JSON of its architecture, where open_clip does not know it.", exists=True
        ),
    ] = None,
    seed: Seed = 1,
    home: Home = Path(),
    data_root: DataRoot = None,
    dry_run: DryRun = False,
) -> None:
    """Encode a data set's questions and captions for a store that was not extracted here, such as an import.

    Extraction does so by itself. Weights other than those that the store names are refused.
    """
    from rich.console import Console

    from cache_schema import open_store
    from pipelines.datasets.registry import find
    from pipelines.encoders import encoder_spec
    from pipelines.experiment import Experiment
    from pipelines.sentences import encode_sentences, require_same_encoder, sentences_path
    from pipelines.workspace import Workspace

    space = Workspace(home=home, dataset=find(dataset), seed=seed, data_root=data_root)
    experiment = Experiment(
        workspace=space,
        store_path=store,
        preset=space.dataset.folder,
        overrides=[],
        console=Console(),
    )
    spec = encoder_spec(space.dataset, model, weights, model_config)
    require_same_encoder(spec, open_store(store).identity)
    annotations = experiment.annotations
    if dry_run:
        found = f"{len(annotations.questions)} questions and {len(annotations.captions)} captions"
        typer.echo(f"{found}, to {sentences_path(experiment.beside, annotations)}")
        return
    count = encode_sentences(spec, experiment.beside, annotations)
    typer.echo(f"{count} distinct sentences encoded" if count else "all sentences are there")


def _source(path: Path, layout: str, dataset: str | None, key: str) -> "FeatureSource":
    from cache_schema.errors import InputError
    from cache_schema.exchange.hdf5_source import Hdf5PerClip, Hdf5Rows, RowsLayout
    from cache_schema.exchange.npy_source import NpyFolder, NpyLayout

    rows, folders = get_args(RowsLayout), get_args(NpyLayout)
    if layout in rows:
        return Hdf5Rows(path, cast("RowsLayout", layout), dataset=dataset)
    if layout in folders:
        return NpyFolder(path, cast("NpyLayout", layout), key=key)
    if layout == "per-clip":
        return Hdf5PerClip(path)
    known = ", ".join((*rows, "per-clip", *folders))
    raise InputError(f"--layout is {layout!r}; it can be {known}.")


def _digest(weights: Path | None) -> str | None:
    if weights is None:
        return None
    from extract.encoder_spec import digest_weights

    return digest_weights(weights)
