"""Lists of class names, in the forms in which they come with networks.

A list is one name per line, or numbers with names (Coral, Darknet's and ImageNet's forms), the `names` of a data set
in YAML, or JSON or a Python literal: `["a", "b"]`, `{"0": "a"}`, `{"0": ["n01440764", "a"]}`, `{"a": 0}`.
"""

from __future__ import annotations

import ast
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from server.catalogue.file_contents import text_misfit
from server.domain.errors import ConfigurationError
from server.domain.files.text_files import UnreadableText, read_text

_NUMBERED = re.compile(r"(\d{1,6})(?:\s*[:=,;]\s*|\s+)(\S.*)")
_SYNSET = re.compile(r"n\d{8}\s+(\S.*)")
_YAML_NAMES = re.compile(r"^names\s*:[ \t]*(.*)$", re.MULTILINE)
_QUOTED = re.compile(r"(['\"])(.*)\1,?")
_PROTOBUF = re.compile(r"^item\s*\{", re.MULTILINE)
_MOST_NAMED = 4


class _Entry(NamedTuple):
    """A name and where it is: `line 3` or `number 3`."""

    name: str
    place: str


def read_classes(file: Path) -> list[str]:
    """The class names in a file, in the network's order.

    Blank lines and lines that begin with `#` are passed over. Where every line begins with a number, the numbers give
    the order; they begin with 0 or 1, without a gap. Raises ConfigurationError, with file and line, for a file
    that is no such list and for a name that stands there twice.
    """
    try:
        text = read_text(file)
    except UnreadableText as error:
        raise ConfigurationError(f"{file} is no list of classes in UTF-8: {error}") from error
    try:
        entries = _entries(text)
        _check(entries)
    except ValueError as error:
        raise ConfigurationError(f"{file} is no list of classes: {error}") from error
    return [entry.name for entry in entries]


def _entries(text: str) -> list[_Entry]:
    what = text_misfit(text.encode()[:4096])
    if what is not None and what.startswith(("is a Git", "is a git", "is an HTML")):
        raise ValueError(f"it {what}")
    if _PROTOBUF.search(text):
        raise ValueError("it is a label map in protobuf's text form: write one name per line")
    yaml = _YAML_NAMES.search(text)
    if yaml:
        return _yaml_entries(text, yaml)
    if text.lstrip().startswith(("[", "{")):
        return _literal_entries(text)
    return _line_entries([(number, line) for number, line in enumerate(text.split("\n"), 1)])


def _line_entries(lines: Iterable[tuple[int, str]]) -> list[_Entry]:
    stripped = ((number, line.strip("\ufeff \t\v\f\xa0")) for number, line in lines)
    named = [(number, line) for number, line in stripped if line and not line.startswith("#")]
    for form in (_SYNSET, re.compile(r"- (.*)")):
        matches = [(number, form.fullmatch(line)) for number, line in named]
        if matches and all(match for _, match in matches):
            named = [(number, _unquoted(match[1])) for number, match in matches if match]
    numbered = [(number, _NUMBERED.fullmatch(line)) for number, line in named]
    plain = [(number, line) for (number, line), (_, match) in zip(named, numbered, strict=True) if not match]
    found = {number: (int(match[1]), _unquoted(match[2])) for number, match in numbered if match}
    if found and not plain:
        return _ordered(found)
    in_order = sum(index in (place, place + 1) for place, (index, _) in enumerate(found.values()))
    if len(found) > len(plain) and in_order:
        number, line = plain[0]
        raise ValueError(f"line {number} (`{line[:40]}`) has no number, and most lines begin with one")
    return [_Entry(line, f"line {number}") for number, line in named]


def _ordered(found: Mapping[int, tuple[int, str]]) -> list[_Entry]:
    """Numbered lines in the order of their numbers. Raises ValueError unless those are 0, 1, 2 ... or 1, 2, 3 ..."""
    by_index: dict[int, tuple[int, str]] = {}
    for line, (index, name) in found.items():
        if index in by_index:
            raise ValueError(f"the number {index} is in lines {by_index[index][0]} and {line}")
        by_index[index] = (line, name)
    first, last = min(by_index), max(by_index)
    if first > 1:
        raise ValueError(
            f"its lines begin with numbers, and the first is {first}: they have to begin with 0 or 1. "
            "If the numbers are part of the names, write the list in JSON"
        )
    missing = [index for index in range(first, last) if index not in by_index]
    if missing:
        more = f" and {len(missing) - _MOST_NAMED} more" if len(missing) > _MOST_NAMED else ""
        named = ", ".join(map(str, missing[:_MOST_NAMED]))
        raise ValueError(
            f"no line has the number {named}{more}: the network has an output for each, so name it "
            f"(`{missing[0]} unused {missing[0]}`). If the numbers are part of the names, write the list in JSON"
        )
    return [_Entry(by_index[index][1], f"line {by_index[index][0]}") for index in sorted(by_index)]


def _yaml_entries(text: str, names: re.Match[str]) -> list[_Entry]:
    """The `names` of a data set, as in Ultralytics' `data.yaml`: `[a, b]`, or indented lines `0: a` or `- a`."""
    if names[1].startswith(("[", "{")):
        inside = re.compile(r"[\[{]([^\]}]*)[\]}]").match(text, names.start(1))
        if inside is None:
            raise ValueError("its `names` have no end")
        begins = text.count("\n", 0, names.start()) + 1
        items = [(begins, item.strip()) for item in inside[1].split(",") if item.strip()]
        bare = all(not _NUMBERED.fullmatch(item) for _, item in items)
        return [_Entry(_unquoted(item), f"line {line}") for line, item in items] if bare else _inline(items)
    first = text.count("\n", 0, names.end()) + 2
    lines = []
    for number, line in enumerate(text.split("\n")[first - 1 :], first):
        if line.strip() and not line.startswith((" ", "\t", "-", "#")):
            break
        lines.append((number, re.sub(r"\s+#.*$", "", line)))
    return _line_entries(lines)


def _inline(items: Iterable[tuple[int, str]]) -> list[_Entry]:
    """`0: a` from one line, in order of the numbers."""
    pairs = [match for _, item in items if (match := _NUMBERED.fullmatch(item))]
    return _ordered({place: (int(pair[1]), _unquoted(pair[2])) for place, pair in enumerate(pairs, 1)})


def _literal_entries(text: str) -> list[_Entry]:
    read = _literal(text)
    if isinstance(read, dict):
        read = _by_number(read)
    if not isinstance(read, list | tuple):
        raise ValueError("it is neither a list nor an object")
    names = [each[-1] if isinstance(each, list | tuple) and each else each for each in read]
    for place, name in enumerate(names, 1):
        if not isinstance(name, str | int | float) or isinstance(name, bool):
            raise ValueError(f"number {place} is no name: {str(name)[:40]}")
    return [_Entry(str(name).strip(), f"number {place}") for place, name in enumerate(names, 1)]


def _literal(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        try:
            return ast.literal_eval(text.strip())  # `{0: 'tench'}`, as it is often published
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            raise error from None


def _by_number(read: Mapping[Any, Any]) -> list[Any]:
    """The values of `{"0": "a"}`, or the keys of `{"a": 0}`, in the order of the numbers."""
    if read and all(type(value) is int for value in read.values()):
        if len(set(read.values())) < len(read):
            raise ValueError("two names have the same number")
        read = {number: name for name, number in read.items()}
    by_number = {str(key): value for key, value in read.items()}
    first = 0 if "0" in by_number else 1
    missing = [number for number in range(first, first + len(by_number)) if str(number) not in by_number]
    if missing:
        raise ValueError(f"its numbers have to be 0, 1, 2 and so on, and {missing[0]} is missing")
    return [by_number[str(number)] for number in range(first, first + len(by_number))]


def _unquoted(name: str) -> str:
    quoted = _QUOTED.fullmatch(name)
    return (quoted[2] if quoted else name).strip()


def _check(entries: list[_Entry]) -> None:
    if not entries:
        raise ValueError("it has no name")
    blank = next((entry for entry in entries if not entry.name or not entry.name.isprintable()), None)
    if blank is not None:
        raise ValueError(f"{blank.place} has no name, or signs that cannot be printed: {blank.name!r}")
    repeated = _repeated(entries)
    if repeated:
        raise ValueError(f"{repeated}: a name stands for one class, so name them apart, say `crane (bird)`")


def _repeated(entries: Iterable[_Entry]) -> str:
    places = defaultdict(list)
    for entry in entries:
        places[entry.name].append(entry.place)
    found = [f"`{name}` is {_in(where)}" for name, where in places.items() if len(where) > 1]
    more = f" and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
    return ", ".join(found[:_MOST_NAMED]) + more


def _in(places: list[str]) -> str:
    """`in lines 3 and 5`, from `line 3` and `line 5`."""
    kind = places[0].partition(" ")[0]
    numbers = [place.partition(" ")[2] for place in places]
    return f"{'in lines' if kind == 'line' else 'numbers'} {', '.join(numbers[:-1])} and {numbers[-1]}"
