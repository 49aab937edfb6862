"""A camera that speaks RTSP (RFC 2326) and sends JPEGs over RTP (RFC 2435), interleaved in one TCP connection."""

from __future__ import annotations

import socketserver
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path

from tests.camera_agent.certificates import context_of
from tests.camera_agent.conftest import jpeg

_PIECE_BYTES = 1200
_SDP = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=cam\r\nt=0 0\r\nm=video 0 RTP/AVP 26\r\na=control:track1\r\n"


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, *_: object) -> None:
        """The user hung up, or did not like the certificate."""


@contextmanager
def rtsp_camera(pem: Path, key: Path) -> Iterator[tuple[int, list[str]]]:
    """The port of an RTSP camera behind TLS, and the requests that it got."""
    requests: list[str] = []
    pace = threading.Event()
    context = context_of(pem, key)

    class Handler(socketserver.StreamRequestHandler):
        def setup(self) -> None:
            self.request = context.wrap_socket(self.request, server_side=True)
            super().setup()

        def handle(self) -> None:
            while request := _read(self.rfile):
                requests.append(request)
                self.wfile.write(_answer(request))
                if request.startswith("PLAY"):
                    self._play()
                    return

        def _play(self) -> None:
            sequence = 0
            for number in range(2000):
                for packet in rtp_packets(jpeg(number % 100), number, sequence):
                    self.wfile.write(b"$\x00" + struct.pack(">H", len(packet)) + packet)
                    sequence += 1
                pace.wait(0.02)

    with _Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        try:
            yield server.server_address[1], requests
        finally:
            server.shutdown()


def _read(lines: BufferedIOBase) -> str:
    request = ""
    while (line := lines.readline().decode()).strip():
        request += line
    return request


def _answer(request: str) -> bytes:
    method, address = request.split()[:2]
    number = next(line.partition(":")[2].strip() for line in request.splitlines() if line.startswith("CSeq"))
    head, body = {"CSeq": number, "Session": "1", "Public": "OPTIONS, DESCRIBE, SETUP, PLAY"}, ""
    if method == "SETUP":
        head["Transport"] = "RTP/AVP/TCP;unicast;interleaved=0-1"
    if method == "DESCRIBE":
        body = _SDP
        head |= {"Content-Base": f"{address}/", "Content-Type": "application/sdp"}
    head["Content-Length"] = str(len(body))
    lines = [f"{name}: {value}\r\n" for name, value in head.items()]
    return f"RTSP/1.0 200 OK\r\n{''.join(lines)}\r\n{body}".encode()


def rtp_packets(data: bytes, number: int, sequence: int) -> Iterator[bytes]:
    """A JPEG of 4:2:0 with the usual Huffman tables as RTP packets."""
    tables, size, position = b"", (0, 0), 2
    while data[position + 1] != 0xDA:
        length = struct.unpack(">H", data[position + 2 : position + 4])[0]
        segment = data[position + 4 : position + 2 + length]
        if data[position + 1] == 0xDB:
            tables += b"".join(segment[start + 1 : start + 65] for start in range(0, len(segment), 65))
        if data[position + 1] == 0xC0:
            height, width = struct.unpack(">HH", segment[1:5])
            size = (width // 8, height // 8)
        position += 2 + length
    scan = data[position + 2 + struct.unpack(">H", data[position + 2 : position + 4])[0] : -2]
    for offset in range(0, len(scan), _PIECE_BYTES):
        piece = scan[offset : offset + _PIECE_BYTES]
        is_last = offset + _PIECE_BYTES >= len(scan)
        head = struct.pack(
            ">BBHII", 0x80, 26 | is_last << 7, (sequence + offset // _PIECE_BYTES) % 65536, number * 1800, 7
        )
        jpeg_head = struct.pack(">I", offset) + bytes([1, 255, *size])
        quantisation = struct.pack(">BBH", 0, 0, len(tables)) + tables if offset == 0 else b""
        yield head + jpeg_head + quantisation + piece
