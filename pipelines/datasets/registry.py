"""The data sets that are known by name."""

import difflib
from pathlib import Path

from cache_schema import Clip
from cache_schema.errors import InputError
from pipelines.datasets.dataset import Dataset
from pipelines.datasets.description import describe


def known() -> dict[str, Dataset]:
    """Every data set by name."""
    from pipelines.datasets import (
        activitynet_qa,
        agqa,
        charades_sta,
        custom,
        egoclip,
        egomcq,
        egoschema,
        egotaskqa,
        hd_vila,
        how2qa,
        intentqa,
        msrvtt_mc,
        msrvtt_qa,
        msrvtt_retrieval,
        msvd_qa,
        nextqa,
        star,
        tgif_qa,
        webvid,
    )
    from pipelines.datasets.demo import adapter

    datasets = (
        adapter.DEMO,
        adapter.DEMO_SHORTCUT,
        adapter.DEMO_CHOICES,
        adapter.DEMO_CAPTIONS,
        custom.CUSTOM,
        agqa.AGQA,
        egotaskqa.EGOTASKQA,
        egotaskqa.EGOTASKQA_INDIRECT,
        msrvtt_qa.MSRVTT_QA,
        msvd_qa.MSVD_QA,
        msrvtt_mc.MSRVTT_MC,
        egomcq.EGOMCQ,
        msrvtt_retrieval.MSRVTT_RETRIEVAL,
        msrvtt_retrieval.MSRVTT_RETRIEVAL_7K,
        webvid.WEBVID,
        webvid.WEBVID_10M,
        hd_vila.HD_VILA,
        egoclip.EGOCLIP,
        nextqa.NEXTQA,
        nextqa.NEXTQA_OPEN,
        intentqa.INTENTQA,
        activitynet_qa.ACTIVITYNET_QA,
        star.STAR,
        how2qa.HOW2QA,
        egoschema.EGOSCHEMA,
        *tgif_qa.TGIF_QA,
        charades_sta.CHARADES_STA,
    )
    return {dataset.name: dataset for dataset in datasets}


def find(name: str) -> Dataset:
    """The data set of that name.

    Raises:
        InputError: There is none; the message lists the known ones and the closest match.
    """
    datasets = known()
    if name in datasets:
        return datasets[name]
    close = difflib.get_close_matches(name, datasets, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    listed = "\n".join(f"  {d.name:20} {d.about}" for d in datasets.values())
    raise InputError(f"There is no data set {name!r}.{hint} The known ones:\n{listed}")


def require_files(dataset: Dataset, root: Path) -> None:
    """Refuse to start when annotation files are absent.

    Raises:
        InputError: Some are; says all that belongs where, whose it is, and what is there.
    """
    if missing := dataset.missing(root):
        names = ", ".join(str(root / file.name) for file in missing)
        raise InputError(f"There is no {names}.\n{describe(dataset, root)}")


def require_videos(dataset: Dataset, clips: list[Clip], root: Path) -> None:
    """Refuse to start when most of a data set is not there.

    A few missing files are each reported as a failed clip; none at all is a wrong folder.

    Raises:
        InputError: Not one clip's video exists.
    """
    if clips and any(clip.path.exists() for clip in clips):
        return
    raise InputError(
        f"None of the {len(clips)} videos of {dataset.name!r} is there; the first was looked for at "
        f"{clips[0].path if clips else root}.\n{describe(dataset, root, len(clips) or None)}"
    )
