"""Admission control: which uploads are received, and which are in work, at once.

An upload goes through two bounds, each shared out by client. First it is received: its body is read into memory, and
`admission_limit` bodies are received at once, of `total_bytes` declared bytes together. A client that sends slowly, or
much at once, fills its own share only. Then, with its body there, it takes one of as many places and is worked on.
Clients whose uploads wait for a place get them in turn.

What has no room waits a moment, its body unread, and is then refused with 503 and `Retry-After`: so a client that asks
again at once takes less of the server's time. A client that is beyond its quota is refused at once. Work is charged
when a place is taken, before any picture is decoded. It stays charged, unless no picture was decoded after all: the
burst was known, or it was refused before that.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from server.domain.errors import RetryLater, SectorwatchError
from server.domain.on_behalf import on_behalf_of
from server.web.admission.quota import Quota
from server.web.admission.shares import Shares

PLACE_WITHIN_S = 10.0
RECEIVED_WITHIN_S = 2.0
PATIENT = 2
"""For each upload that is received, so many more may wait, each in a request thread; others are refused at once."""

SMALL_BODY_BYTES = 8192
"""A request thread is given a request whose body has a known length up to this when all of it is here.

See `server.hosting.whole_requests`. A heartbeat takes about an eighth of it.
"""


class Upload:
    """An upload that is being received. Call `begin` once, when its body is there and its cost is known."""

    def __init__(self, admission: Admission, client: str, counted_bytes: int) -> None:
        self._admission = admission
        self.client = client
        self.counted_bytes = counted_bytes
        self.charged = 0.0
        self.has_place = False

    def begin(self, cost: float) -> None:
        """Take a place, waiting for one in turn, and charge `cost` (images) to the client.

        Raises OverQuota, and RetryLater when no place became free in time.
        """
        self._admission.take_place(self, cost)

    def refund(self) -> None:
        """Give back what was charged, because no picture was decoded."""
        self._admission.refund(self)


class Admission:
    """At most `limit` uploads received and as many in work at once, and `total_bytes` declared bytes of bodies.

    `body_bytes` is the largest body there may be, and what an upload without a declared length counts. `refuse_if_full`
    raises RetryLater when the engine has no room for a client; `retry_after_s` estimates when it will have some.
    `in_work` is how many uploads have a place now. Safe to use from any thread.
    """

    def __init__(
        self,
        limit: int,
        *,
        body_bytes: int,
        total_bytes: int,
        refuse_if_full: Callable[[str], None] = lambda _client: None,
        retry_after_s: Callable[[], int] = lambda: 1,
        quota: Quota | None = None,
        received_within_s: float = RECEIVED_WITHIN_S,
        place_within_s: float = PLACE_WITHIN_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._body_bytes = body_bytes
        self._refuse_if_full = refuse_if_full
        self._retry_after_s = retry_after_s
        self._quota = quota or Quota(0)
        self._received_within_s = received_within_s
        self._place_within_s = place_within_s
        self._may_wait = PATIENT * limit
        self.closed = False
        self._receiving = Shares(limit, clock)
        self._bytes = Shares(max(total_bytes, body_bytes), clock)
        self._places = Shares(limit, clock)
        self._waiting: dict[str, deque[Upload]] = {}
        """Client -> its uploads that wait for a place; the client whose turn is next comes first."""
        self._changed = threading.Condition()

    @property
    def in_work(self) -> int:
        return self._places.held

    @property
    def received(self) -> int:
        """How many uploads are being received, or wait for a place."""
        return self._receiving.held

    def check_open(self) -> None:
        """Raises RetryLater once the server is stopping."""
        if self.closed:
            raise RetryLater("this server is stopping", retry_after_s=10)

    @contextmanager
    def admitted(self, client: str, declared_bytes: int | None = None) -> Iterator[Upload]:
        """Holds the client's share of what is bounded during the `with` block, which works on behalf of the client.

        Raises RetryLater, before the body is read, when there is no room for this client.
        """
        self.check_open()
        self._quota.check(client)
        self._refuse_if_full(client)
        with self.receiving(client, declared_bytes) as upload, on_behalf_of(client):
            try:
                yield upload
            except SectorwatchError as error:
                if not error.begun:
                    upload.refund()
                raise

    @contextmanager
    def receiving(self, client: str, declared_bytes: int | None = None) -> Iterator[Upload]:
        """Holds the client's share of the bodies that are received during the `with` block. Raises RetryLater."""
        upload = self._received(client, declared_bytes)
        try:
            yield upload
        finally:
            with self._changed:
                self._bytes.give_back(client, upload.counted_bytes)
                (self._places if upload.has_place else self._receiving).give_back(client)
                self._give_places()

    def receiving_json(self, client: str, declared_bytes: int | None) -> AbstractContextManager[object]:
        """As `receiving`, for the body of a small request, which has arrived and takes no share."""
        is_here = declared_bytes is not None and declared_bytes <= SMALL_BODY_BYTES
        return nullcontext() if is_here else self.receiving(client, declared_bytes)

    def take_place(self, upload: Upload, cost: float) -> None:
        """See `Upload.begin`."""
        self._quota.check(upload.client)
        with self._changed:
            self._places.ask(upload.client)
            self._waiting.setdefault(upload.client, deque()).append(upload)
            self._give_places()
            if not self._changed.wait_for(lambda: upload.has_place, self._place_within_s):
                self._stop_waiting(upload)
                raise RetryLater(
                    f"no place became free in {self._place_within_s:g} s", retry_after_s=self._retry_after_s()
                )
        upload.charged += cost
        self._quota.charge(upload.client, cost)

    def refund(self, upload: Upload) -> None:
        """See `Upload.refund`."""
        self._quota.charge(upload.client, -upload.charged)
        upload.charged = 0.0

    def close(self) -> None:
        """Refuse everything from now on; admitted uploads finish. Takes no lock: a signal handler may call it."""
        self.closed = True

    def _received(self, client: str, declared_bytes: int | None) -> Upload:
        counted_bytes = self._body_bytes if declared_bytes is None else min(declared_bytes, self._body_bytes)
        with self._changed:
            self._receiving.ask(client)
            self._bytes.ask(client)
            if self._waited_for_room(client, counted_bytes):
                self._receiving.take(client)
                self._bytes.take(client, counted_bytes)
                return Upload(self, client, counted_bytes)
            uploads, bodies = self._receiving.held_by(client), self._bytes.held_by(client)
        raise RetryLater(
            f"no room for another upload of {counted_bytes} bytes: this client has {uploads} uploads under way, and "
            f"{bodies} bytes here",
            retry_after_s=self._retry_after_s(),
        )

    def _waited_for_room(self, client: str, counted_bytes: int) -> bool:
        """Whether the client has room for another upload, now or soon. The lock is held."""

        def has_room() -> bool:
            return self._receiving.has_room(client) and self._bytes.has_room(client, counted_bytes)

        if has_room() or not self._may_wait:
            return has_room()
        self._may_wait -= 1
        try:
            return self._changed.wait_for(has_room, self._received_within_s)
        finally:
            self._may_wait += 1

    def _give_places(self) -> None:
        """A place to each client that waits and has room, in turn, while there are any. The lock is held."""
        while served := [client for client in self._waiting if self._places.has_room(client)]:
            for client in served:
                if self._places.has_room(client):
                    self._give_place(client)
        self._changed.notify_all()

    def _give_place(self, client: str) -> None:
        waiting = self._waiting.pop(client)
        upload = waiting.popleft()
        upload.has_place = True
        self._receiving.give_back(client)
        self._places.take(client)
        if waiting:
            self._waiting[client] = waiting  # behind all others

    def _stop_waiting(self, upload: Upload) -> None:
        """The lock is held."""
        waiting = self._waiting[upload.client]
        waiting.remove(upload)
        if not waiting:
            del self._waiting[upload.client]
