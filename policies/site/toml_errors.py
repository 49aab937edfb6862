"""Reads a parsed TOML document strictly: every error has its place and suggests the name that was probably meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from types import UnionType
from typing import Any, TypeGuard, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

T = TypeVar("T")

Path = tuple[str, ...]
"""The place of a setting: table names, then the key."""

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<field>[^`]*)`(?: - at `\$\.?(?P<at>[^`]*)`)?")
_AT = re.compile(r"(?P<what>.*?)(?: - at `\$\.?(?P<at>[^`]*)`)?$")


class Problem(Exception):
    """What is wrong with the setting at `path`."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(what)
        self.path = path
        self.what = what


def is_name(value: object) -> TypeGuard[str]:
    """Whether it can be the name of a site, a camera, a sector and so on."""
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


def suggest(word: str, known: Mapping[str, object] | frozenset[str]) -> str:
    """The end of a message about an unknown word: the nearest known one, or all of them."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean `{close[0]}`?" if close else f"; known here: {', '.join(sorted(known))}"


def only(raw: Mapping[str, Any], known: frozenset[str], path: Path) -> None:
    """Raises Problem for the first key that is not known."""
    for key in raw:
        if key not in known:
            raise Problem((*path, key), f"unknown key{suggest(key, known)}")


def tables(raw: Mapping[str, Any], key: str, path: Path) -> list[tuple[str, dict[str, Any]]]:
    """The named tables under `key`, in order. Raises Problem where it holds anything else."""
    entries = raw.get(key, {})
    if not isinstance(entries, dict):
        raise Problem((*path, key), f"write tables: [{'.'.join((*path, key, 'NAME'))}]")
    for name, entry in entries.items():
        if not is_name(name):
            raise Problem((*path, key, name), "names are lower-case letters, digits, - and _")
        if not isinstance(entry, dict):
            raise Problem((*path, key, name), "must be a table")
    return list(entries.items())


def listed(raw: Mapping[str, Any], key: str, path: Path, hint: str) -> list[dict[str, Any]]:
    """The tables of an array of tables. Raises Problem with `hint` where it holds anything else."""
    entries = raw.get(key, [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise Problem((*path, key), hint)
    return entries


def convert(kind: type[T], raw: object, path: Path, inner: Mapping[str, Any] | None = None) -> T:
    """`raw` as a `kind`. `inner` names the types of tables within, for suggestions. Raises Problem."""
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        message = str(error)
    if unknown := _UNKNOWN.match(message):
        place = (*path, *_parts(unknown["at"]))
        table = (inner or {}).get(place[-1] if place else "", kind)
        known = frozenset(getattr(table, "__struct_fields__", ()))
        raise Problem((*place, unknown["field"]), f"unknown key{suggest(unknown['field'], known)}")
    parts = _AT.match(message)
    assert parts is not None
    at = _parts(parts["at"])
    raise Problem((*path, *at), _in_words(parts["what"], kind, at))


def _in_words(what: str, kind: Any, at: Path) -> str:
    """The error in TOML's terms. For an unknown word, it lists the known ones."""
    if not what.startswith("Invalid enum value"):
        return what.lower().replace(" | null", "").replace("`object`", "`table`")
    word = what.removeprefix("Invalid enum value ").strip("'")
    return f"unknown word `{word}`; known here: {', '.join(_words(kind, at))}"


def _words(kind: Any, at: Path) -> tuple[str, ...]:
    """The words that `kind` allows at `at`."""
    for name in (*at, ""):
        while get_origin(kind) in (Union, UnionType, tuple):
            kind = get_args(kind)[0]
        if name:
            kind = get_type_hints(kind)[name]
    return get_args(kind)


def _parts(at: str | None) -> Path:
    return tuple(p for p in re.split(r"\.|\[[^\]]*\]", at or "") if p)
