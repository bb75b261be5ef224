"""Files in the shapes that data sets come in, and where the real samples are, if they are."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

AGQA_RECORD = {
    "question": "Did they open a door before sitting?",
    "answer": "yes",
    "video_id": "AB12C",
    "global": ["exists", "sequencing"],
    "local": "-",
    "ans_type": "binary",
    "steps": 3,
    "semantic": "action",
    "structural": "verify",
}


@pytest.fixture(scope="session")
def agqa_record() -> dict[str, object]:
    return dict(AGQA_RECORD)


@pytest.fixture(scope="session")
def write_agqa() -> Callable[..., Path]:
    """Writes AGQA's two files, by default with one question each; returns the folder."""

    def write(root: Path, train: object = None, test: object = None) -> Path:
        root.mkdir(parents=True, exist_ok=True)
        (root / "train_balanced.txt").write_text(json.dumps(train or {"q1": AGQA_RECORD}))
        (root / "test_balanced.txt").write_text(json.dumps(test or {"q2": AGQA_RECORD}))
        return root

    return write


@pytest.fixture(scope="session")
def sample() -> Callable[[str], Path]:
    """The path of a real annotation file; skips the test where there is none."""
    folder = Path(__file__).parents[3] / "shared" / "samples" / "annotations"

    def find(name: str) -> Path:
        if not (folder / name).is_file():
            pytest.skip(f"the real sample {name} is not beside the project")
        return folder / name

    return find
