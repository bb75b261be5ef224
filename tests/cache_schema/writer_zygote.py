"""Starts groups of writers by fork, so that hundreds can be started and killed in a test.

Reads one JSON request per line, ``{"store": folder, "lists": [[clip ids of one writer], ...]}``, prints
the process group of the writers at once and ``ended`` when all of them are gone, however they went.
"""

import json
import os
import sys
import time
import traceback
from pathlib import Path

import conftest
import pyarrow as pa
import zarr  # noqa: F401 -- loaded once here, not in every writer

import cache_schema

FAILED = ("c07",)


def work(store: str, clip_ids: list[str], job: str, pause_s: float) -> None:
    """A whole extraction without pictures: create, claim, write, commit, compact; tells what it did."""
    told = os.open(f"{store}.told", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    cache_schema.create_store(store, conftest.make_identity(), block_slots=4, segment_slots=8)
    with cache_schema.StoreWriter(store, conftest.make_identity(), job=job) as writer:
        while todo := writer.pending(clip_ids):
            claim = writer.claim(todo[:3])
            if claim is None:
                continue
            time.sleep(pause_s)
            conftest.write_claimed(writer, claim, FAILED)
            os.write(told, "".join(f"{clip_id}\n" for clip_id in claim.clip_ids).encode())
            if claim.block % 2:
                writer.compact()
        writer.compact()


def start_group(request: dict, alive: int) -> int:
    """Forks one process for each list of clips, all in a process group of their own."""
    leader = os.fork()
    if leader:
        return leader
    os.setsid()
    children = []
    for number, clip_ids in enumerate(request["lists"]):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                work(request["store"], clip_ids, f"job-{number}", request.get("pause_s", 0.0))
                code = 0
            finally:
                if code:
                    traceback.print_exc()
                    sys.stderr.flush()
                os._exit(code)
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    os.write(alive, json.dumps(codes).encode())
    os._exit(0)


def main() -> None:
    # A killed process loses nothing that the kernel has: forcing it to disk would only take time.
    os.fsync = lambda _descriptor: None
    # Whatever pyarrow loads late is loaded now, so that kills fall into the work.
    pa.table({"a": ["b"]}).column(0).to_pylist()
    for line in sys.stdin:
        request = json.loads(line)
        Path(request["store"]).parent.mkdir(exist_ok=True)
        # All writers hold the write end, so it closes with the last of them.
        ended, alive = os.pipe()
        leader = start_group(request, alive)
        os.close(alive)
        tell(str(leader))
        codes = b""
        while part := os.read(ended, 4096):
            codes += part
        os.close(ended)
        os.waitpid(leader, 0)
        tell(f"ended {codes.decode() or 'killed'}")


def tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
