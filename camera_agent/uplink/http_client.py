"""One HTTP request to the server, and what its answer means: a value, never an exception.

A burst's body is `multipart/form-data` (RFC 7578), streamed from the spool without a copy in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

import msgspec
import requests
from requests.auth import AuthBase

from camera_agent import __version__
from camera_agent.clock import unix_s_of
from camera_agent.config.settings import ServerSettings
from camera_agent.network.certificates import SERVER
from camera_agent.network.connection_errors import explain_https_error
from camera_agent.network.proxies import through_proxy
from camera_agent.network.trust_adapter import TrustAdapter
from camera_agent.spool.entry import PASSING, Damaged, Header, SpoolEntry
from camera_agent.uplink.byte_budget import wire_bytes
from camera_agent.wall_clock import WallClock

_MAX_ANSWER_BYTES = 16_000_000
_MAX_RETRY_AFTER_S = 3600.0
_MAX_PROBLEM = 1000
_NEVER_AGAIN = frozenset({400, 413, 415, 422})
_NOT_ALLOWED = frozenset({401, 403})
_OURS = "urn:sectorwatch:problem:"
"""Only the server's own problems remove a burst for good: a proxy also answers 400 or 413."""
_NOT_OURS = "not an answer of Sectorwatch's server; does a proxy limit the size of a request?"
_OF_CAMERA = frozenset({"urn:sectorwatch:problem:later", "urn:sectorwatch:problem:over-quota"})
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Receipt(msgspec.Struct, frozen=True):
    """The server's answer to a burst that it has; further fields are ignored. `votes` are the targets that a model's
    answer is a vote for; servers before version 0.3.0 do not send them. `observations` are read where they are shown.
    """

    burst_id: str
    labels: dict[str, list[str]] = {}
    votes: dict[str, list[list[str]]] = {}
    observations: msgspec.Raw = msgspec.Raw(b"[]")
    events: list[dict[str, Any]] = []


class _ServerIs(msgspec.Struct, frozen=True):
    version: str = ""


_receipt = msgspec.json.Decoder(Receipt)
_server_is = msgspec.json.Decoder(_ServerIs)


class Accepted(msgspec.Struct, frozen=True):
    """The server has the burst: as a new one, or `known` because it already had it."""

    receipt: Receipt
    known: bool


class Refused(msgspec.Struct, frozen=True):
    """The server will never accept the burst; `problem` is its reason."""

    problem: str


class Unauthorised(msgspec.Struct, frozen=True):
    """The token is missing, unknown, or not for this camera (`is_of_another`)."""

    problem: str
    is_of_another: bool = False


class RetryLater(msgspec.Struct, frozen=True):
    """No connection, a busy server, or an answer that is not this server's: send the burst again.

    `is_of_camera`: the server itself has no room for this camera now, which says nothing of other cameras.
    `is_of_burst`: something before the server did not let this burst through, which says nothing of the next one.
    """

    cause: str
    retry_after_s: float = 0.0
    is_of_camera: bool = False
    is_of_burst: bool = False


class Gone(msgspec.Struct, frozen=True):
    """The burst is no longer in the spool: it was dropped to make room."""


Outcome = Accepted | Refused | Unauthorised | RetryLater | Gone


class HeartbeatAnswer(msgspec.Struct, frozen=True):
    """The HTTP status (0: no answer), the problem, and how long the server asks to wait."""

    status: int
    problem: str = ""
    retry_after_s: float = 0.0


class HttpClient:
    """Sends to one server over a kept connection. For one thread at a time."""

    def __init__(self, server: ServerSettings, wall_clock: WallClock) -> None:
        self._url = server.url.rstrip("/")
        self._timeout_s = (server.connect_timeout_s, server.read_timeout_s)
        self._trust = server.trust
        self._wall_clock = wall_clock
        self._session = requests.Session()
        self._session.auth = _Bearer(None)
        adapter = TrustAdapter(server.trust)
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)
        self._session.headers.update({"User-Agent": f"camera-agent/{__version__}", "Accept": "application/json"})
        self._sent_bytes = 0
        self._received_bytes = 0

    def send_burst(self, entry: SpoolEntry, token: str | None) -> Outcome:
        """Send one burst. Raises nothing for faults of network, server or spool."""
        try:
            with entry.open() as (header, frames):
                return self._send(header, frames, token)
        except FileNotFoundError:
            return Gone()
        except (Damaged, OSError) as error:
            if isinstance(error, OSError) and error.errno in PASSING:
                return RetryLater(f"the spool cannot be read now: {error.strerror}")
            return Refused(f"damaged in the spool: {error}")

    def send_heartbeat(self, document: bytes, token: str | None) -> HeartbeatAnswer:
        """Send one heartbeat. Raises nothing for faults of network or server."""
        try:
            with self._post("heartbeats", "application/json", token, [document], len(document)) as answer:
                problem = "" if answer.ok else _problem(self._read(answer)) + through_proxy(self._url)
                return HeartbeatAnswer(answer.status_code, problem, self._retry_after_s(answer))
        except (requests.RequestException, OSError) as error:
            return HeartbeatAnswer(0, self._explain(error))

    def fetch_version(self) -> str:
        """The server's version, which it says without a token; empty without an answer."""
        try:
            with self._exchange(requests.Request("GET", f"{self._url}/v2")) as answer:
                return _server_is.decode(self._read(answer)).version
        except (requests.RequestException, OSError, *_UNREADABLE):
            return ""

    def fetch_site_policy(self, site: str, camera: str, token: str | None) -> bytes:
        """What the server makes of the site's file, as JSON; empty without an answer, as from an older server."""
        query = {"site": site, "camera": camera}
        request = requests.Request("GET", f"{self._url}/v1/site-policy", params=query, auth=_Bearer(token))
        try:
            with self._exchange(request) as answer:
                content = self._read(answer)
                return content if answer.ok else b""
        except (requests.RequestException, OSError):
            return b""

    def fetch_time(self) -> RetryLater | None:
        """Learn the server's time from the answer to a small question. Returns why none came."""
        try:
            with self._exchange(requests.Request("GET", f"{self._url}/v2")) as answer:
                self._read(answer)
        except (requests.RequestException, OSError) as error:
            return RetryLater(self._explain(error))
        return None

    def take_traffic(self) -> tuple[int, int]:
        """Bytes of requests, and bytes on the wire in both directions, since the last call. Headers are included."""
        sent, received = self._sent_bytes, self._received_bytes
        self._sent_bytes = self._received_bytes = 0
        return sent, wire_bytes(sent) + wire_bytes(received)

    def close(self) -> None:
        self._session.close()

    def _send(self, header: Header, frames: Iterable[Iterable[bytes]], token: str | None) -> Outcome:
        envelope = header.envelope.sent(self._wall_clock.unix_ms())
        boundary = f"burst-{envelope.burst_id}"
        heads = [_part_head(boundary, 'name="burst"', "application/json") + msgspec.json.encode(envelope)]
        for index in range(len(header.frame_bytes)):
            disposition = f'name="file"; filename="{index:03d}.jpg"'
            heads.append(b"\r\n" + _part_head(boundary, disposition, "image/jpeg"))
        end = f"\r\n--{boundary}--\r\n".encode()
        parts = (chain([head], frame) for head, frame in zip(heads[1:], frames, strict=True))
        body = chain(heads[:1], chain.from_iterable(parts), [end])
        size_bytes = sum(map(len, heads)) + sum(header.frame_bytes) + len(end)
        try:
            with self._post("bursts", f"multipart/form-data; boundary={boundary}", token, body, size_bytes) as answer:
                return self._outcome(answer, self._read(answer), envelope.burst_id)
        except (requests.RequestException, OSError) as error:
            return RetryLater(self._explain(error))

    def _post(
        self, path: str, content_type: str, token: str | None, body: Iterable[bytes], size_bytes: int
    ) -> requests.Response:
        headers = {"Content-Type": content_type, "Content-Length": str(size_bytes)}
        return self._exchange(requests.Request("POST", f"{self._url}/v1/{path}", headers, auth=_Bearer(token)), body)

    def _counted(self, body: Iterable[bytes]) -> Iterator[bytes]:
        for piece in body:
            self._sent_bytes += len(piece)
            yield piece

    def _exchange(self, request: requests.Request, body: Iterable[bytes] = ()) -> requests.Response:
        """Send the request and read the answer's headers. Counts what is sent and takes in the server's time.

        The body is streamed: the request already has its length.
        """
        prepared = self._session.prepare_request(request)
        if body:
            prepared.body = self._counted(body)  # type: ignore[assignment]
        options = self._session.merge_environment_settings(self._url, {}, stream=True, verify=None, cert=None)
        request_line = f"{prepared.method} {prepared.path_url} HTTP/1.1\r\n\r\n"
        self._sent_bytes += len(request_line) + _header_bytes(prepared.headers)
        answer = self._session.send(prepared, timeout=self._timeout_s, allow_redirects=False, **options)
        self._wall_clock.observe_date(answer.headers.get("Date"))
        status_line = f"HTTP/1.1 {answer.status_code} {answer.reason}\r\n\r\n"
        self._received_bytes += len(status_line) + _header_bytes(answer.headers)
        return answer

    def _explain(self, error: Exception) -> str:
        return explain_https_error(error, self._url, self._trust, SERVER, self._timeout_s[0])

    def _read(self, answer: requests.Response) -> bytes:
        """The answer's body, up to a bound that no receipt reaches."""
        content = bytearray()
        try:
            for piece in answer.iter_content(64 * 1024):
                content += piece
                if len(content) > _MAX_ANSWER_BYTES:
                    break
        finally:
            self._received_bytes += answer.raw.tell()
        return bytes(content)

    def _outcome(self, answer: requests.Response, content: bytes, burst_id: str) -> Outcome:
        status = answer.status_code
        if status in (200, 201):
            try:
                receipt = _receipt.decode(content)
            except _UNREADABLE:
                receipt = Receipt(burst_id="")
            # A captive portal also answers 200: only a receipt for this burst removes it from the spool.
            if receipt.burst_id != burst_id:
                return RetryLater(f"HTTP {status} without a receipt for this burst: is that the right server?")
            return Accepted(receipt, known=status == 200)
        problem = f"HTTP {status} {_problem(content)}{through_proxy(self._url)}"
        if status in _NEVER_AGAIN and _problem_type(content).startswith(_OURS):
            return Refused(problem)
        if status in _NEVER_AGAIN:
            return RetryLater(f"{problem}: {_NOT_OURS}", is_of_camera=True, is_of_burst=True)
        if status in _NOT_ALLOWED:
            return Unauthorised(problem, status == 403)
        return RetryLater(problem, self._retry_after_s(answer), is_of_camera=_problem_type(content) in _OF_CAMERA)

    def _retry_after_s(self, answer: requests.Response) -> float:
        return retry_after_s(answer.headers.get("Retry-After"), self._wall_clock.unix_ms() / 1000)


def retry_after_s(header: str | None, unix_s: float) -> float:
    """`Retry-After` (RFC 9110, section 10.2.3) in seconds from now, at most an hour; 0 without a valid one."""
    if header is None:
        return 0.0
    if header.strip().isdecimal():
        return min(float(header), _MAX_RETRY_AFTER_S)
    at_s = unix_s_of(header)
    return 0.0 if at_s is None else min(max(0.0, at_s - unix_s), _MAX_RETRY_AFTER_S)


class _Bearer(AuthBase):
    """Also keeps `requests` from using a password for this host from a `.netrc`."""

    def __init__(self, token: str | None) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._token is not None:
            request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def _part_head(boundary: str, disposition: str, media_type: str) -> bytes:
    """What comes before one part of a multipart body (RFC 7578)."""
    return (
        f"--{boundary}\r\nContent-Disposition: form-data; {disposition}\r\nContent-Type: {media_type}\r\n\r\n"
    ).encode()


def _header_bytes(headers: Mapping[str, str | bytes]) -> int:
    return sum(len(name) + len(value) + 4 for name, value in headers.items())


def _problem_type(content: bytes) -> str:
    """The type of a problem document (RFC 9457); empty where there is none."""
    try:
        document = msgspec.json.decode(content)
    except _UNREADABLE:
        return ""
    return str(document.get("type", "")) if isinstance(document, dict) else ""


def _problem(content: bytes) -> str:
    """Title and detail of a problem document (RFC 9457), else the text that came; each cut to `_MAX_PROBLEM`."""
    try:
        document = msgspec.json.decode(content)
    except _UNREADABLE:
        return " ".join(content[:_MAX_PROBLEM].decode("utf-8", "replace").split())
    if not isinstance(document, dict):
        return ""
    parts = (document.get(key) for key in ("title", "detail"))
    text = ": ".join(part[:_MAX_PROBLEM] for part in parts if isinstance(part, str) and part)
    errors = document.get("errors")
    first = errors[0] if isinstance(errors, list) and errors else None
    frame = first.get("frame") if isinstance(first, dict) else None
    return f"{text} (frame {frame})" if isinstance(frame, int) else text
