"""Baselines that are models of other papers on our features: what their numbers are called."""

from collections.abc import Sequence
from typing import Final

from train.config import Method

RERUNS: Final[frozenset[Method]] = frozenset(
    {"text_only", "atp", "temp_atp", "psac", "hcrn", "mist"}
)
"""Methods with published numbers that ours could be taken for; the probes are nobody's."""


def rerun_note(runs: Sequence[str]) -> str:
    """The line to print with the numbers of such runs."""
    return (
        "CLIP-cache re-runs (models of other papers on the cached features, not their published "
        f"numbers): {', '.join(runs)}"
    )
