"""The pictures of a request, checked and priced by their headers before any of them is decoded."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from server.domain.errors import TooLarge, WrongType
from server.domain.pictures.picture_header import FORMATS, Format, foreign_format_of, format_of, header_of


@dataclass(frozen=True, slots=True)
class PictureLimits:
    """Which pictures an endpoint takes. `setting` chooses the formats; without one, all are that can be decoded."""

    max_pixels: int
    formats: Collection[Format] = FORMATS
    setting: str = ""

    def cost(self, pictures: Sequence[bytes]) -> float:
        """The work of these pictures, in images of usual size.

        Raises WrongType and TooLarge, with the index of the picture. Bytes that are no picture at all cost one image:
        the decoder refuses them with its reason.
        """
        return sum(self._cost(index, picture) for index, picture in enumerate(pictures))

    def _cost(self, index: int, picture: bytes) -> float:
        found = format_of(picture)
        if found not in self.formats:
            self._refuse_other_format(index, picture, found)
        header = header_of(picture)
        if header is None:
            return 1.0
        if header.pixels > self.max_pixels:
            size = f"{header.width}x{header.height}"
            raise TooLarge(f"{size} is more than {self.max_pixels} pixels (`max_pixels`)", frame=index)
        return header.cost

    def _refuse_other_format(self, index: int, picture: bytes, found: Format | None) -> None:
        """Raises WrongType for a picture of a format that is not taken; other bytes are left to the decoder."""
        name = foreign_format_of(picture) if found is None else found.upper()
        if name is not None and self.setting:
            taken = ", ".join(each.upper() for each in self.formats)
            raise WrongType(
                f"the picture is {name}, and this endpoint takes {taken} (the server's setting `{self.setting}`)",
                frame=index,
            )
