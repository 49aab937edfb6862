"""Whether an event still follows from what is stored, and whether everything its provenance names is what it was.

A digest that fits says that a row is as it was written, or that whoever changed it changed all that is derived
from it as well: this finds accidents and single-handed tampering, not a forger who may write the whole database.

An event made under another version of the rules (`RULES_VERSION`) may come out otherwise today without anybody's
doing. That is told apart: all digests of its evidence are checked as ever, and what only its rules could repeat is not
called tampering.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import msgspec

from policies.events import Event, microseconds
from policies.fusion.judge import judge
from policies.fusion.judgement import Judgement
from policies.site.site_policy import RULES_VERSION, InvalidPolicy, SitePolicy, digest_of_stored, parse_site_policy
from server.domain.burst import burst_digest
from server.domain.errors import SectorwatchError, Unknown
from server.domain.records import BurstFacts, Checkpoint, EventRecord, KeptBurst, PolicyRecord, Recorded
from server.domain.refold import steps

START = Checkpoint(None, None)


class Past(Protocol):
    def burst(self, burst_id: str) -> BurstFacts | None: ...
    def policy(self, digest: str) -> PolicyRecord | None: ...


class Store(Protocol):
    @property
    def past(self) -> Past: ...
    def kept(self, burst_id: str) -> KeptBurst: ...
    def decisions(self, burst_id: str) -> list[Judgement]: ...
    def checkpoint(self, site: str, camera: str, before_us: int) -> Checkpoint: ...
    def history(
        self, site: str, camera: str, since_us: int | None = ..., until_us: int | None = ...
    ) -> Iterator[Recorded]: ...


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at: what, whether it holds, and what was found.

    `is_older`: it does not hold, and may well not, since another version of the rules was in force then.
    """

    what: str
    holds: bool
    found: str
    is_older: bool = False


class _Differs(Exception):
    """What a check found, when it does not hold."""


class _Older(_Differs):
    """The same, where another version of the rules explains it."""


def verified(store: Store, record: EventRecord, *, from_start: bool = False) -> Iterator[Check]:
    """Every check of one event, in order; all of them are made, whatever fails.

    The event is folded anew from the checkpoint before its evidence, or, `from_start`, from its camera's first
    frame, which trusts no checkpoint.
    """
    event = record.logged.event
    source = event.provenance
    checks: list[tuple[str, Callable[[], str]]] = [
        ("log row", partial(_row, record)),
        (f"policy {source.policy[:12]}", partial(_policy, store, event)),
    ]
    for burst_id in source.burst_ids:
        checks += [
            (f"burst {burst_id}", partial(_burst, store, event, burst_id)),
            (f"ensemble of {burst_id}", partial(_ensemble, store, event, burst_id)),
            (f"decision record of {burst_id}", partial(_decisions, store, burst_id)),
        ]
    checks += [
        ("frames", partial(_frames, store, event)),
        ("recomputed from its votes", partial(_recomputed, store, record, from_start)),
    ]
    for what, check in checks:
        yield _checked(what, check)


def _checked(what: str, check: Callable[[], str]) -> Check:
    try:
        return Check(what, True, check())
    except _Differs as difference:
        return Check(what, False, str(difference), isinstance(difference, _Older))
    except (SectorwatchError, msgspec.MsgspecError, ValueError, KeyError) as error:
        return Check(what, False, f"cannot be read: {error}")


def _row(record: EventRecord) -> str:
    event = record.logged.event
    for name in ("id", "site", "camera", "kind", "label"):
        _same(name, getattr(record, name), getattr(event, name))
    _same("sector", record.sector, event.sector or event.to_sector)
    _same("started_at", record.started_at_us, microseconds(event.started_at))
    _same("confirmed_at", record.confirmed_at_us, microseconds(event.confirmed_at))
    _same("burst of its last frame", record.logged.burst_id, event.provenance.burst_ids[-1])
    _same("event of its announcement", record.announced, event.id)
    return f"{event.kind}, {'withdrawn' if record.logged.is_withdrawn else 'holds'}; announcement {record.logged.seq}"


def _policy(store: Store, event: Event) -> str:
    kept = _policy_record(store, event.provenance.policy)
    _same("digest in the stored rules", kept.policy.digest, event.provenance.policy)
    _same("digest of the stored rules", digest_of_stored(kept.body), event.provenance.policy)
    _same("site", kept.site, event.site)
    if kept.policy.version != RULES_VERSION:
        raise _Older(f"the stored rules give this digest; {_since(kept.policy)}, and reads its text otherwise")
    try:
        read = parse_site_policy(kept.text)
    except InvalidPolicy as error:
        raise _Differs(f"its text cannot be read: {error}") from None
    if read.digest != event.provenance.policy:
        raise _Differs(f"its text was altered: it now has digest {read.digest[:12]}")
    if _encoded(read) != _encoded(kept.policy):
        raise _Differs("the stored rules are not those of its text")
    return "its text gives this digest, and the rules that are stored"


def _burst(store: Store, event: Event, burst_id: str) -> str:
    facts = store.past.burst(burst_id)
    if facts is None:
        raise _Differs("not stored")
    _same("camera", (facts.site, facts.camera), (event.site, event.camera))
    _same("mask", facts.mask_digest, event.provenance.mask_digest)
    seen = store.kept(burst_id).observations
    _same("count of frames", len(seen), facts.frames)
    _same("first and last frame", (facts.first_at_us, facts.last_at_us), (seen[0].at_us, seen[-1].at_us))
    offsets = [(one.at_us - facts.captured_at_us) // 1000 for one in seen]
    hashes = [one.frame_sha256 for one in seen]
    told = (facts.burst_id, facts.site, facts.camera, facts.captured_at_us)
    _same("digest", facts.digest, burst_digest(*told, offsets, hashes, facts.mask_digest))
    return f"{facts.frames} frames; its times and hashes give its digest {facts.digest[:12]}"


def _ensemble(store: Store, event: Event, burst_id: str) -> str:
    facts, kept = store.past.burst(burst_id), store.kept(burst_id)
    assert facts is not None, "kept() raises for a burst that is not stored"
    _same("digest in the stored ensemble", kept.ensemble_info.ensemble, facts.ensemble)
    if burst_id == event.provenance.burst_ids[-1]:
        _same("ensemble", facts.ensemble, event.provenance.ensemble)
    models = {model_info.model for model_info in kept.ensemble_info.models}
    for one in kept.observations:
        _same(f"models that were asked about frame {one.index}", set(one.answers), models)
    return f"{facts.ensemble[:12]}: {', '.join(model_info.model for model_info in kept.ensemble_info.models)}"


def _decisions(store: Store, burst_id: str) -> str:
    """The record says what the stored answers come to under the policy the burst was accepted under."""
    kept = store.kept(burst_id)
    site_policy = _policy_record(store, kept.policy).policy
    policy = site_policy.camera(kept.camera)
    recorded = store.decisions(burst_id)
    _same("count of frames", len(recorded), len(kept.observations))
    for one, said in zip(kept.observations, recorded, strict=True):
        if _encoded(judge(policy, one)) != _encoded(said):
            raise _unlike([site_policy], f"the stored answers to frame {one.index} come to something else")
    return "follows from the stored answers"


def _frames(store: Store, event: Event) -> str:
    stored = {one.frame_sha256 for burst_id in event.provenance.burst_ids for one in store.kept(burst_id).observations}
    for sha256 in event.provenance.frame_sha256:
        if sha256 not in stored:
            raise _Differs(f"no stored frame of its bursts has SHA-256 {sha256[:12]}")
    return f"{len(event.provenance.frame_sha256)} hashes are those of stored frames"


def _recomputed(store: Store, record: EventRecord, from_start: bool) -> str:
    event = record.logged.event
    start = START if from_start else _checkpoint(store, event)
    after_us = None if start.at_us is None else start.at_us + 1
    history = store.history(event.site, event.camera, after_us, microseconds(event.confirmed_at) + 1)
    frames, found = 0, None
    used: dict[str, SitePolicy] = {event.provenance.policy: _site_policy(store, event.provenance.policy)}

    def policy_of(digest: str) -> SitePolicy:
        return used.setdefault(digest, _site_policy(store, digest))

    for step in steps(history, start, policy_of):
        frames += 1
        found = found or next((one for one in step.events if one.id == event.id), None)
    since = "the camera's first frame" if start.at_us is None else "a checkpoint"
    if record.logged.is_withdrawn:
        if found is not None:
            raise _unlike(used.values(), "it was withdrawn, but the stored votes do tell it")
        return f"{frames} frames from {since} do not tell it, and it was withdrawn"
    if found is None:
        raise _unlike(used.values(), f"{frames} frames from {since} do not tell it")
    if _encoded(found) != _encoded(event):
        raise _unlike(used.values(), f"told otherwise: {', '.join(_differing(found, event))}")
    return f"{frames} frames from {since} tell it, bit for bit"


def _unlike(policies: Iterable[SitePolicy], found: str) -> _Differs:
    """The same votes come to something else: perhaps only since the rules themselves changed."""
    older = next((policy for policy in policies if policy.version != RULES_VERSION), None)
    return _Differs(found) if older is None else _Older(f"{found}; {_since(older)}")


def _since(policy: SitePolicy) -> str:
    return f"it was made under version {policy.version} of the rules, this server has version {RULES_VERSION}"


def _checkpoint(store: Store, event: Event) -> Checkpoint:
    """The newest checkpoint before all of the event's evidence."""
    firsts = [facts.first_at_us for i in event.provenance.burst_ids if (facts := store.past.burst(i)) is not None]
    before_us = min([*firsts, microseconds(event.started_at)])
    return store.checkpoint(event.site, event.camera, before_us)


def _differing(found: Event, event: Event) -> list[str]:
    return [name for name in Event.__struct_fields__ if getattr(found, name) != getattr(event, name)]


def _site_policy(store: Store, digest: str) -> SitePolicy:
    return _policy_record(store, digest).policy


def _policy_record(store: Store, digest: str) -> PolicyRecord:
    kept = store.past.policy(digest)
    if kept is None:
        raise Unknown(f"no policy {digest[:12]} is stored")
    return kept


def _same(what: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise _Differs(f"{what} is {found}, not {wanted}")


def _encoded(value: object) -> bytes:
    return msgspec.json.encode(value, order="deterministic")
