"""Child processes that end with the command that started them."""

import os
import subprocess
import sys
import time

PARENT_OF_ONE = """
import multiprocessing, os, time
from concurrent.futures import ProcessPoolExecutor
from pipelines.parent_watch import end_with_parent
if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=end_with_parent) as pool:
        print(pool.submit(os.getpid).result(), flush=True)
        pool.submit(time.sleep, 600)
        time.sleep(600)
"""


def test_a_killed_parent_leaves_no_child(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(PARENT_OF_ONE)
    parent = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)
    with parent:
        child = int(parent.stdout.readline())
        parent.kill()
    deadline = time.monotonic() + 20
    while _lives(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _lives(child)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True
