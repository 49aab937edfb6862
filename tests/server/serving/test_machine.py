"""What a process takes of its machine."""

import os
import subprocess
import sys

_THREADS = """
import ctypes, sys, threading
from server.serving.machine import share_heaps
if len(sys.argv) > 1:
    share_heaps(int(sys.argv[1]))
all_here = threading.Barrier(9)
def work():
    kept = [bytearray(1000 + number) for number in range(100)]
    all_here.wait()
    return kept
threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads:
    thread.start()
ctypes.CDLL(None).malloc_stats()
all_here.wait()
"""


def heaps(*most: str, **environment: str) -> int:
    ran = subprocess.run(
        [sys.executable, "-c", _THREADS, *most],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | environment,
    )
    return ran.stderr.count("Arena ")


def test_threads_share_as_many_heaps_as_are_wanted_unless_the_operator_has_said_how_many() -> None:
    assert heaps() > 3
    assert heaps("2") == 2
    assert heaps("2", MALLOC_ARENA_MAX="3") == 3
