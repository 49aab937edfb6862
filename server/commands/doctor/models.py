"""Checks of the models: their memory, their weights, and what proves them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from server.catalogue import ModelCard, cache_dir, is_refused, locate, lowered, read_lock, remedy, trust_fault, verify
from server.commands.doctor.finding import Finding
from server.commands.options import standing_of
from server.domain.errors import SectorwatchError
from server.domain.precision import check_execution
from server.ray_serving import reach, require_ray
from server.serving.loading import usable_cards
from server.serving.machine import Machine, this_machine
from server.serving.memory_budget import expected_bytes, memory_warning
from server.serving.selection import chosen_models
from server.settings import ServerSettings

_MIB = 1024 * 1024


def memory(settings: ServerSettings, machine: Machine | None = None) -> Iterator[Finding]:
    """Compares the memory that the server may need with the machine's memory, and with what is free of it."""
    machine = machine or this_machine()
    cards = known_cards(settings)
    expected, free = expected_bytes(settings, cards, machine), machine.available_bytes
    what = f"up to {expected // _MIB} MiB" + ("" if free is None else f"; {free // _MIB} MiB of the machine are free")
    if warning := memory_warning(settings, cards, machine):
        fact, _, next_step = warning.partition(": ")
        yield Finding("warn", "memory", fact, next_step)
    elif free is not None and free < expected:
        yield Finding("warn", "memory", what, "end other programs here, or lower max_pixels and max_body_bytes")
    else:
        yield Finding("ok", "memory", what)


def model(settings: ServerSettings) -> Iterator[Finding]:
    """Checks that each model's weights are here and match its card."""
    names = chosen_models(settings, standing_of(settings))
    if names != settings.models:
        what = f"swapped in since the settings were written: {', '.join(names)}"
        yield Finding("warn", "model", what, "name them in `models`; another change of `models` overrides the swap")
    cards, broken = usable_cards(settings, names)
    for fault in broken:
        yield Finding("fail", "model", f"{fault.name} is not served: {fault.detail}", f"mend {fault.path}")
    if settings.ensemble == "ray":
        require_ray()
        reach(settings.ray_address)
        yield Finding(
            "ok", "model", f"{', '.join(card.name for card in cards)}: the nodes of the Ray cluster check them"
        )
        return
    for card in cards:
        path = locate(card, cache_dir()) if card.sha256 else None
        if card.sha256 is None:
            yield Finding("ok", "model", f"{card.name}: no weights needed")
        elif path is None:
            yield Finding("fail", "model", f"{card.name}: no weights yet", _step(card))
        else:
            try:
                verify(card, path)
                yield Finding("ok", "model", f"{card.name}: {path} (sha256 {card.sha256[:12]}…, as its card says)")
            except SectorwatchError as error:
                yield Finding("fail", "model", error.detail, _step(card, path))
        fact, _, trust_step = trust_fault(card, path).partition(": ")
        if fact:
            yield Finding("fail" if is_refused(card) else "warn", "model", fact, trust_step)


def _step(card: ModelCard, wrong: Path | None = None) -> str:
    """What brings the right weights: a command alone where that is enough."""
    step = remedy(card, wrong)
    return step.removeprefix("run `").removesuffix("`") if step.startswith("run `") else step


def proofs(settings: ServerSettings) -> Iterator[Finding]:
    """Checks that the processor supports `execution`, and that the lock and the golden set exist."""
    names = chosen_models(settings, standing_of(settings))
    if settings.ensemble == "local":
        check_execution(settings.execution, this_machine().vectors, lowered(known_cards(settings)), _judged(settings))
    lock_step = f"sectorwatch models lock {' '.join(names)}"
    named = {
        "models_dir": (settings.models_dir, "make the folder, or leave models_dir out"),
        "lock": (settings.lock, lock_step),
        "golden": (settings.golden and settings.golden / "golden.json", "sectorwatch models approve"),
    }
    missing = {name: place for name, (place, _) in named.items() if place and not place.exists()}
    for name, place in missing.items():
        yield Finding("fail", "proofs", f"the setting {name}: there is no {place}", named[name][1])
    if settings.lock and "lock" not in missing:
        try:
            read_lock(settings.lock, names)
        except SectorwatchError as error:
            yield Finding("fail", "proofs", error.detail, lock_step)
            return
    if not missing:
        lock = f"the lock {settings.lock}" if settings.lock else "no lock"
        golden = settings.golden or "that of the package"
        yield Finding("ok", "proofs", f"{settings.execution}; {lock}; golden set: {golden}")


def _judged(settings: ServerSettings) -> Collection[str] | None:
    """The models in the golden set; None where nobody needs to know, or the set is missing, which `proofs` reports."""
    if settings.execution == "fp32" or (settings.golden and not (settings.golden / "golden.json").exists()):
        return None
    from server.ensemble import read_golden, shipped_golden  # it imports torch

    return read_golden(settings.golden or shipped_golden()).set.models


def known_cards(settings: ServerSettings) -> list[ModelCard]:
    """The cards of the models; none if a model is unknown, which `model` reports."""
    try:
        return usable_cards(settings, chosen_models(settings, standing_of(settings)))[0]
    except SectorwatchError:
        return []
