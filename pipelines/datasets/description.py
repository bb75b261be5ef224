"""A data set in words: what it is, whose, which files belong where, which are there, what they will cost."""

from pathlib import Path

from pipelines.datasets.dataset import AnnotationFile, Dataset
from pipelines.datasets.extraction_cost import DEFAULT_FRAMES, costs, describe_costs

Described = dict[str, object]


def describe(dataset: Dataset, root: Path, clips: int | None = None) -> str:
    """Everything a person needs to put a data set in place; reads no annotation file.

    Args:
        dataset: the data set.
        root: its folder.
        clips: how many clips it has, where that was counted; by default the published number.
    """
    lines = [
        f"{dataset.name}: {dataset.about}",
        f"  licence  {dataset.licence}",
        f"  offered  {dataset.offered}",
        f"  splits   {dataset.splits}",
        f"  expected in {root}:",
        *(f"    {line}" for line in _files(dataset, root)),
    ]
    if (count := clips or dataset.clips) is not None:
        lines.append(f"  its feature store, {count:,} clips of {DEFAULT_FRAMES} frames:")
        lines += [f"    {line}" for line in describe_costs(count)]
    return "\n".join(lines)


def description_record(dataset: Dataset, root: Path) -> Described:
    """The same, for programs."""
    return {
        "name": dataset.name,
        "about": dataset.about,
        "task": dataset.task,
        "licence": dataset.licence,
        "offered": dataset.offered,
        "splits": dataset.splits,
        "root": str(root),
        "files": [
            {
                "name": file.name,
                "holds": file.holds,
                "optional": file.optional,
                "there": _is_there(root, file),
            }
            for file in dataset.files
        ],
        "videos": {"name": dataset.videos, "there": _video_files(dataset, root)},
        "tags": dict(dataset.tags),
        "clips": dataset.clips,
        "published": [
            {"what": p.what, "split": p.split, "count": p.count, "source": p.source}
            for p in dataset.published
        ],
        "store": [] if dataset.clips is None else [c.to_dict() for c in costs(dataset.clips)],
    }


def _files(dataset: Dataset, root: Path) -> list[str]:
    width = max(len(dataset.videos), *(len(file.name) for file in dataset.files))
    lines = []
    for file in dataset.files:
        state = "there" if _is_there(root, file) else "not needed" if file.optional else "ABSENT"
        lines.append(f"{state:10} {file.name:{width}}  {file.holds}")
    count = _video_files(dataset, root)
    state = "there" if count else "ABSENT"
    lines.append(f"{state:10} {dataset.videos:{width}}  {count or 'no'} files in its first folder")
    return lines


def _is_there(root: Path, file: AnnotationFile) -> bool:
    return any(root.glob(file.name))


def _video_files(dataset: Dataset, root: Path) -> int:
    folder = root / dataset.videos.split("/", 1)[0]
    return sum(1 for _ in folder.iterdir()) if folder.is_dir() else 0
