"""Argon2 hashes of passwords. Each takes about 20 MB and 30 ms of a processor, one at a time in a process."""

from __future__ import annotations

import threading
import unicodedata

from argon2 import PasswordHasher
from argon2.exceptions import HashingError, InvalidHashError, VerificationError, VerifyMismatchError

from server.domain.errors import RetryLater

# The least that OWASP's Password Storage Cheat Sheet recommends (m = 19 MiB, t = 2, p = 1): models and cameras use the
# same processors, and the library's default takes 64 MB and four threads.
_hasher = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)
_one_at_a_time = threading.Lock()
_nobody: list[str] = []


def hash_of(password: str) -> str:
    """The hash of a password, with its salt and parameters. Raises RetryLater without the memory for it."""
    with _one_at_a_time:
        try:
            return _hasher.hash(_normal(password))
        except HashingError as error:
            raise _no_memory(error) from None


def is_right(hash: str | None, password: str) -> bool:
    """Whether the password has this hash. Without a hash it takes as long, and is False.

    Raises RetryLater without the memory for it: a right password is never called wrong.
    """
    known = hash if hash is not None else _hash_of_nobody()
    with _one_at_a_time:
        try:
            _hasher.verify(known, _normal(password))
        except (VerifyMismatchError, InvalidHashError):
            return False
        except VerificationError as error:
            if "emory" in str(error):
                raise _no_memory(error) from None
            return False  # a hash that is damaged
    return hash is not None


def is_outdated(hash: str) -> bool:
    """Whether the hash was made with other parameters than those of now."""
    return _hasher.check_needs_rehash(hash)


def _hash_of_nobody() -> str:
    if not _nobody:
        _nobody.append(hash_of("the password of nobody"))
    return _nobody[0]


def _no_memory(error: Exception) -> RetryLater:
    return RetryLater(f"the server cannot check a password now ({error}): try again in a minute", retry_after_s=60)


def _normal(password: str) -> bytes:
    """The same bytes for a password however a keyboard composes its letters; half of a letter is as another one."""
    return unicodedata.normalize("NFKC", password).encode(errors="replace")
