import subprocess
import sys
import textwrap

import pytest

pytest.importorskip("resource", reason="page faults are counted on Unix alone")

SCRIPT = """
import ctypes, resource
from train.freed_memory import keep_freed_memory
NO_HUGE_PAGES = 41  # PR_SET_THP_DISABLE: they would hide what is counted
ctypes.CDLL(None).prctl(NO_HUGE_PAGES, 1, 0, 0, 0)

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        parts = [bytearray(b"x") * (4 << 20) for _ in range(8)]
        del parts
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

before = faults()
told = keep_freed_memory()
faults()
print(int(told), before, faults())
"""


def test_memory_that_was_freed_is_not_faulted_in_again():
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    told, before, after = map(int, result.stdout.split())
    if not told:
        pytest.skip("the C library is not glibc")
    assert before > 1_000
    assert after < before / 10
