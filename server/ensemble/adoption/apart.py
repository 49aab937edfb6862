"""Examines a file in a child process, so that a file that runs code changes nothing and ends.

The child runs in an empty folder and an environment without secrets, makes no file beyond that folder and none with
content (`server.domain.files.confinement`), and is ended with all that it started when its time is over.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from typing import IO

import msgspec

from server.domain.errors import ConfigurationError
from server.ensemble.adoption.child import Answer, Limits, Order, Refusal, out_of_memory
from server.ensemble.adoption.examination import Question, Seen, check_unread

_answer_line = msgspec.json.Decoder(Answer)

_PROGRAM = """
from server.domain.files.confinement import confine_writing
confined = confine_writing(".")
from server.ensemble.adoption.child import main
main(confined)
"""
_MOST_BYTES = 256 * 1024
_KEPT = ("LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "PATH", "SYSTEMROOT")
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""Set to 1: threads that a library starts at its import would not be confined."""
_NOT_CONFINED = {
    "no": "this system has no Landlock (Linux 5.13 or newer), so what ran could write files: its time, its memory and "
    "the size of its files were limited",
    "partly": "this kernel is older than Linux 6.2, so what ran could shorten files, though not write into them",
}


class InChild(Exception):
    """What a library raised in the child process."""


def examined(question: Question, limits: Limits) -> Seen:
    """What `examine` finds, in a child process. Remarks say so if the kernel does not forbid it to write files.

    Raises ConfigurationError as `examine` does, and for a file that takes more than `limits`, ends the process or
    answers with nonsense.
    """
    check_unread(question)
    order = Order(question, limits)
    with tempfile.TemporaryFile() as asked, tempfile.TemporaryFile() as errors:
        asked.write(msgspec.json.encode(order))
        asked.seek(0)
        until_s = time.monotonic() + limits.within_s
        line, code = _answer_of(asked, errors, until_s)
        is_late = time.monotonic() >= until_s or code == -signal.SIGXCPU
        errors.seek(0)
        said = errors.read(_MOST_BYTES).decode(errors="replace")
    try:
        answer = _answer_line.decode(line)
    except msgspec.MsgspecError as error:
        raise ConfigurationError(_ended(order, code, is_late=is_late)) from InChild(said.strip() or str(error))
    result = answer.result
    if isinstance(result, Refusal):
        cause = InChild(result.said)
        cause.add_note(result.traceback)
        raise ConfigurationError(_printable(result.detail)) from (cause if result.traceback else None)
    remarks = [_printable(remark) for remark in result.remarks]
    if result.code and answer.confined in _NOT_CONFINED:
        remarks.append(_NOT_CONFINED[answer.confined])
    return msgspec.structs.replace(result, remarks=tuple(remarks))


def _answer_of(asked: IO[bytes], errors: IO[bytes], until_s: float) -> tuple[bytes, int]:
    """The first line that the child writes, and its exit code (negative: a signal's number)."""
    with tempfile.TemporaryDirectory(prefix="sectorwatch-adoption-", ignore_cleanup_errors=True) as empty:
        child = subprocess.Popen(
            [sys.executable, "-P", "-c", _PROGRAM],
            cwd=empty,
            env=_environment(empty),
            stdin=asked,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
        )
        assert child.stdout is not None
        with child.stdout as answering:
            try:
                line = _first_line(answering.fileno(), until_s)
                if line:
                    with suppress(subprocess.TimeoutExpired):
                        child.wait(1)
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
                code = child.wait()
    return line, code


def _first_line(descriptor: int, until_s: float) -> bytes:
    line = b""
    while len(line) < _MOST_BYTES and b"\n" not in line:
        readable, _, _ = select.select([descriptor], [], [], max(0.0, until_s - time.monotonic()))
        chunk = os.read(descriptor, 65536) if readable else b""
        if not chunk:
            return line
        line += chunk
    return line


def _ended(order: Order, code: int, *, is_late: bool) -> str:
    """What to say of a child that gave no answer."""
    file, limits = order.question.file, order.limits
    if is_late:
        return (
            f"{file} is not examined within {limits.within_s:.0f} s: its network does not end, or it is too slow to be "
            "served here"
        )
    if code < 0:
        ended = f"{file} ends the process that reads it ({signal.Signals(-code).name}): it is damaged, or it"
        return out_of_memory(order).replace(file, ended, 1)
    return f"{file} is not examined: the process that reads it ended with {code}, without an answer (--verbose: why)"


def _environment(empty: str) -> dict[str, str]:
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    return kept | {
        **dict.fromkeys(_ONE_THREAD, "1"),
        **dict.fromkeys(("HOME", "TMPDIR"), empty),
        "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
        "PYTHONDONTWRITEBYTECODE": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }


def _printable(text: str) -> str:
    """The text without signs that steer a terminal."""
    return "".join(sign if sign.isprintable() else " " for sign in text)
