"""How many images a minute each client may have judged."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from server.domain.buckets import Buckets
from server.domain.errors import OverQuota

_MINUTE_S = 60.0


class Quota:
    """`images_per_minute` for each client; 0: no limit. `on_refused` is called with each client that is refused.

    A token bucket that may go into debt. A request is checked before its body is read, when its pictures are not yet
    known; it is admitted while anything is left. Its pictures are charged before any is decoded, by
    `server.domain.pictures.picture_header.PictureHeader.cost`. Over time a client gets exactly its rate; at once it
    gets at most a minute's worth and one request.

    Safe to use from any thread; `clock` in seconds, monotonic.
    """

    def __init__(
        self,
        images_per_minute: int,
        *,
        on_refused: Callable[[str], None] = lambda _client: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._images_per_minute = images_per_minute
        self._buckets = Buckets(images_per_minute, images_per_minute / _MINUTE_S, clock)
        self._on_refused = on_refused

    def check(self, client: str) -> None:
        """Raises OverQuota, with the time until it has an image again, when `client` has none left."""
        wait_s = self._buckets.wait_s(client) if self._images_per_minute else 0.0
        if wait_s:
            self._on_refused(client)
            raise OverQuota(
                f"this client sent more than {self._images_per_minute} images a minute (`client_images_per_minute`)",
                retry_after_s=max(1, math.ceil(wait_s)),
            )

    def charge(self, client: str, images: float) -> None:
        """Take so many images off the client's quota; a negative number gives them back."""
        if self._images_per_minute:
            self._buckets.take(client, images)
