"""Runs a small extraction again and again, with a fault at its n-th step on disk, for every n.

For each n one line of JSON is printed: what the step was, how the run ended, and what is wrong with the
store afterwards. Only a run that is to be killed has a process of its own: starting thousands would take
most of the time.
"""

import builtins
import contextlib
import errno
import io
import json
import os
import shutil
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import conftest
import numpy as np

import cache_schema
from cache_schema.blocks import process_owner
from cache_schema.storage import durable_files, local_storage

FAILED = ("c1",)
KILLED = 9
TAKES_SPACE = {"open", "write", "fsync", "mkdir", "link", "rename"}


class Steps:
    """Counts the steps of this process on files below a folder, and spoils one of them."""

    def __init__(self, folder: Path, at: int, kind: str) -> None:
        self._folder, self._at, self._kind = str(folder), at, kind
        self._count = 0
        self._files: dict[int, str] = {}
        # What a loss of power would take: contents and names that were not forced to disk.
        self._loose_files: set[str] = set()
        self._loose_names: dict[str, set[str]] = {}
        self._real: list[tuple[object, str, object]] = []
        self.spoiled = ""

    def take(self, name: str, place: str) -> None:
        if not place.startswith(self._folder):
            return
        self._count += 1
        if self._count != self._at:
            self._track(name, place)
        # A full disk stays full; a bad sector spoils one step.
        goes_on = self._kind == "ENOSPC" and self._count > self._at and name in TAKES_SPACE
        if self._count != self._at and not goes_on:
            return
        if not self.spoiled:
            self.spoiled = f"{name} {place.removeprefix(self._folder)}"
        if self._kind == "power":
            self._lose()
        if self._kind in {"exit", "power"}:
            os._exit(KILLED)
        if self._kind == "EIO" or name in TAKES_SPACE:
            code = getattr(errno, self._kind)
            raise OSError(code, os.strerror(code), place)

    def _track(self, name: str, place: str) -> None:
        if name == "write":
            self._loose_files.add(place)
        elif name == "fsync":
            self._loose_files.discard(place)
            self._loose_names.pop(place, None)
        elif name == "mkdir":
            self._name(place)

    def _name(self, place: str) -> None:
        self._loose_names.setdefault(str(Path(place).parent), set()).add(place)

    def _lose(self) -> None:
        """Takes back what was not forced to disk: the worst that a loss of power may do."""
        for place in self._loose_files:
            with contextlib.suppress(FileNotFoundError):
                os.truncate(place, 0)
        for names in self._loose_names.values():
            for place in map(Path, names):
                if place.is_dir():
                    shutil.rmtree(place)
                else:
                    place.unlink(missing_ok=True)

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        """Stands before everything that Python does to files."""
        for name in ("mkdir", "unlink", "rmdir", "utime"):
            self._count_calls(name, name)
        for name, kind in (("link", "link"), ("rename", "rename"), ("replace", "rename")):
            self._count_calls(name, kind)
        for name in ("write", "writev", "pwrite", "fsync", "fdatasync"):
            kind = "fsync" if "sync" in name else "write"
            self._count_calls(name, kind, _path_of)
        self._count_calls("open", "open")
        self._count_files()
        try:
            yield
        finally:
            for module, name, real in reversed(self._real):
                setattr(module, name, real)

    def _put(self, module: object, name: str, spoiled: object) -> None:
        self._real.append((module, name, getattr(module, name)))
        setattr(module, name, spoiled)

    def _count_calls(
        self, name: str, kind: str, path_of: Callable[[object], str] = os.fspath
    ) -> None:
        real = getattr(os, name)

        def spoiled(target: object, *arguments: object, **options: object) -> object:
            self.take(kind, path_of(target))
            answer = real(target, *arguments, **options)
            if kind in {"link", "rename"}:
                new = os.fspath(arguments[0])
                self._name(new)
                if path_of(target) in self._loose_files:
                    self._loose_files.add(new)
            return answer

        self._put(os, name, spoiled)

    def _count_files(self) -> None:
        steps, real = self, io.open

        class Spoiled(io.FileIO):
            def write(self, content: bytes) -> int | None:
                steps.take("write", os.fspath(self.name))
                return super().write(content)

        def spoiled(path: object, mode: str = "r", *arguments: object, **options: object) -> object:
            if isinstance(path, int):
                return real(path, mode, *arguments, **options)
            steps.take("open", os.fspath(path))
            if "b" not in mode or "r" in mode:
                return real(path, mode, *arguments, **options)
            return io.BufferedWriter(Spoiled(os.fspath(path), mode.replace("b", "")))

        self._put(io, "open", spoiled)
        self._put(builtins, "open", spoiled)


def _path_of(descriptor: int) -> str:
    return str(Path(f"/proc/self/fd/{descriptor}").readlink())


def work(store: Path, told: Path, ids: list[str]) -> None:
    """The whole of what extraction does with a store."""
    cache_schema.create_store(store, conftest.make_identity(), block_slots=4, segment_slots=4)
    with cache_schema.StoreWriter(store, conftest.make_identity(), job="swept") as writer:
        while todo := writer.pending(ids):
            claim = writer.claim(todo[: writer.block_slots])
            conftest.write_claimed(writer, claim, FAILED)
            with told.open("a") as file:
                file.write("".join(f"{clip_id}\n" for clip_id in claim.clip_ids))
        writer.compact()


def problems(folder: Path, ids: list[str], kind: str) -> Iterator[str]:
    """Yields what is wrong with a store after a fault, then lets a second run finish it."""
    store, told = folder / "disk" / "store", folder / "told"
    told.touch()
    kept = told.read_text().split()
    try:
        findings = cache_schema.verify_store(store)
    except cache_schema.StoreAbsent:
        findings = []
        if kept:
            yield f"{kept} were committed, and the store is absent"
    for finding in findings:
        if finding.severity != "notice" or (kind == "ENOSPC" and finding.code == "temporary"):
            yield f"after the fault: {finding}"
    work(store, told, ids)
    for finding in cache_schema.verify_store(store):
        if finding.severity != "notice":
            yield f"after the second run: {finding}"
    opened = cache_schema.open_store(store)
    if opened.clip_ids != [clip_id for clip_id in ids if clip_id not in FAILED]:
        yield f"after the second run: holds {opened.clip_ids}"
    for clip_id in opened.clip_ids:
        cls, patch = conftest.features(clip_id, opened.identity)
        same = np.array_equal(opened.read_cls([clip_id])[0], cls)
        if not (same and np.array_equal(opened.read_patches([clip_id])[0], patch)):
            yield f"after the second run: {clip_id} differs"
    done = told.read_text().split()
    if sorted(done) != sorted(set(done)):
        yield f"clips that were committed were done again: {done}"


def spoiled_run(folder: Path, ids: list[str], at: int, kind: str) -> dict[str, object]:
    """One run with a fault; where it ends by itself, tells how."""
    steps = Steps(folder / "disk", at, kind)
    ended = "untouched"
    with steps.counted():
        try:
            work(folder / "disk" / "store", folder / "told", ids)
        except (OSError, cache_schema.VideoDistillError) as error:
            ended = f"{type(error).__name__}: {error}"
    return {"step": steps.spoiled, "ended": ended}


def killed_run(folder: Path, ids: list[str], at: int, kind: str) -> dict[str, object]:
    """One run that ends in the middle of a step, as a killed process does."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            run = spoiled_run(folder, ids, at, kind)
            code = 0 if run["ended"] == "untouched" else 1
        finally:
            if code:
                traceback.print_exc()
                sys.stderr.flush()
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    ended = {0: "untouched", KILLED: "killed"}[code]
    return {"step": ended if code else "", "ended": ended}


def sweep(kind: str, folder: Path, ids: list[str], first: int) -> Iterator[dict[str, object]]:
    """Spoils the first step, the next, ... until a run takes fewer steps."""
    for at in range(first, 2000):
        (folder / "disk").mkdir(parents=True)
        # A claim belongs to its process. Each run and each check is to count as another one.
        with process_that_began(f"run {at}"):
            make = killed_run if kind in {"exit", "power"} else spoiled_run
            run = make(folder, ids, at, kind)
        with process_that_began(f"check {at}"):
            yield {**run, "problems": list(problems(folder, ids, kind))}
        shutil.rmtree(folder)
        if not run["step"]:
            return


@contextlib.contextmanager
def process_that_began(when: str) -> Iterator[None]:
    """Makes this process, and no other, seem to have begun at a time."""
    real = process_owner._start_of
    process_owner._start_of = lambda _pid: when
    try:
        yield
    finally:
        process_owner._start_of = real


def main(kind: str, folder: str, clips: str, careless: str = "") -> None:
    if careless:
        durable_files.sync_folder = local_storage.sync_folder = lambda _folder: None
    # Counted, but not done: it would take most of the time, and no power fails here but in name.
    os.fsync = lambda _descriptor: None
    ids = [f"c{number}" for number in range(int(clips))]
    # Before the first commit there is nothing that a careless store could lose.
    for line in sweep(kind, Path(folder), ids, 60 if careless else 1):
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
        if careless and line["problems"]:
            return
