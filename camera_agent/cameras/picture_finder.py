"""Finds the pictures in a stream of bytes that should be multipart, however its sender spells that.

Cameras write another boundary into the body than into the header, or none; lengths that are missing, zero, too small or
too large; single line feeds; blank lines and text around pictures. A picture itself shows where it begins and ends: the
segments of a JPEG have lengths, so that a preview in one is not taken for the picture, and the data of its scans
contain neither FF D8 nor FF D9 (ITU-T T.81, B.1.1.2 and B.1.1.5). So boundary and length are only hints:

- While lengths are right, a picture that has FF D9 at its length is not searched.
- A picture without FF D9 ends at the next boundary, at its length if a boundary follows or the last length was right,
  or at the next FF D8.
- A JPEG without a part's head before it, in a stream whose parts have heads, belongs to the part before (MPO).
"""

from __future__ import annotations

import re

from camera_agent.imaging.jpeg_edges import EOI, SOI, SOS, segment_end

_BEGIN = re.compile(rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|RIFF.{4}WEBP", re.DOTALL)
_LONGEST_BEGIN = 12
_JPEG_END = re.compile(rb"\xff[\xd8\xd9]")
_PNG_SIGN = 0x89
_PNG_END = b"IEND\xaeB`\x82"
_LENGTH = re.compile(rb"^content-length[ \t]*:[ \t]*(\d{1,9})[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)
_BOUNDARY_LINE = re.compile(rb"^--[^\r\n]{3,200}(?=\r?$)", re.MULTILINE)
_TEXT_AT_END = re.compile(rb"(?:\r?\n[\t -~]*)*\r?\n\xff*\Z")
"""Line ends and lines of text up to the next picture."""
_MAX_TEXT_BYTES = 1024


class PictureFinder:
    """`add` what comes, in pieces of any size, then `take` pictures until it returns None."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._is_over = False
        self._boundary: bytes | None = None
        self._has_heads = False
        self._is_length_right = False
        self._begin_anew()

    @property
    def held_bytes(self) -> int:
        """What is in memory: one part, and the beginning of the next."""
        return len(self._buffer)

    def add(self, piece: bytes) -> None:
        self._buffer += piece

    def close(self) -> None:
        """Nothing more comes. `take` also gives a JPEG whose end marker did not come."""
        self._is_over = True

    def take(self) -> bytes | None:
        """The next picture, whole or not; None while it is not complete."""
        while self._is_begun or self._find_begin():
            if (end := self._find_end()) is None:
                return None
            picture = None if self._is_extra else bytes(self._buffer[self._begin : end])
            self._is_length_right = end == self._length_end
            del self._buffer[:end]
            self._begin_anew()
            if picture is not None:
                return picture
        return None

    def _begin_anew(self) -> None:
        self._is_begun = self._is_extra = self._is_in_scans = False
        self._begin = 0
        self._searched = 0
        """Up to here the buffer needs no further search for what is sought now."""
        self._length_end = -1

    def _find_begin(self) -> bool:
        match = _BEGIN.search(self._buffer, self._searched)
        if match is None:
            self._searched = max(0, len(self._buffer) - _LONGEST_BEGIN)
            return False
        self._is_begun = True
        self._begin = match.start()
        self._searched = self._begin + len(SOI)
        self._read_head(bytes(self._buffer[max(0, self._begin - _MAX_TEXT_BYTES) : self._begin]))
        return True

    def _read_head(self, gap: bytes) -> None:
        """Take the hints from what stands between two pictures."""
        head = gap.rpartition(b"\0")[2]
        if b"\n" not in head:
            self._is_extra = self._has_heads
            return
        self._has_heads = True
        if lengths := _LENGTH.findall(head):
            self._length_end = self._begin + int(lengths[-1])
        if lines := _BOUNDARY_LINE.findall(head):
            self._boundary = lines[-1]

    def _find_end(self) -> int | None:
        first = self._buffer[self._begin]
        if first == SOI[0]:
            return self._jpeg_end()
        if first == _PNG_SIGN:
            end = self._buffer.find(_PNG_END, self._searched)
            self._searched = max(self._searched, len(self._buffer) - len(_PNG_END))
            return None if end < 0 else end + len(_PNG_END)
        size_bytes = int.from_bytes(self._buffer[self._begin + 4 : self._begin + 8], "little")
        end = self._begin + 8 + size_bytes + size_bytes % 2
        return end if end <= len(self._buffer) else None

    def _jpeg_end(self) -> int | None:
        if self._is_length_right and self._length_end > self._begin:
            if self._length_end > len(self._buffer) and not self._is_over:
                return None
            if self._buffer[self._length_end - len(EOI) : self._length_end] == EOI:
                return self._length_end
        if not self._is_in_scans and not self._step_to_scans():
            return self._end_by_hints(len(self._buffer))
        match = _JPEG_END.search(self._buffer, self._searched)
        if match is None:
            return self._end_by_hints(len(self._buffer))
        if match[0] == EOI:
            return match.end()
        return self._end_by_hints(match.start()) or self._without_text(match.start())

    def _step_to_scans(self) -> bool:
        """Step over whole segments. True at the first scan, or where they are damaged; False while more has to come."""
        while (at := self._searched) + 4 <= len(self._buffer):
            end = segment_end(self._buffer, at)
            if end < 0 or self._buffer[at + 1] == SOS[1]:
                self._is_in_scans = True
                return True
            if end > len(self._buffer) or (self._boundary and self._buffer.find(self._boundary, at, end) >= 0):
                return False
            self._searched = end
        return False

    def _end_by_hints(self, limit: int) -> int | None:
        """The end before `limit` of a picture that has no end marker there; None if that is not known."""
        if self._boundary is not None and (end := self._buffer.find(self._boundary, self._searched, limit)) >= 0:
            return self._without_text(end)
        behind = self._buffer[self._length_end : self._length_end + 64].lstrip(b"\r\n")
        if self._searched < self._length_end <= limit and (
            behind[:2] == b"--" or (not behind and self._is_length_right)
        ):
            return self._length_end
        if self._is_over:
            return self._without_text(limit)
        if self._is_in_scans:
            self._searched = max(self._searched, limit - len(self._boundary or EOI))
        return None

    def _without_text(self, end: int) -> int:
        """`end`, or where the text before it begins."""
        since = max(self._begin, end - _MAX_TEXT_BYTES)
        match = _TEXT_AT_END.search(self._buffer[since:end])
        return end if match is None else since + match.start()
