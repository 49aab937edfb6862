"""Argon2 hashes of passwords. Each takes about 20 MB and 30 ms of a processor, one at a time in a process."""

from __future__ import annotations

import threading
import time
import unicodedata
from collections.abc import Callable
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import HashingError, InvalidHashError, VerificationError
from argon2.low_level import error_to_str

from server.domain.errors import RetryLater

# The least that OWASP's Password Storage Cheat Sheet recommends (m = 19 MiB, t = 2, p = 1): models and cameras use the
# same processors, and the library's default takes 64 MB and four threads.
_hasher = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)
_one_at_a_time = threading.Lock()
_nobody: list[str] = []

_NO_MEMORY = error_to_str(-22)  # the library's ARGON2_MEMORY_ALLOCATION_ERROR
_PAUSES_S = (0.0, 0.1, 0.5)
"""Before each try."""
_Result = TypeVar("_Result")


def hash_of(password: str) -> str:
    """The hash of a password, with its salt and parameters. Raises RetryLater without the memory for it."""
    return _with_memory(lambda: _hasher.hash(_normal(password)))


def is_right(hash: str | None, password: str) -> bool:
    """Whether the password has this hash. Without a hash it takes as long, and is False.

    Raises RetryLater without the memory for it: a right password is never called wrong.
    """
    known = hash if hash is not None else _hash_of_nobody()
    try:
        _with_memory(lambda: _hasher.verify(known, _normal(password)))
    except (VerificationError, InvalidHashError):
        return False
    return hash is not None


def is_outdated(hash: str) -> bool:
    """Whether the hash was made with other parameters than those of now."""
    return _hasher.check_needs_rehash(hash)


def _hash_of_nobody() -> str:
    if not _nobody:
        _nobody.append(hash_of("the password of nobody"))
    return _nobody[0]


def _with_memory(work: Callable[[], _Result]) -> _Result:
    """What the work returns, which is tried again while it has no memory. Raises what else it raises."""
    for pause_s in _PAUSES_S:
        time.sleep(pause_s)
        try:
            with _one_at_a_time:
                return work()
        except (HashingError, VerificationError) as error:
            if str(error) != _NO_MEMORY:
                raise
    raise RetryLater("the server has no memory to check a password now: try again in a minute", retry_after_s=60)


def _normal(password: str) -> bytes:
    """The same bytes for a password however a keyboard composes its letters; half of a letter is as another one."""
    return unicodedata.normalize("NFKC", password).encode(errors="replace")
