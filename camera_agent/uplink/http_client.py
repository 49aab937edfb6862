"""One POST of one burst, and what its answer means: a value, never an exception.

The body is `multipart/form-data` (RFC 7578), streamed from the spool: no copy of the burst is made in memory.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import requests
from requests.auth import AuthBase

from camera_agent import __version__
from camera_agent.clock import unix_s_of
from camera_agent.config.settings import ServerSettings
from camera_agent.network.connection_errors import why_unreached
from camera_agent.spool.entry import Damaged, Opened, Waiting
from camera_agent.wall_clock import Timekeeper

_log = logging.getLogger(__name__)
_MAX_ANSWER_BYTES = 16_000_000
_MAX_RETRY_AFTER_S = 3600.0
_MAX_SAID = 1000
_NEVER_AGAIN = frozenset({400, 413, 415, 422})
_NOT_ALLOWED = frozenset({401, 403})


class Receipt(msgspec.Struct, frozen=True):
    """What the server says of a burst it has; further fields are ignored."""

    burst_id: str
    labels: dict[str, list[str]] = {}
    events: list[dict[str, Any]] = []


class Accepted(msgspec.Struct, frozen=True):
    """The server has it: as a new burst, or `known` because it had it before."""

    receipt: Receipt
    known: bool


class Refused(msgspec.Struct, frozen=True):
    """It will never be accepted; `problem` is the server's own account."""

    status: int
    problem: str


class Unauthorised(msgspec.Struct, frozen=True):
    """The token is missing, unknown, or not for this camera."""

    problem: str


class Later(msgspec.Struct, frozen=True):
    """No link, a busy server, or an answer that is none of ours: send it again."""

    cause: str
    retry_after_s: float = 0.0


class Gone(msgspec.Struct, frozen=True):
    """The burst is no longer in the spool: it was dropped to make room."""


class Beat(msgspec.Struct, frozen=True):
    """What became of a heartbeat: the status (0: no answer), what was said with it, and for how long to wait."""

    status: int
    problem: str = ""
    retry_after_s: float = 0.0


Outcome = Accepted | Refused | Unauthorised | Later | Gone


class Poster:
    """Sends to one server over a connection that is kept. Not for several threads at once."""

    def __init__(self, server: ServerSettings, time: Timekeeper) -> None:
        self._url = server.url.rstrip("/")
        self._timeout_s = (server.connect_timeout_s, server.read_timeout_s)
        self._ca_file = server.ca_file
        self._time = time
        self._session = requests.Session()
        self._session.headers.update({"User-Agent": f"camera-agent/{__version__}", "Accept": "application/json"})
        self.bytes_sent = 0
        """Of requests, heads included, since this process began; as much as was handed to the socket."""
        self.bytes_received = 0
        """Of answers, likewise, as they come over the wire."""

    def post(self, waiting: Waiting, token: str | None) -> Outcome:
        """Send one burst. Raises nothing for what a network or a server can do."""
        try:
            opened = waiting.open()
        except FileNotFoundError:
            return Gone()
        except (Damaged, OSError) as error:
            return Refused(status=0, problem=f"damaged in the spool: {error}")
        try:
            return self._send(opened, token)
        except Damaged as error:
            return Refused(status=0, problem=f"damaged in the spool: {error}")
        except (requests.RequestException, OSError) as error:
            return Later(cause=why_unreached(error, self._url))
        finally:
            opened.close()

    def beat(self, document: bytes, token: str | None) -> Beat:
        """Send one heartbeat (`heartbeat`). Raises nothing, likewise."""
        headers = {"Content-Type": "application/json"}
        request = requests.Request("POST", f"{self._url}/v1/heartbeats", headers, data=document, auth=_Bearer(token))
        try:
            with self._exchange(request) as answer:
                self.bytes_sent += len(document)
                said = _problem(self._content(answer)) if not answer.ok else ""
                return Beat(answer.status_code, said, self._retry_after_s(answer))
        except (requests.RequestException, OSError) as error:
            return Beat(0, why_unreached(error, self._url))

    def hear_time(self) -> None:
        """Ask for nothing: whatever a server answers, it tells the time with it."""
        with (
            contextlib.suppress(requests.RequestException, OSError),
            self._exchange(requests.Request("HEAD", self._url)),
        ):
            pass

    def close(self) -> None:
        self._session.close()

    def _send(self, opened: Opened, token: str | None) -> Outcome:
        body = _Body(opened, self._time.unix_ms())
        headers = {"Content-Type": f"multipart/form-data; boundary={body.boundary}"}
        request = requests.Request("POST", f"{self._url}/v1/bursts", headers, data=body, auth=_Bearer(token))
        try:
            with self._exchange(request) as answer:
                return self._judge(answer, self._content(answer), opened.envelope.burst_id)
        finally:
            self.bytes_sent += body.given_bytes

    def _exchange(self, request: requests.Request) -> requests.Response:
        """Send and have the answer's head; both heads are counted, and the server's time is heard."""
        prepared = self._session.prepare_request(request)
        environment = self._session.merge_environment_settings(
            self._url, {}, stream=True, verify=self._ca_file, cert=None
        )
        if self._ca_file is not None:
            environment["verify"] = self._ca_file  # whatever the environment says
        self.bytes_sent += len(f"{prepared.method} {prepared.path_url} HTTP/1.1\r\n\r\n") + _head_bytes(
            prepared.headers
        )
        answer = self._session.send(prepared, timeout=self._timeout_s, allow_redirects=False, **environment)
        self._time.heard(answer.headers.get("Date"))
        self.bytes_received += len(f"HTTP/1.1 {answer.status_code} {answer.reason}\r\n\r\n") + _head_bytes(
            answer.headers
        )
        return answer

    def _content(self, answer: requests.Response) -> bytes:
        """The answer's bytes, up to a bound that no receipt reaches."""
        content = bytearray()
        try:
            for piece in answer.iter_content(64 * 1024):
                content += piece
                if len(content) > _MAX_ANSWER_BYTES:
                    break
        finally:
            self.bytes_received += answer.raw.tell()
        return bytes(content)

    def _judge(self, answer: requests.Response, content: bytes, burst_id: str) -> Outcome:
        status = answer.status_code
        if status in (200, 201):
            try:
                receipt = msgspec.json.decode(content, type=Receipt)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                receipt = Receipt(burst_id="")
            # A hotel's sign-in page also answers 200: only the server's own receipt lets go of a burst.
            if receipt.burst_id != burst_id:
                return Later(cause=f"HTTP {status} without a receipt for this burst: is that the right server?")
            return Accepted(receipt=receipt, known=status == 200)
        problem = f"HTTP {status} {_problem(content)}"
        if status in _NEVER_AGAIN:
            return Refused(status=status, problem=problem)
        if status in _NOT_ALLOWED:
            return Unauthorised(problem=problem)
        return Later(cause=problem, retry_after_s=self._retry_after_s(answer))

    def _retry_after_s(self, answer: requests.Response) -> float:
        return retry_after_s(answer.headers.get("Retry-After"), self._time.unix_ms() / 1000)


def retry_after_s(header: str | None, unix_s: float) -> float:
    """`Retry-After` (RFC 9110, section 10.2.3) in seconds from now, both forms; 0 without a usable one; an hour
    at most.
    """
    if header is None:
        return 0.0
    if header.strip().isdecimal():
        return min(float(header), _MAX_RETRY_AFTER_S)
    at_s = unix_s_of(header)
    return 0.0 if at_s is None else min(max(0.0, at_s - unix_s), _MAX_RETRY_AFTER_S)


class _Body:
    """The multipart body as an iterable of known length, which is what makes `requests` stream it with a
    Content-Length.
    """

    def __init__(self, opened: Opened, sent_ms: int) -> None:
        envelope = opened.envelope.sent(sent_ms)
        self.boundary = f"burst-{envelope.burst_id}"
        self.given_bytes = 0
        self._opened = opened
        self._head = self._part('name="burst"', "application/json") + msgspec.json.encode(envelope)
        self._frame_heads = [
            b"\r\n" + self._part(f'name="file"; filename="{index:03d}.jpg"', "image/jpeg")
            for index in range(len(opened.frame_bytes))
        ]
        self._tail = f"\r\n--{self.boundary}--\r\n".encode()

    def __len__(self) -> int:
        texts = (self._head, *self._frame_heads, self._tail)
        return sum(len(text) for text in texts) + sum(self._opened.frame_bytes)

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces():
            self.given_bytes += len(piece)
            yield piece

    def _pieces(self) -> Iterator[bytes]:
        yield self._head
        for head, size_bytes in zip(self._frame_heads, self._opened.frame_bytes, strict=True):
            yield head
            yield from self._opened.pieces(size_bytes)
        yield self._tail

    def _part(self, disposition: str, media_type: str) -> bytes:
        head = f"Content-Disposition: form-data; {disposition}\r\nContent-Type: {media_type}"
        return f"--{self.boundary}\r\n{head}\r\n\r\n".encode()


class _Bearer(AuthBase):
    """Also keeps `requests` from taking a password for this host out of a `.netrc`."""

    def __init__(self, token: str | None) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._token is not None:
            request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def _head_bytes(headers: Mapping[str, str | bytes]) -> int:
    return sum(len(name) + len(value) + 4 for name, value in headers.items())


def _problem(content: bytes) -> str:
    """The title and detail of a problem document (RFC 9457), else of whatever text came; the beginning of each."""
    try:
        document = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return " ".join(content[:_MAX_SAID].decode("utf-8", "replace").split())
    if not isinstance(document, dict):
        return ""
    said = (document.get(key) for key in ("title", "detail"))
    text = ": ".join(part[:_MAX_SAID] for part in said if isinstance(part, str) and part)
    frame = document.get("frame")
    return f"{text} (frame {frame})" if isinstance(frame, int) else text
