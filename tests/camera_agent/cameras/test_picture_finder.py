"""Every picture of a stream is found, however the stream is spelled and in whatever pieces it comes."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable

import pytest
from PIL import Image

from camera_agent.cameras.picture_finder import PictureFinder
from tests import odd_jpegs
from tests.camera_agent.conftest import jpeg, picture

COUNT = 40
PICTURES = [jpeg(number) for number in range(COUNT)]
EOI = odd_jpegs.EOI
Spell = Callable[[bytes, int], bytes]


def part(
    body: bytes,
    *,
    boundary: bytes = b"--part",
    kind: bytes = b"Content-Type: image/jpeg",
    length: int | None = None,
    line: bytes = b"\r\n",
    before: bytes = b"",
    after: bytes | None = None,
) -> bytes:
    length_line = b"" if length is None else b"Content-Length: %d" % length + line
    head = boundary + line + (kind + line if kind else b"") + length_line + line
    return head + before + body + (line if after is None else after)


def with_preview(body: bytes) -> bytes:
    exif = b"Exif\0\0" + jpeg(3, width=64, height=48)
    return body[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + body[2:]


SPELLINGS: dict[str, Spell] = {
    "as it should be": lambda body, _: part(body, length=len(body)),
    "no length": lambda body, _: part(body),
    "bare line feeds": lambda body, _: part(body, line=b"\n", length=len(body)),
    "bare line feeds and no length": lambda body, _: part(body, line=b"\n"),
    "a length of zero": lambda body, _: part(body, length=0),
    "a length 20 too short": lambda body, _: part(body, length=len(body) - 20),
    "a length of half": lambda body, _: part(body, length=len(body) // 2),
    "a length 20 too long": lambda body, _: part(body, length=len(body) + 20),
    "a length of three pictures": lambda body, _: part(body, length=3 * len(body)),
    "a huge length": lambda body, _: part(body, length=999_999_999),
    "lengths that are right and wrong in turn": lambda body, n: part(body, length=len(body) + (0, 300, -9)[n % 3]),
    "a length with the line end": lambda body, _: part(body, length=len(body) + 2),
    "a length that is no number": lambda body, _: part(body, kind=b"Content-Length: many"),
    "the length in small letters": lambda body, _: part(body, kind=b"content-length:%d" % len(body)),
    "a blank line before the picture": lambda body, _: part(body, length=len(body), before=b"\r\n"),
    "blank lines and a stray FF before it": lambda body, _: part(body, before=b"\n\r\n\xff"),
    "no part header": lambda body, _: part(body, kind=b""),
    "no boundary": lambda body, _: part(body, boundary=b"", length=len(body)),
    "a boundary of dashes": lambda body, _: part(body, boundary=b"--"),
    "a boundary without dashes": lambda body, _: part(body, boundary=b"part"),
    "no line end before the boundary": lambda body, _: part(body, after=b""),
    "a changing boundary": lambda body, n: part(body, boundary=b"--part%d" % n),
    "text between parts": lambda body, _: part(body, length=len(body), after=b"\r\nthe next one follows\r\n\r\n"),
    "long text between parts": lambda body, _: part(body, after=b"\r\n" + b"nothing to see\r\n" * 200),
    "nothing but pictures": lambda body, _: body,
    "pictures and line ends": lambda body, _: body + b"\r\n",
    "zeros behind each picture": lambda body, _: part(body + bytes(1000)),
    "a maker's block behind each picture": lambda body, _: part(body + b"DHAV\0\1\n--x\0" * 9, length=len(body) + 99),
    "a preview in each picture": lambda body, _: part(with_preview(body)),
    "a preview, and a length": lambda body, _: part(with_preview(body), length=len(with_preview(body))),
    "a second image in each part": lambda body, _: part(body + with_preview(body)),
    "no end marker, and a length": lambda body, _: part(body.removesuffix(EOI), length=len(body) - 2),
    "no end marker, and a wrong length": lambda body, _: part(body.removesuffix(EOI), length=len(body) - 99),
    "no end marker and no length": lambda body, _: part(body.removesuffix(EOI)),
    "no end marker, bare line feeds": lambda body, _: part(body.removesuffix(EOI), line=b"\n"),
    "no end marker and no boundary": lambda body, _: body.removesuffix(EOI),
    "no end marker and no line end": lambda body, _: part(body.removesuffix(EOI), after=b""),
    "no end marker, and FF padding": lambda body, _: part(body.removesuffix(EOI) + b"\xff" * 64),
}


def found_in(stream: bytes, *, piece_bytes: int = 1460) -> list[bytes]:
    finder, found = PictureFinder(), []
    for at in range(0, len(stream), piece_bytes):
        finder.add(stream[at : at + piece_bytes])
        found += iter(finder.take, None)
    finder.close()
    return [*found, *iter(finder.take, None)]


def bare(data: bytes) -> bytes:
    return data.rstrip(b"\xff").removesuffix(EOI)


@pytest.mark.parametrize("piece_bytes", [1, 997, 1460, 10**7])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_picture_is_found_in_every_spelling(spelling: str, piece_bytes: int) -> None:
    count = COUNT if piece_bytes > 1 else 4
    stream = b"".join(SPELLINGS[spelling](body, number) for number, body in enumerate(PICTURES[:count]))
    found = found_in(stream, piece_bytes=piece_bytes)
    whole = [with_preview(body) if "preview" in spelling else body for body in PICTURES[:count]]
    assert len(found) == count
    assert [bare(data) for data in found] == [bare(body) for body in whole]


LATE = {name for name in SPELLINGS if "no end marker" in name} - {"no end marker, and a length"}


@pytest.mark.parametrize("spelling", sorted(SPELLINGS.keys() - LATE))
def test_a_picture_is_given_before_the_next_one_comes(spelling: str) -> None:
    finder = PictureFinder()
    given = []
    for number, body in enumerate(PICTURES[:12]):
        finder.add(SPELLINGS[spelling](body, number))
        given.append(sum(1 for _ in iter(finder.take, None)))
    learns_lengths = spelling in ("no end marker, and a length", "lengths that are right and wrong in turn")
    assert sum(given) == 12 or (learns_lengths and sum(given[:4]) >= 3)


@pytest.mark.parametrize("length", [None, 0, 20])
def test_of_damaged_pictures_none_costs_a_whole_one(length: int | None) -> None:
    """Every fourth picture is cut off in its data, its header or its preview."""
    places = itertools.cycle((0.9, 0.5, 0.05))
    bodies = [with_preview(body) for body in PICTURES]
    sent = [body[: int(len(body) * next(places))] if number % 4 == 3 else body for number, body in enumerate(bodies)]
    found = found_in(b"".join(part(body, length=None if length is None else len(body) - length) for body in sent))
    assert [body for body in found if body in bodies] == [body for body in sent if body in bodies]
    assert len([body for body in bodies if body in found]) == 30


def test_a_cut_off_picture_costs_no_other_when_the_length_promises_the_rest() -> None:
    sent = [body[:900] if number % 5 == 4 else body for number, body in enumerate(PICTURES)]
    found = found_in(b"".join(part(body, length=len(PICTURES[n])) for n, body in enumerate(sent)))
    assert [body for body in found if body in PICTURES] == [body for body in sent if body in PICTURES]


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
@pytest.mark.parametrize("with_length", [True, False])
def test_pictures_of_other_formats_are_found_too(kind: str, *, with_length: bool) -> None:
    bodies = []
    for number in range(COUNT):
        out = io.BytesIO()
        Image.fromarray(picture(number)).save(out, kind)
        bodies.append(out.getvalue())
    stream = b"".join(part(body, length=len(body) if with_length else None) for body in bodies)
    assert found_in(stream) == bodies


def test_a_progressive_picture_ends_behind_its_last_scan() -> None:
    bodies = [odd_jpegs.jpeg((160 + number, 120), progressive=True) for number in range(10)]
    assert found_in(b"".join(part(body) for body in bodies)) == bodies


def test_a_stream_without_pictures_gives_none() -> None:
    assert found_in(b"--part\r\nContent-Type: text/plain\r\n\r\nno picture\r\n" * 100) == []
    assert found_in(b"\xff\xd8") == []
    assert found_in(b"") == []
