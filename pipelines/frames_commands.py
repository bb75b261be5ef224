"""The command `videodistill frames`: shows which frames of a video extraction would take."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer

from pipelines.extract_options import DecoderName

if TYPE_CHECKING:
    from extract.decode_pool import DecodedClip
    from extract.frame_request import Backend
    from pipelines.contact_sheet import SheetFrame

_WIDEST_TILE = 1024


def frames(
    video: Annotated[Path, typer.Argument(help="The video file.", exists=True)],
    out: Annotated[
        Path | None,
        typer.Option(help="Where the sheet goes, a .png; without it the frames are only listed."),
    ] = None,
    count: Annotated[
        int, typer.Option("--frames", min=1, max=1000, help="N, frames taken of the clip.")
    ] = 100,
    start: Annotated[
        float | None, typer.Option(min=0, help="Begin of the clip, seconds from the first frame.")
    ] = None,
    end: Annotated[float | None, typer.Option(min=0, help="End of the clip.")] = None,
    backend: DecoderName = "pyav",
    tile: Annotated[
        int, typer.Option(min=64, max=_WIDEST_TILE, help="Longest side of a picture, pixels.")
    ] = 160,
    columns: Annotated[int | None, typer.Option(min=1, help="Pictures in a row.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show the frames that extraction would take of a video, with numbers, times and decoder.

    Decodes in a process with the limits of extraction. Exit code 1 if the video is refused; says
    why.
    """
    from cache_schema import InputError
    from cache_schema.storage.durable_files import replace_file
    from extract.frame_request import Backend
    from pipelines.contact_sheet import sheet_png

    if backend not in get_args(Backend):
        raise InputError(f"--backend is {backend!r}; it can be {' or '.join(get_args(Backend))}.")
    if start is not None and end is not None and not start < end:
        raise InputError(f"--start is {start:g} s and --end {end:g} s; the end must be later.")
    # Nothing but pictures is ever overwritten, and least of all the video.
    if out is not None and out.suffix.lower() != ".png":
        raise InputError(f"--out is {out.name}; the sheet is a picture, its name ends in .png.")
    clip = _decode(video, count, start, end, cast("Backend", backend), tile)
    if clip.pixels is None:
        message = {"video": video.name, "reason": clip.reason, "detail": clip.detail}
        typer.echo(
            json.dumps(message) if as_json else f"{clip.reason}: {clip.detail}", err=not as_json
        )
        raise typer.Exit(1)
    taken = _taken(clip)
    if out is not None:
        title = f"{_plain(video.name)}   {count} frames, {len(taken)} distinct, by {clip.backend}"
        replace_file(out.absolute(), sheet_png(clip.pixels, taken, title, columns))
    if as_json:
        typer.echo(json.dumps(_document(video, clip, taken, out), indent=2))
    else:
        _print(video, clip, taken, out, count)


def _decode(
    video: Path, count: int, start: float | None, end: float | None, backend: "Backend", tile: int
) -> "DecodedClip":
    from cache_schema import Preprocess
    from extract.decode_pool import DecodePool
    from extract.decoder_choice import load_decoder
    from extract.frame_request import FrameRequest
    from extract.limits import DecodeLimits

    load_decoder(backend)
    limits = DecodeLimits()
    shown = Preprocess(
        image_size=tile,
        resize_mode="longest",
        interpolation="bicubic",
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
    )
    request = FrameRequest(
        path=video.absolute(),
        root=None,
        start_s=start,
        end_s=end,
        frames=count,
        preprocess=shown,
        limits=limits,
        backend=backend,
    )
    with DecodePool(1, limits) as pool:
        return pool.submit(request).result()


def _taken(clip: "DecodedClip") -> "list[SheetFrame]":
    from pipelines.contact_sheet import SheetFrame

    assert clip.slot is not None  # noqa: S101 -- given with the pixels
    assert clip.frame_index is not None  # noqa: S101
    assert clip.frame_time is not None  # noqa: S101
    repeats: dict[int, int] = {}
    for place in clip.slot.tolist():
        repeats[place] = repeats.get(place, 0) + 1
    first = {place: n for n, place in reversed(list(enumerate(clip.slot.tolist())))}
    return [
        SheetFrame(
            index=clip.frame_index[first[place]],
            time=clip.frame_time[first[place]],
            repeats=repeats[place],
        )
        for place in sorted(first)
    ]


def _document(
    video: Path, clip: "DecodedClip", taken: "list[SheetFrame]", out: Path | None
) -> dict[str, object]:
    return {
        "video": video.name,
        "bytes": clip.size,
        "blake2b": clip.digest,
        "backend": clip.backend,
        "decoded": clip.decoded,
        "flags": list(clip.flags),
        "sheet": None if out is None else str(out),
        "frames": [
            {"index": frame.index, "time": frame.time, "repeats": frame.repeats} for frame in taken
        ],
    }


def _print(
    video: Path, clip: "DecodedClip", taken: "list[SheetFrame]", out: Path | None, count: int
) -> None:
    typer.echo(
        f"{_plain(video.name)}: {count} frames, {len(taken)} distinct, from {taken[0].time:.3f} s to "
        f"{taken[-1].time:.3f} s; {clip.decoded} decoded by {clip.backend}"
    )
    for flag in clip.flags:
        typer.echo(f"  flag: {flag}")
    if out is None:
        for frame in taken:
            typer.echo(f"  {frame.label}")
    else:
        typer.echo(f"  {out}")


def _plain(name: str) -> str:
    """Keeps control characters of file names off terminals and pictures."""
    return "".join(letter if letter.isprintable() else "?" for letter in name)
