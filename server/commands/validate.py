"""`sectorwatch validate`: check site policies, settings, cards and agents' settings before they are used.

The content of a file shows its kind. Each fault has its file and line; a warning is about what can be used and
is probably not meant.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Literal, NamedTuple

import click

from policies.observation import EnsembleInfo
from policies.site.site_policy import CameraPolicy, SitePolicy, all_faults, parse_site_policy
from policies.site.toml_schema import SITE_KEYS
from server.catalogue import cache_dir, locate, parse_card, trust_fault
from server.commands.options import cards_of, standing_of, store_options
from server.domain.errors import SectorwatchError
from server.domain.files.private_files import holds_password, readable_by_others
from server.domain.files.text_files import UnreadableText, read_text, shown
from server.pipeline.remarks import enlarged_in_words, in_picture, remarks
from server.pipeline.site_files import of_nobody
from server.pipeline.site_policies import named_fault
from server.serving.selection import chosen_models
from server.settings import ServerSettings, described, file_faults

_EXIT_CONFIG = 78
_KEY = re.compile(r"^\s*(\[{0,2})\s*\"?([A-Za-z0-9_-]+)", re.M)
_SETTINGS = frozenset(setting.name for setting in described())
_AGENT_TABLES = frozenset({"[server", "[spool", "[[cameras"})

Kind = Literal["agent", "card", "server", "site"]


class Checked(NamedTuple):
    """What a check found: faults with file and line, warnings, and what the file is."""

    faults: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    what: str = ""


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
@store_options
def command(files: tuple[Path, ...], settings: ServerSettings) -> None:
    """Check files before they are used: site policies, a server's settings, model cards, agents' settings.

    Names the line of each fault. Warns of what can be used and is probably not meant, for the models in the settings.
    The exit code is 78 if a file cannot be used.
    """
    is_usable = True
    for file in files:
        checked = _check(file, settings)
        is_usable = is_usable and not checked.faults
        for fault in checked.faults:
            click.echo(fault, err=True)
        for warning in checked.warnings:
            click.echo(f"Warning: {warning}", err=True)
        if not checked.faults:
            click.echo(f"{shown(file)} is valid: {checked.what}")
    raise SystemExit(0 if is_usable else _EXIT_CONFIG)


def _check(file: Path, settings: ServerSettings) -> Checked:
    try:
        text = read_text(file)
    except UnreadableText as error:
        return Checked((f"{shown(file)}: {error}",))
    checks: dict[Kind, Callable[[], Checked]] = {
        "agent": lambda: _agent(file),
        "card": lambda: _card(file, text),
        "server": lambda: Checked(file_faults(file), _open_password(file, text), "the settings of a server"),
        "site": lambda: _site(file, text, settings),
    }
    return checks[kind_of(text)]()


def kind_of(text: str) -> Kind:
    """What kind of file the text is of, as far as its names show, also where some are misspelt."""
    begins = [(bracket, key) for bracket, key in _KEY.findall(text)]
    top = [key for bracket, key in begins[: next((i for i, (b, _) in enumerate(begins) if b), len(begins))]]
    tables = {bracket + key for bracket, key in begins if bracket}
    if tables & _AGENT_TABLES:
        return "agent"
    if {"kind", "classes"} <= set(top):
        return "card"
    return "server" if "site" not in top and _like(top, _SETTINGS) > _like([*top, *tables], SITE_KEYS) else "site"


def _like(names: Iterable[str], known: frozenset[str]) -> int:
    """How many of the names are known, or nearly."""
    return sum(bool(get_close_matches(name.strip("["), known, n=1, cutoff=0.75)) for name in names)


def _site(file: Path, text: str, settings: ServerSettings) -> Checked:
    faults = tuple(f"{shown(file.parent / named_fault(file, what))}" for what in all_faults(text))
    if faults:
        return Checked(faults)
    policy = parse_site_policy(text)
    why = of_nobody(file.name)
    by_name = (f"{shown(file)}: a server passes over a file of this name: {why}",) if why else ()
    info = _ensemble_info(settings)
    found = remarks(shown(file), policy, info)
    return Checked((), (*by_name, *found), f"the policy of site `{policy.site}`; {_described(policy, info)}")


def _described(policy: SitePolicy, info: EnsembleInfo | None) -> str:
    cameras = (
        f"camera {name} with {', '.join(f'`{sector.name}`' for sector in camera.sectors)}{_ways(camera)}"
        f"{_enlarged(camera, info)}"
        for name, camera in policy.cameras.items()
    )
    return "; ".join(cameras) or "every camera is judged on its whole view"


def _ways(camera: CameraPolicy) -> str:
    """Where the ways over a camera's lines come from."""
    return "".join(
        f", `{line.name}` (`{line.directions[0]}` comes from {in_picture(line.sides[0])})" for line in camera.lines
    )


def _enlarged(camera: CameraPolicy, info: EnsembleInfo | None) -> str:
    words = "" if info is None else enlarged_in_words(camera, info)
    return f"; {words}" if words else ""


def _ensemble_info(settings: ServerSettings) -> EnsembleInfo | None:
    """The models in the settings; None where one is unknown, which `doctor` reports."""
    try:
        cards = cards_of(settings, chosen_models(settings, standing_of(settings)))
    except SectorwatchError:
        return None
    return EnsembleInfo("", tuple(card.model_info for card in cards))


def _open_password(file: Path, text: str) -> tuple[str, ...]:
    if not (holds_password(text) and readable_by_others(file)):
        return ()
    return (f"{shown(file)}: other users can read the password in it: chmod o= {shown(file)}",)


def _card(file: Path, text: str) -> Checked:
    try:
        card = parse_card(text, file)
    except SectorwatchError as error:
        return Checked((error.detail,))
    untrusted = trust_fault(card, locate(card, cache_dir()) if card.sha256 else None)
    what = f"the card of the model `{card.name}`"
    return Checked((), (f"{shown(file)}: {untrusted}",) if untrusted else (), what)


def _agent(file: Path) -> Checked:
    """What `camera-agent validate` says: the server knows nothing of an agent's settings."""
    done = subprocess.run(
        [sys.executable, "-m", "camera_agent", "validate", str(file)], capture_output=True, text=True, check=False
    )
    if "ModuleNotFoundError" in done.stderr or "ImportError" in done.stderr:
        return Checked((f"{shown(file)}: an agent's settings: check them on its machine: camera-agent validate FILE",))
    lines = [line for line in _lines(done.stderr) if line]
    if done.returncode:
        return Checked(tuple(lines) or (f"{shown(file)}: camera-agent validate ended with {done.returncode}",))
    meaning = "\n".join(list(_lines(done.stdout))[1:])
    return Checked((), tuple(lines), f"the settings of an agent\n{meaning}".rstrip())


def _lines(text: str) -> Iterator[str]:
    return (line.rstrip() for line in text.splitlines())
