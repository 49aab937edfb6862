"""What a swap consists of besides the change itself: the request, one swap at a time, and the shadow run."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec

from server.domain.errors import ConfigurationError, Conflict
from server.engine import EnsembleHandle
from server.serving.shadow import Comparison, Shadow, Watched

log = logging.getLogger(__name__)


class Swap(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A request to serve `models`, after `shadow_s` seconds (or `shadow_frames` frames) in the shadow."""

    models: tuple[str, ...]
    shadow_s: float = 0.0
    shadow_frames: int = 0


class OneSwap:
    """Lets one swap run at a time. `counted` is called with `done` or `refused` after each."""

    def __init__(self, counted: Callable[[str], None]) -> None:
        self._lock = threading.Lock()
        self._counted = counted

    @contextmanager
    def running(self) -> Iterator[None]:
        """Raises Conflict while another swap runs. A ConfigurationError inside becomes a Conflict, and is logged."""
        if not self._lock.acquire(blocking=False):
            raise Conflict("not swapped: another swap is under way")
        try:
            yield
        except (ConfigurationError, Conflict) as error:
            self._counted("refused")
            log.warning("ensemble not swapped", extra={"detail": error.detail})
            if isinstance(error, Conflict):
                raise
            raise Conflict(f"not swapped: {error.detail}") from error
        else:
            self._counted("done")
        finally:
            self._lock.release()


def run_shadow(watched: Watched, handle: EnsembleHandle, swap: Swap) -> Comparison:
    """Compare the next ensemble's labels on live requests. Raises ConfigurationError when it fails on one."""
    watched.shadow = shadow = Shadow(handle, seconds=swap.shadow_s, frames=swap.shadow_frames)
    log.info("ensemble in the shadow", extra={"ensemble": handle.ensemble_info.ensemble, "seconds": swap.shadow_s})
    try:
        compared = shadow.run()
    except Exception as error:
        raise ConfigurationError(
            f"the next ensemble failed on a live request: {type(error).__name__}: {error}"
        ) from error
    finally:
        watched.shadow = None
    for changed in compared.changed:
        log.info("label differs", extra=msgspec.structs.asdict(changed))
    return compared
