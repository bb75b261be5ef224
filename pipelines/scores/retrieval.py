"""Text-to-video retrieval from a matrix of scores: R@1, R@5, R@10, median and mean rank."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cache_schema import Caption
from cache_schema.errors import InputError
from pipelines.scores.prediction_files import shown
from pipelines.scores.score_rows import ScoreRow

_DEPTHS: Final = (1, 5, 10)
_LABELS: Final = {"MdR": "median rank", "MnR": "mean rank"}
Floats = NDArray[np.floating]


def ranks(scores: Floats, right: NDArray[np.intp]) -> NDArray[np.float64]:
    """Place of the right video among all, from 1; several of one score share the mean of their places.

    Args:
        scores: [queries, videos], higher is nearer.
        right: [queries], the column of each query's own video.
    """
    own = np.take_along_axis(scores, right[:, None], axis=1)
    above = (scores > own).sum(axis=1)
    level = (scores == own).sum(axis=1)
    return np.asarray(1 + above + (level - 1) / 2, np.float64)


def retrieval_rows(captions: Sequence[Caption], path: Path) -> list[ScoreRow]:
    """The published numbers of a split's captions.

    Args:
        captions: the queries; their clips are the gallery.
        path: `.npy` with scores [queries, videos], queries in the order of the captions and videos in
            that of their first caption; or `.npz` with `scores`, `caption_ids` and `clip_ids` in any.

    Raises:
        InputError: the file is of no such form, or its queries or videos are others.
    """
    gallery = list(dict.fromkeys(caption.clip_id for caption in captions))
    scores = _read(path, [caption.caption_id for caption in captions], gallery)
    column = {clip_id: place for place, clip_id in enumerate(gallery)}
    found = ranks(scores, np.array([column[caption.clip_id] for caption in captions]))
    return [
        ScoreRow(
            key=key,
            label=_LABELS.get(key, key),
            value=value,
            questions=len(found),
            unit="rank" if key in _LABELS else "share",
        )
        for key, value in rank_numbers(found).items()
    ]


def rank_numbers(found: NDArray[np.float64]) -> dict[str, float]:
    """The published numbers of some ranks: R@1, R@5 and R@10 as shares, median and mean rank."""
    recalls = {f"R@{depth}": float((found <= depth).mean()) for depth in _DEPTHS}
    return recalls | {"MdR": float(np.median(found)), "MnR": float(found.mean())}


def _read(path: Path, caption_ids: Sequence[str], clip_ids: Sequence[str]) -> Floats:
    if not path.is_file():
        raise InputError(f"There is no file of scores {path}.")
    if path.suffix not in {".npy", ".npz"}:
        raise InputError(f"{path} is no .npy or .npz; retrieval is scored from a matrix of scores.")
    try:
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            parts = {"scores": loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
    except (ValueError, EOFError, OSError) as error:
        raise InputError(f"{path} is not an array of numbers: {error}") from error
    if "scores" not in parts:
        raise InputError(f"{path} holds {', '.join(parts) or 'nothing'}; 'scores' is wanted.")
    scores = parts["scores"]
    shape = (len(caption_ids), len(clip_ids))
    if scores.shape != shape or not np.issubdtype(scores.dtype, np.floating):
        raise InputError(
            f"The scores in {path} are {scores.dtype} {list(scores.shape)}; wanted are floats "
            f"{list(shape)}: the captions of the split by their videos."
        )
    if not np.isfinite(scores).all():
        raise InputError(f"{path} holds scores that are not finite numbers.")
    if path.suffix == ".npy":
        return np.asarray(scores)
    rows = _order(path, "caption_ids", parts, caption_ids)
    return np.asarray(scores[np.ix_(rows, _order(path, "clip_ids", parts, clip_ids))])


def _order(
    path: Path, name: str, parts: dict[str, NDArray[np.generic]], wanted: Sequence[str]
) -> list[int]:
    """Where each wanted id stands in the file."""
    if name not in parts:
        raise InputError(f"{path} lacks {name!r}, the ids that its scores are of.")
    place = {str(each): number for number, each in enumerate(parts[name].tolist())}
    if len(place) != parts[name].size or set(place) != set(wanted):
        odd = sorted(set(place) ^ set(wanted))
        raise InputError(
            f"{path}: {name} are {len(place):,} different ids of {parts[name].size:,}, and {len(odd):,} are "
            f"not in both the file and the split: {shown(map(repr, odd))}."
        )
    return [place[each] for each in wanted]
