"""The identity of the code that makes a model's answers: version numbers for ours, a digest of syntax for a user's.

Our own code has versions that a developer raises by hand when answers change, so wording, names and places of files
are free to change; README.md in this folder says when to raise one. A user's code has no such versions: its syntax
tree counts, without comments and docstrings.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import ModuleType

from torch import nn

from server.catalogue import ModelCard, own_module
from server.domain.precision import Execution
from server.ensemble import forms, module, tuning
from server.ensemble.building import module_of

_OURS = __package__
_IN_THE_LOCK = ("torch", "torchvision")
"""Libraries whose versions are in the lock already: their source need not be."""
_WITH_DOCSTRING = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def code_versions(card: ModelCard, execution: Execution = "fp32") -> dict[str, int]:
    """The version of each step of ours between a decoded frame and the model's predictions, by the step's name."""
    versions: dict[str, int] = forms.versions(card.input) | {card.kind: module.VERSIONS[card.kind]}
    if card.kind == "detector" and card.input.fit == "crop":
        versions |= forms.CENTRE_VERSIONS
    if card.kind == "classifier":
        versions |= tuning.versions(execution) | module.output_versions(card)
    elif card.is_lowered:
        versions |= tuning.lowered_versions(execution)
    if card.postprocess:
        versions |= getattr(module_of(card, "postprocess"), "VERSIONS", {}) if _is_of_ours(card.postprocess) else {}
    if card.format != "factory":
        from server.ensemble.building import foreign  # torch.export alone costs a second, and few need it

        return versions | foreign.versions(card)
    return versions | (_network_versions(card) or {})


def library_of(card: ModelCard) -> str:
    """The optional library that makes the network, whose version decides what it answers; empty if there is none."""
    return getattr(module_of(card), "LIBRARY", "") if is_ours(card) else ""


def is_ours(card: ModelCard) -> bool:
    """Whether the network is made by code of this package, which `code_versions` names."""
    return card.format == "factory" and _network_versions(card) is not None


def source_digest(card: ModelCard, network: nn.Module) -> str | None:
    """The sha256 of the syntax of a user's code that makes the network; None where there is no such code.

    For a factory or a `postprocess` in the model's folder every module of the folder counts, for another factory the
    module that holds it, and for a pickled module the module of its class. Code of torch and torchvision has the
    library's version.
    """
    own = {key for key in card.code if own_module(card, key) is not None}
    digests: list[str | None] = [_digest_of_folder(Path(card.folder))] if own else []
    if "factory" not in own and not is_ours(card):
        digests.append(_digest_of_module(_defining_module(card, network)))
    if card.postprocess and "postprocess" not in own:
        digests.append(_digest_of_module(module_of(card, "postprocess")))
    known = [digest for digest in digests if digest is not None]
    return _digest(("", digest) for digest in known) if len(known) > 1 else next(iter(known), None)


def _digest_of_folder(folder: Path) -> str:
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*.py")}
    return _digest((name, _syntax(path.read_bytes())) for name, path in sorted(files.items()))


def _digest_of_module(defining: ModuleType | None) -> str | None:
    """None for a module of ours or of a library whose version is in the lock, and for one without source."""
    if defining is None or defining.__name__.partition(".")[0] in (*_IN_THE_LOCK, _OURS.partition(".")[0]):
        return None
    try:
        path = inspect.getsourcefile(defining)
    except TypeError:  # built in
        return None
    return _digest_of_imported(Path(path)) if path and Path(path).is_file() else None


def _defining_module(card: ModelCard, network: nn.Module) -> ModuleType | None:
    """The module of the factory, or of the network's class where there is no factory that can be imported."""
    with suppress(ImportError):
        if card.factory:
            return module_of(card)
    return inspect.getmodule(type(_unwrapped(network)))


def _network_versions(card: ModelCard) -> dict[str, int] | None:
    if not _is_of_ours(card.factory):
        return None
    versions: dict[str, int] | None = getattr(module_of(card), "VERSIONS", None)
    return versions


def _is_of_ours(named: str) -> bool:
    return named.startswith(f"{_OURS}.")


def _unwrapped(network: nn.Module) -> nn.Module:
    """The user's network inside the wrappers of ours."""
    while type(network).__module__.startswith(f"{_OURS}.") and isinstance(
        inner := getattr(network, "network", None), nn.Module
    ):
        network = inner
    return network


@cache
def _digest_of_imported(file: Path) -> str:
    """Read once: an imported module stays as it is, whatever is written into its file."""
    return _digest([("", _syntax(file.read_bytes()))])


def _digest(parts: Iterable[tuple[str, str]]) -> str:
    return hashlib.sha256(b"".join(hashlib.sha256(repr(part).encode()).digest() for part in parts)).hexdigest()


def _syntax(source: bytes) -> str:
    """The syntax tree as text, without comments, docstrings and layout; the source itself if it is no Python.

    `ast.dump` would do, but its text differs between versions of Python.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return repr(source)
    for node in ast.walk(tree):
        if isinstance(node, _WITH_DOCSTRING) and ast.get_docstring(node, clean=False) is not None:
            del node.body[0]
    return repr(_plain(tree))


def _plain(value: object) -> object:
    """A part of a syntax tree as nested tuples; fields that are empty, and so may be new, are left out."""
    if isinstance(value, ast.AST):
        fields = ((name, each) for name, each in ast.iter_fields(value) if each is not None and each != [])
        return (type(value).__name__, *((name, _plain(each)) for name, each in fields))
    return tuple(_plain(each) for each in value) if isinstance(value, list) else value
