"""What somebody drew on a picture, written into the text of a site policy: sectors, lines and ignored areas.

Whatever is not drawn anew stays as it is in the text, comments and layout included.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any

import msgspec
import tomlkit
from tomlkit.items import Array

from policies.site.toml_errors import NAME, ready

_DIGITS = 4
"""Of a coordinate: a tenth of a pixel in a thousand."""

_HEADER = re.compile(r"""\s*\[{1,2}[\w\s."'-]+\]{1,2}\s*(#.*)?$""")

Coordinates = tuple[float, float]


class DrawnLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A counting line, with the names of its two ways."""

    a: Coordinates
    b: Coordinates
    directions: tuple[str, str]


class Drawn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is new or changed of a camera, by name; None removes it. Coordinates are in 0..1 of the picture.

    `ignored` are the boxes of known nuisances. `renamed` gives sectors another name: their other changes stand under
    that one.
    """

    sectors: dict[str, tuple[Coordinates, ...] | None] = {}
    lines: dict[str, DrawnLine | None] = {}
    ignored: dict[str, tuple[float, float, float, float] | None] = {}
    renamed: dict[str, str] = {}

    @property
    def is_empty(self) -> bool:
        return not (self.sectors or self.lines or self.ignored or self.renamed)


ready(Drawn)
_drawn = msgspec.json.Decoder(Drawn)


def read_drawn(text: str) -> Drawn:
    """What a page sent. Raises ValueError, in words, for what is no drawing or has a name that nothing may have."""
    try:
        drawn = _drawn.decode(text)
    except msgspec.DecodeError as error:
        raise ValueError(f"the drawing cannot be read ({error}): load the page again") from None
    for name in (*drawn.sectors, *drawn.lines, *drawn.renamed.values()):
        if not NAME.fullmatch(name):
            raise ValueError(f"`{name[:64]}`: a name is lower-case letters, digits, - and _, such as front-door")
    return drawn


def drawn_into(text: str, camera: str, drawn: Drawn) -> str:
    """The policy's text with what was drawn. Raises ValueError where the text is no TOML, and for a new name that
    another sector has.
    """
    document = tomlkit.parse(_with_new_names(text, camera, drawn.renamed))
    new: list[str] = []
    gone: list[tuple[str, str]] = []
    for name, corners in drawn.sectors.items():
        gone += [("sectors", name)] if corners is None else []
        new += _sector(document, camera, name, corners) if corners is not None else []
    for name, line in drawn.lines.items():
        gone += [("lines", name)] if line is None else []
        new += _line(document, camera, name, line) if line is not None else []
    for name, box in drawn.ignored.items():
        gone += [("suppress", name)] if box is None else []
        new += _ignored(document, camera, name, box) if box is not None else []
    after = tomlkit.dumps(document)
    for kind, name in gone:
        after = _removed(after, camera, kind, name)
    return _with_tables(after, new)


def _with_new_names(text: str, camera: str, renamed: Mapping[str, str]) -> str:
    """The text whose sectors have other names, all at once. The lines of a table of its own change only in its name."""
    wanted = tomllib.loads(text)
    sectors = _table(wanted, camera, "sectors") or {}
    names = {old: new for old, new in renamed.items() if old in sectors and old != new}
    after = [names.get(name, name) for name in sectors]
    if twice := next((name for name in after if after.count(name) > 1), None):
        raise ValueError(f"there is a sector `{twice}` already: give another name")
    if not names:
        return text
    wanted["cameras"][camera]["sectors"] = {names.get(name, name): each for name, each in sectors.items()}
    head = re.compile(rf"""(\s*\[{{1,2}}cameras\.{re.escape(camera)}\.sectors\.)([\w-]+)(?=[\].])""")
    lines = (head.sub(lambda found: found[1] + names.get(found[2], found[2]), line) for line in text.splitlines(True))
    renamed_text = "".join(lines)
    if _bare(renamed_text) == _pruned(wanted):
        return renamed_text
    document = tomlkit.parse(text)
    table = _table(document, camera, "sectors")
    moved = {new: table.pop(old) for old, new in names.items()}
    for name, each in moved.items():
        table[name] = each
    return tomlkit.dumps(document)


def _sector(document: Any, camera: str, name: str, corners: Sequence[Coordinates]) -> list[str]:
    """Change a sector; the lines of a new one, to be added."""
    table = _table(document, camera, "sectors")
    if table is None or name not in table:
        return [f"[cameras.{camera}.sectors.{name}]", f"polygon = {_written(corners)}"]
    if "coordinates" in table[name]:
        table[name]["coordinates"] = ",".join(_number(part) for point in corners for part in point)
    else:
        _put(table[name], "polygon", [list(point) for point in corners])
    return []


def _line(document: Any, camera: str, name: str, line: DrawnLine) -> list[str]:
    table = _table(document, camera, "lines")
    if table is None or name not in table:
        ways = ", ".join(tomlkit.string(each).as_string() for each in line.directions)
        ends = [f"a = {_written(line.a)}", f"b = {_written(line.b)}"]
        return [f"[cameras.{camera}.lines.{name}]", *ends, f"directions = [{ways}]"]
    there = table[name]
    _put(there, "a", list(line.a))
    _put(there, "b", list(line.b))
    if tuple(there.get("directions", ("left_to_right", "right_to_left"))) != line.directions:
        there["directions"] = list(line.directions)
    return []


def _ignored(document: Any, camera: str, name: str, box: Sequence[float]) -> list[str]:
    entry = next((each for each in _table(document, camera, "suppress") or [] if each.get("name") == name), None)
    if entry is None:
        named = tomlkit.string(name).as_string()
        return [f"[[cameras.{camera}.suppress]]", f"name = {named}", f"box = {_written(box)}"]
    _put(entry, "box", list(box))
    return []


def _removed(text: str, camera: str, kind: str, name: str) -> str:
    """The text without a table, which is cut out by lines where it has lines of its own: comments around it stay."""
    place, wanted = 0, tomllib.loads(text)
    among = _table(wanted, camera, kind) or {}
    if isinstance(among, list):
        place = next((number for number, each in enumerate(among) if each.get("name") == name), -1)
        if place < 0:
            return text
        del among[place]
    elif among.pop(name, None) is None:
        return text
    cut = _cut(text, f"cameras.{camera}.{kind}" + ("" if isinstance(among, list) else f".{name}"), place)
    if cut is not None and _bare(cut) == _pruned(wanted):
        return cut
    document = tomlkit.parse(text)
    del _table(document, camera, kind)[place if isinstance(among, list) else name]
    return tomlkit.dumps(document)


def _cut(text: str, header: str, place: int) -> str | None:
    """The text without the `place`-th table of this header and the tables within it; None where there is none."""
    lines = text.splitlines(keepends=True)
    heads = [number for number, line in enumerate(lines) if _HEADER.match(line)] + [len(lines)]
    own = re.compile(rf"\s*\[{{1,2}}{re.escape(header)}\]")
    within = re.compile(rf"\s*\[{{1,2}}{re.escape(header)}\.")
    starts = [index for index, number in enumerate(heads[:-1]) if own.match(lines[number])]
    if place >= len(starts):
        return None
    first = last = starts[place]
    while within.match(lines[heads[last + 1]] if heads[last + 1] < len(lines) else ""):
        last += 1
    end = heads[last + 1]
    while end > heads[last] + 1 and lines[end - 1].strip()[:1] in ("", "#"):
        end -= 1  # empty lines and comments above a header are of what follows
    return "".join(lines[: heads[first]]).rstrip("\n") + "\n" + "".join(lines[end:])


def _bare(text: str) -> Any:
    try:
        return _pruned(tomllib.loads(text))
    except tomllib.TOMLDecodeError:
        return None


def _pruned(value: Any) -> Any:
    """Without empty tables and lists."""
    if not isinstance(value, dict):
        return value
    inner = {key: _pruned(each) for key, each in value.items()}
    return {key: each for key, each in inner.items() if each not in ({}, [])}


def _table(document: Any, *path: str) -> Any:
    """What stands under cameras and this path; None where there is nothing."""
    found: Any = document.get("cameras")
    for key in path:
        found = None if found is None else found.get(key)
    return found


def _put(table: Any, key: str, value: list[Any]) -> None:
    """Replace an array. One of several lines is changed within, so that comments between its lines stay."""
    there = table.get(key)
    value = _rounded(value)
    if isinstance(there, Array) and "\n" in there.as_string():
        _resize(there, value)
        _change(there, value)
    elif there is None or there.unwrap() != value:
        table[key] = value


def _resize(there: Any, value: list[Any]) -> None:
    """Give an array as many parts as `value` has. A part that stays keeps its line, and so its comment."""
    before, after = ([str(each) for each in _rounded(side)] for side in (there.unwrap(), value))
    for _, old, old_end, new, new_end in reversed(SequenceMatcher(a=before, b=after, autojunk=False).get_opcodes()):
        for _ in range((old_end - old) - (new_end - new)):
            del there[old + new_end - new]
        for place in range((new_end - new) - (old_end - old)):
            there.insert(old_end + place, value[new + old_end - old + place])


def _change(there: Any, value: list[Any]) -> None:
    for place, (old, new) in enumerate(zip(list(there), value, strict=True)):
        if isinstance(new, list) and isinstance(old, Array) and len(old) == len(new):
            _change(there[place], new)
        elif old != new:
            there[place] = new


def _rounded(value: Any) -> Any:
    return [_rounded(each) for each in value] if isinstance(value, list) else round(float(value), _DIGITS)


def _number(value: float) -> str:
    return repr(round(float(value), _DIGITS))


def _written(value: Any) -> str:
    if isinstance(value, Sequence):
        return f"[{', '.join(_written(each) for each in value)}]"
    return _number(value)


def _with_tables(text: str, lines: Sequence[str]) -> str:
    """The text with tables at its end. Where an earlier one is written within a line, that is opened first."""
    if not lines:
        return text
    added = ""
    for line in lines:
        added += f"\n{line}\n" if line.startswith("[") else f"{line}\n"
    whole = f"{text.rstrip()}\n{added}"
    try:
        tomllib.loads(whole)
    except tomllib.TOMLDecodeError:
        return _merged(text, added)
    return whole


def _merged(text: str, added: str) -> str:
    """The text with new tables within those that stand within a line."""
    document = tomlkit.parse(text)
    _merge(document, tomllib.loads(added))
    return tomlkit.dumps(document)


def _merge(into: Any, new: Mapping[str, Any]) -> None:
    for key, value in new.items():
        if key not in into:
            into[key] = value
        elif isinstance(value, dict):
            _merge(into[key], value)
        else:
            into[key].extend(value)
