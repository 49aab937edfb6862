"""Reads a parsed TOML document strictly: every error has its place and suggests the name that was probably meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

T = TypeVar("T")

Path = tuple[str, ...]
"""The place of a setting: table names, then the key."""

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
"""The name of a site, a camera, a sector and so on."""
_UNKNOWN_FIELD = "Object contains unknown field `"


class Problem(Exception):
    """What is wrong with the setting at `path`."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(what)
        self.path = path
        self.what = what


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
        if not NAME.fullmatch(name):
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


def ready(*kinds: type) -> None:
    """Have msgspec take these types apart now, as a module that converts to them is imported.

    It does so at the first use otherwise, and two threads that use a type first at once end the process (SIGSEGV,
    msgspec 0.22).
    """
    for kind in kinds:
        msgspec.json.Decoder(kind)


def convert(kind: type[T], raw: object, path: Path, inner: Mapping[str, Any] | None = None) -> T:
    """`raw` as a `kind`. `inner` names the types of tables within, for suggestions. Raises Problem."""
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        what, _, place = str(error).partition(" - at `$")
    at = tuple(part for part in re.split(r"\.|\[[^\]]*\]", place.rstrip("`")) if part)
    field = what.removeprefix(_UNKNOWN_FIELD).rstrip("`")
    if what.startswith(_UNKNOWN_FIELD):
        table = (inner or {}).get(("", *path, *at)[-1], kind)
        known = frozenset(getattr(table, "__struct_fields__", ()))
        raise Problem((*path, *at, field), f"unknown key{suggest(field, known)}")
    raise Problem((*path, *at), _in_words(what, kind, at))


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
