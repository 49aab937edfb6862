"""Hashes of passwords on a machine that has no memory left."""

from __future__ import annotations

import subprocess
import sys

from server.store.people.passwords import hash_of

_WITHOUT_MEMORY = """
import resource
import sys
from server.domain.errors import RetryLater
from server.store.people.passwords import hash_of, is_right

known = sys.argv[1]  # made by another process: this one has never had the memory
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + 4_000_000  # a hash takes 19 MB
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for check in (lambda: is_right(known, "correct horse battery"), lambda: hash_of("another one")):
    try:
        print(check())
    except RetryLater as error:
        print(error.retry_after_s, error.detail)
"""


def test_without_memory_a_right_password_is_not_called_wrong() -> None:
    known = hash_of("correct horse battery")
    ran = subprocess.run(
        [sys.executable, "-c", _WITHOUT_MEMORY, known], capture_output=True, text=True, check=True, timeout=60
    )
    detail = "the server has no memory to check a password now: try again in a minute"
    assert ran.stdout.splitlines() == [f"60 {detail}"] * 2
