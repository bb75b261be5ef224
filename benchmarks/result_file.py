"""What every benchmark says beside its figures, and the file that keeps it."""

import argparse
import os
import platform
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
NOT_TOLD = {"folder", "no_write"}
"""Options that change nothing in what is measured."""

_STARTED = time.monotonic()
_LOAD = os.getloadavg()[0]


def benchmark_parser(description: str) -> argparse.ArgumentParser:
    """A parser with the option that all benchmarks have; the description is the module's first line."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--no-write", action="store_true", help="keep no result file")
    return parser


def publish(
    name: str,
    title: str,
    options: argparse.Namespace,
    *,
    packages: Sequence[str],
    notes: Sequence[str],
    body: Sequence[str],
    device: str = "cpu",
) -> None:
    """Print a result, and keep it as `results/<name>_<hardware>_<date>.md` unless told not to.

    Args:
        name: of the module, with hyphens; what stands behind an underscore tells results of one
            module apart.
        title: what was measured.
        options: as parsed; repeated in the command.
        packages: whose versions matter.
        notes: how it was measured, an item of a list each.
        body: the figures, lines of Markdown.
        device: whose name is told as hardware.
    """
    module = name.partition("_")[0].replace("-", "_")
    versions = ", ".join(f"{package} {version(package)}" for package in packages)
    today = datetime.now(UTC).date()
    lines = [
        f"# {title}",
        "",
        f"- date: {today}",
        f"- hardware: {hardware(device)}",
        f"- load average {_LOAD:.1f} at the start, niceness {os.nice(0)}",
        f"- versions: Python {platform.python_version()}, {versions}, Linux {platform.release()}",
        (
            f"- command: `{' '.join(['python -m benchmarks.' + module, *_words(options)])}`, "
            f"{time.monotonic() - _STARTED:.0f} s"
        ),
        *(f"- {note}" for note in notes),
        "",
        *body,
        "",
    ]
    sys.stdout.write("\n".join(lines))
    if not options.no_write:
        RESULTS.mkdir(exist_ok=True)
        file = f"{name}_{platform.machine()}-{usable_cores()}core_{today}.md"
        (RESULTS / file).write_text("\n".join(lines), encoding="utf-8")


def hardware(device: str = "cpu") -> str:
    """The processor's name, what matters of its instructions, and the cores that this process may use."""
    if device != "cpu":
        import torch

        return torch.cuda.get_device_name(device)
    about = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    names = [line.split(":")[1].strip() for line in about.splitlines() if "model name" in line]
    bf16 = ", AVX-512 BF16" if "avx512_bf16" in about else ""
    return f"{names[0] if names else platform.machine()}, {usable_cores()} cores{bf16}"


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def _words(options: argparse.Namespace) -> list[str]:
    """Options as they are typed, those left to their defaults included."""
    words = []
    for key, value in vars(options).items():
        if key in NOT_TOLD or value is None or value is False:
            continue
        words.append(f"--{key.replace('_', '-')}")
        if value is not True:
            words += map(str, value if isinstance(value, list) else [value])
    return words
