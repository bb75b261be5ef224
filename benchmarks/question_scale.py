"""How long millions of questions take to prepare and to open: a synthetic AGQA of the real one's size.

    python -m benchmarks.question_scale [--rows 1600000] [--no-write]

Each step runs in a process of its own, whose peak memory is what the kernel reports of it. CPU seconds
are given beside the wall's, because other jobs on the machine lengthen only the latter.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.result_file import benchmark_parser, publish
from cache_schema import open_questions
from pipelines.datasets.json_stream import read_object
from pipelines.datasets.registry import find
from pipelines.prepared import load, prepare, prepared_folder

AGQA_ROWS = 1_600_894
VIDEOS = 9_600
LIMITS = {"prepare": "<= 120 s, <= 6 GB", "open": "<= 1 s"}
Step = Callable[[Path], object]


def write_annotations(root: Path, rows: int) -> int:
    """Writes AGQA's two files, with records of the shape and the mean length of the real ones."""
    draw = random.Random(0)  # noqa: S311
    root.mkdir(parents=True, exist_ok=True)
    path = root / "train_balanced.txt"
    with path.open("w", encoding="utf-8") as file:
        file.write("{")
        for row in range(rows):
            record = {
                "question": "Were they interacting with a blanket before holding the thing they "
                f"went behind {row % 9973}?",
                "answer": draw.choice(("yes", "no", "blanket", "before", "after")),
                "video_id": f"V{row % VIDEOS:05d}",
                "global": draw.choice((["exists"], ["obj-rel", "sequencing"])),
                "local": "yes-no-o4-while-c076",
                "ans_type": draw.choice(("binary", "open")),
                "steps": draw.randrange(1, 8),
                "semantic": draw.choice(("object", "relation", "action")),
                "structural": draw.choice(("query", "verify", "choose", "compare", "logic")),
                "novel_comp": 0,
                "more_steps": 0,
                "program": "Exists(o4, Iterate(Localize(while, c076), Filter(frame, [relations])))",
                "sg_grounding": {"36-60": [f"o4r9/{n:06d}" for n in range(22)], "61-90": []},
            }
            file.write(f"{', ' if row else ''}{json.dumps(f'V-{row}')}: {json.dumps(record)}")
        file.write("}")
    (root / "test_balanced.txt").write_text("{}", encoding="utf-8")
    return path.stat().st_size


def _parse(root: Path) -> object:
    path = root / "train_balanced.txt"
    with path.open(encoding="utf-8") as file:
        return sum(1 for _ in read_object(path, file))


def _prepare(root: Path) -> object:
    return prepare(find("agqa"), root).questions


def _open(root: Path) -> object:
    return len(open_questions(_questions(root)))


def _open_and_split(root: Path) -> object:
    table = open_questions(_questions(root)).in_split("val")
    return table[0], len(set(table.column("answer").to_pylist()))


def _open_all(root: Path) -> object:
    found = load(find("agqa"), root)
    return len(found.clips), len(found.questions)


def _records(root: Path) -> object:
    return sum(1 for _ in open_questions(_questions(root)))


def _questions(root: Path) -> Path:
    return prepared_folder(find("agqa"), root) / "questions.parquet"


STEPS: dict[str, tuple[str, Step]] = {
    "parse": ("stream the JSON, nothing else", _parse),
    "prepare": ("`data prepare agqa`: parse, check every row, write Parquet", _prepare),
    "open": ("open the question table", _open),
    "split": (
        "open, choose the validation questions, make one, take their answers",
        _open_and_split,
    ),
    "load": ("open all that training gets: clips and questions", _open_all),
    "records": ("make a record of every question, one after the other", _records),
}


def run_step(name: str, root: Path) -> dict[str, float]:
    """Runs one step in a fresh process; returns wall and CPU seconds of the step, and peak memory."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.question_scale",
        "--step",
        name,
        "--root",
        str(root),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def measured(name: str, root: Path) -> dict[str, float]:
    """Runs one step in this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    STEPS[name][1](root)
    return {
        "wall_s": time.perf_counter() - wall,
        "cpu_s": time.process_time() - cpu,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
    }


def table(found: dict[str, dict[str, float]]) -> list[str]:
    """Returns the figures as the lines of a Markdown table, CPU seconds beside those of the parser."""
    reference = found["parse"]["cpu_s"]
    return [
        "| step | wall s | CPU s | x the JSON alone | peak memory GB | aim |",
        "|---|--:|--:|--:|--:|---|",
        *(
            f"| {STEPS[name][0]} | {f['wall_s']:.2f} | {f['cpu_s']:.2f} "
            f"| {f['cpu_s'] / reference:.3f} | {f['peak_gb']:.2f} | {LIMITS.get(name, '')} |"
            for name, f in found.items()
        ),
    ]


def main() -> int:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--rows", type=int, default=AGQA_ROWS, help="questions")
    parser.add_argument(
        "--folder", type=Path, help="where the files are written; default: temporary"
    )
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        sys.stdout.write(json.dumps(measured(options.step, options.root)))
        return 0
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        root = Path(folder)
        size = write_annotations(root, options.rows)
        found = {name: run_step(name, root) for name in STEPS}
        parquet = _questions(root).stat().st_size
    publish(
        "question-scale",
        f"{options.rows:,} questions, prepared and opened",
        options,
        packages=["pyarrow", "numpy"],
        notes=[
            f"{size / 1e9:.2f} GB of JSON in AGQA's shape; as Parquet {parquet / 1e6:.0f} MB",
            "each step in a process of its own, imports not counted; files in the page cache",
        ],
        body=table(found),
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
