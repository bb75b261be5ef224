"""Where a run was left: the last checkpoint, or the one before where the last is damaged."""

import logging
from pathlib import Path
from typing import Final

from train.checkpoint import Checkpoint, CorruptCheckpoint, read_checkpoint, write_checkpoint

LAST: Final = "last.safetensors"
PREVIOUS: Final = "previous.safetensors"

_LOG = logging.getLogger(__name__)


def save_state(run_dir: Path, checkpoint: Checkpoint) -> None:
    """Write the last checkpoint; the one that was last stays as the one before."""
    if (run_dir / LAST).exists():
        (run_dir / LAST).replace(run_dir / PREVIOUS)
    write_checkpoint(run_dir / LAST, checkpoint)


def find_state(run_dir: Path) -> Checkpoint | None:
    """Read where a run was left; None where it has no checkpoint yet.

    Raises:
        CorruptCheckpoint: every checkpoint that is there is damaged; the message is the newest's.
    """
    damage: CorruptCheckpoint | None = None
    for name in (LAST, PREVIOUS):
        if not (run_dir / name).exists():
            continue
        try:
            found = read_checkpoint(run_dir / name)
        except CorruptCheckpoint as error:
            damage = damage or error
            continue
        if damage is not None:
            _LOG.warning("%s; going on from %s, step %d", damage, name, found.progress.step)
        return found
    if damage is not None:
        raise damage
    return None
