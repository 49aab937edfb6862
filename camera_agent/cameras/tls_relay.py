"""https:// and rtsps:// for OpenCV: FFmpeg reads from this machine, and Python's TLS connects to the camera.

FFmpeg in OpenCV's wheels accepts every certificate, and what its options check depends on the TLS library that it is
built with; none compares a fingerprint. The relay makes the connection that carries the pictures, so a certificate
that is not trusted gets neither a password nor a request.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
from urllib.parse import urlsplit

from camera_agent.imaging.frame import CameraFailure
from camera_agent.network.addresses import at_host, credentials, with_credentials
from camera_agent.network.certificates import CAMERA, Trust, explain_refusal, tls_context
from camera_agent.network.connection_errors import explain_connection_error, host_and_port

_PIECE_BYTES = 64 * 1024
_PLAIN = {"https": "http", "rtsps": "rtsp"}


def needs_relay(address: str) -> bool:
    """Whether the address is one of TLS."""
    return urlsplit(address).scheme in _PLAIN


class TlsRelay:
    """Connects to the camera, then listens on loopback: `address` is what FFmpeg opens instead of the camera's.

    Raises `CameraFailure` where the camera does not answer, or its certificate is not trusted.
    """

    def __init__(self, address: str, trust: Trust, timeout_s: float) -> None:
        self._host, self._port = host_and_port(address)
        self._authority = urlsplit(address).netloc.rpartition("@")[2].encode()
        self._timeout_s = timeout_s
        self._context = tls_context(trust)
        try:
            self._first: ssl.SSLSocket | None = self._connect()
        except ssl.SSLError as error:
            reason = explain_refusal(error, self._host, self._port, trust, CAMERA, timeout_s)
            raise CameraFailure(f"no answer: {reason}") from error
        except OSError as error:
            raise CameraFailure(f"no answer: {explain_connection_error(error, address)}") from error
        self._door = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = {self._door, self._first}
        port = self._door.getsockname()[1]
        self._loopback = f"127.0.0.1:{port}".encode()
        plain = at_host(address, _PLAIN[urlsplit(address).scheme], "127.0.0.1", port)
        self.address = with_credentials(plain, credentials(address))
        threading.Thread(target=self._accept, name="tls-relay", daemon=True).start()

    def close(self) -> None:
        """End all connections. Safe to call twice."""
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def _connect(self) -> ssl.SSLSocket:
        connection = socket.create_connection((self._host, self._port), self._timeout_s)
        try:
            return self._context.wrap_socket(connection, server_hostname=self._host)
        except BaseException:
            connection.close()
            raise

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                client = self._door.accept()[0]
                try:
                    camera = self._first or self._connect()
                except OSError:  # the camera is gone: FFmpeg sees its connection end
                    client.close()
                    continue
                self._first = None
                self._open |= {client, camera}
                threading.Thread(target=self._carry, args=(client, camera), name="tls-relay", daemon=True).start()

    def _carry(self, client: socket.socket, camera: ssl.SSLSocket) -> None:
        """Bytes in both directions until one side ends. One thread, since two may not share a TLS connection."""
        with contextlib.suppress(OSError, ValueError):  # ValueError: `close` closed a socket under `select`
            while self._step(client, camera):
                pass
        for connection in (client, camera):
            connection.close()
            self._open.discard(connection)

    def _step(self, client: socket.socket, camera: ssl.SSLSocket) -> bool:
        ready = [camera] if camera.pending() else select.select([client, camera], [], [])[0]
        if client in ready:
            request = client.recv(_PIECE_BYTES)
            camera.settimeout(self._timeout_s)
            # The name stays as it is in an RTSP request: the proof of the password covers it.
            camera.sendall(request.replace(b"\r\nHost: " + self._loopback, b"\r\nHost: " + self._authority))
            if not request:
                return False
        if camera in ready:
            camera.settimeout(0)
            try:
                answer = camera.recv(_PIECE_BYTES)
            except ssl.SSLWantReadError:  # a part of a record, or a session ticket
                return True
            client.sendall(answer)
            return bool(answer)
        return True
