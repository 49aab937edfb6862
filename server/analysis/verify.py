"""Verify an event: recompute it from the stored labels, and check every digest in its provenance.

This finds accidents and single changes. It does not find a forger who rewrites the whole database consistently.
Where the site no longer keeps what a check takes, it says so: that is no sign of tampering.

An event made under another version of the rules (`RULES_VERSION`) may differ today although nobody changed it. Its
digests are still checked, but a difference that the rules explain is marked as older and not as tampering.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, partial

import msgspec

from policies.events import Event, microseconds
from policies.fusion.judge import judge
from policies.site.site_policy import RULES_VERSION, InvalidPolicy, SitePolicy, digest_of_stored, parse_site_policy
from server.analysis.stored import Store
from server.domain.burst import burst_digest
from server.domain.errors import SectorwatchError, Unknown
from server.domain.folding.refold import steps
from server.domain.keeping import DAY_US
from server.domain.records import BurstFacts, Checkpoint, EventRecord, KeptBurst, PolicyRecord

_Kept = Callable[[str], KeptBurst]

START = Checkpoint(None, None)

_FIRST_NUMBERS = (
    '0.4,{"hog-people":0.7,"hog-people-small":0.7}',
    '0.4,{"hog-people":0.9,"hog-people-small":0.9},{"hog-people":0.5,"hog-people-small":0.5}',
)
"""The shipped scores and weights that versions before 0.1.0 put into a policy's digest, and not into its JSON."""


class Check(msgspec.Struct, frozen=True):
    """What was checked, whether it holds, and the finding.

    `is_older`: other rules explain a failure. `is_gone`: it cannot be checked, because the site no longer keeps what it
    takes.
    """

    what: str
    holds: bool
    finding: str = msgspec.field(name="found")
    is_older: bool = False
    is_gone: bool = False


def summary_of(checks: Sequence[Check]) -> str:
    """The result of all checks in a sentence."""
    count = len(checks)
    older, gone = sum(check.is_older for check in checks), sum(check.is_gone for check in checks)
    failed = sum(not check.holds for check in checks) - older - gone
    if failed:
        return f"{failed} of {count} checks failed"
    if gone and not older:
        return f"{count - gone} of {count} checks hold; what the others take is no longer kept"
    if older:
        return f"{count - older} of {count} checks hold; the others can be repeated only by the older rules"
    return f"all {count} checks hold"


class _Differs(Exception):
    """A check fails."""


class _NoLongerKept(_Differs):
    """A check cannot be made: retention or an erasure removed what it takes."""


class _Older(_Differs):
    """A check fails, and another version of the rules explains it."""


def verify(store: Store, record: EventRecord, *, from_start: bool = False) -> Iterator[Check]:
    """Every check of one event, in order; a failure does not end them.

    The event is folded again from the checkpoint before its evidence. With `from_start` it is folded from its camera's
    first frame, so that no checkpoint is trusted.
    """
    event = record.logged.event
    source = event.provenance
    kept_burst = cache(store.kept)  # its first read judges the burst again, and four checks take it
    checks: list[tuple[str, Callable[[], str]]] = [
        ("log row", partial(_row, record)),
        (f"policy {source.policy[:12]}", partial(_policy, store, event)),
    ]
    for burst_id in source.burst_ids:
        checks += [
            (f"burst {burst_id}", partial(_burst, store, kept_burst, event, burst_id)),
            (f"ensemble of {burst_id}", partial(_ensemble, store, kept_burst, event, burst_id)),
            (f"decision record of {burst_id}", partial(_decisions, store, kept_burst, event, burst_id)),
        ]
    checks += [
        ("frames", partial(_frames, store, kept_burst, event)),
        *_picture_checks(store, event),
        ("recomputed from its votes", partial(_recomputed, store, record, from_start)),
    ]
    yield from (_result(what, check) for what, check in checks)


def _result(what: str, check: Callable[[], str]) -> Check:
    try:
        return Check(what, True, check())
    except _Differs as difference:
        return Check(
            what, False, str(difference), isinstance(difference, _Older), isinstance(difference, _NoLongerKept)
        )
    except (SectorwatchError, msgspec.MsgspecError, ValueError, KeyError) as error:
        return Check(what, False, f"cannot be read: {error}")


def _row(record: EventRecord) -> str:
    event = record.logged.event
    for name in ("id", "site", "camera", "kind", "label"):
        _same(name, getattr(record, name), getattr(event, name))
    _same("sector", record.sector, event.sector or event.to_sector)
    _same("started_at", record.started_at_us, microseconds(event.started_at))
    _same("confirmed_at", record.confirmed_at_us, microseconds(event.confirmed_at))
    if not record.is_intact:
        raise _Differs("the row was altered: it does not give the event that was stored")
    _same("burst of its last frame", record.logged.burst_id, event.provenance.burst_ids[-1])
    _same("event of its announcement", record.announced, event.id)
    number = f"announcement {record.logged.seq}" if record.logged.has_number else "about to be announced"
    return f"{event.kind}, {'withdrawn' if record.logged.is_withdrawn else 'holds'}; {number}"


def _policy(store: Store, event: Event) -> str:
    kept = _policy_record(store, event.provenance.policy)
    _same("digest in the stored rules", kept.policy.digest, event.provenance.policy)
    if event.provenance.policy not in _digests(kept.body, kept.policy.digest):
        _same("digest of the stored rules", digest_of_stored(kept.body), event.provenance.policy)
    _same("site", kept.site, event.site)
    if kept.policy.version != RULES_VERSION:
        raise _Older(f"the stored rules give this digest; {_version(kept.policy)}, and reads its text differently")
    try:
        read = parse_site_policy(kept.text)
    except InvalidPolicy as error:
        raise _Differs(f"its text cannot be read: {error}") from None
    if read.digest != event.provenance.policy:
        raise _Differs(f"its text was altered: it now has digest {read.digest[:12]}")
    if _encoded(read) != _encoded(kept.policy):
        raise _Differs("the stored rules are not those of its text")
    return "its text gives this digest, and the rules that are stored"


def _digests(body: str, digest: str) -> Iterator[str]:
    """The digests that a policy's stored JSON gives, by each form that digests ever had."""
    yield digest_of_stored(body)
    plain = body.replace(f'"digest":"{digest}"', '"digest":""')
    for numbers in _FIRST_NUMBERS:
        yield hashlib.sha256(f"[1,{numbers},{plain}]".encode()).hexdigest()


def _facts(store: Store, event: Event, burst_id: str) -> BurstFacts:
    """A burst of an event's evidence. Raises _NoLongerKept or _Differs where it is not stored."""
    facts = store.past.burst(burst_id)
    if facts is not None:
        return facts
    # A track may be older than its event, and its best frame lie before it.
    confirmed_us, began_us = microseconds(event.confirmed_at), microseconds(event.started_at)
    if store.retention.gone(event.site, event.camera).is_burst_gone(began_us - DAY_US, confirmed_us + 1):
        raise _NoLongerKept("no longer kept")
    raise _Differs("not stored")


def _burst(store: Store, kept_burst: _Kept, event: Event, burst_id: str) -> str:
    facts = _facts(store, event, burst_id)
    _same("camera", (facts.site, facts.camera), (event.site, event.camera))
    _same("mask", facts.mask_digest, event.provenance.mask_digest)
    seen = kept_burst(burst_id).observations
    _same("count of frames", len(seen), facts.frames)
    _same("first and last frame", (facts.first_at_us, facts.last_at_us), (seen[0].at_us, seen[-1].at_us))
    offsets = [(frame.at_us - facts.captured_at_us) // 1000 for frame in seen]
    hashes = [frame.frame_sha256 for frame in seen]
    origin = (facts.burst_id, facts.site, facts.camera, facts.captured_at_us)
    _same("digest", facts.digest, burst_digest(*origin, offsets, hashes, facts.mask_digest))
    return f"{facts.frames} frames; its times and hashes give its digest {facts.digest[:12]}"


def _ensemble(store: Store, kept_burst: _Kept, event: Event, burst_id: str) -> str:
    facts, kept = _facts(store, event, burst_id), kept_burst(burst_id)
    _same("digest in the stored ensemble", kept.ensemble_info.ensemble, facts.ensemble)
    if burst_id == event.provenance.burst_ids[-1]:
        _same("ensemble", facts.ensemble, event.provenance.ensemble)
    models = {model_info.model for model_info in kept.ensemble_info.models}
    for frame in kept.observations:
        _same(f"models that were asked about frame {frame.index}", set(frame.answers), models)
    return f"{facts.ensemble[:12]}: {', '.join(model_info.model for model_info in kept.ensemble_info.models)}"


def _decisions(store: Store, kept_burst: _Kept, event: Event, burst_id: str) -> str:
    """The stored answers, under the policy by which the burst was accepted, give the verdicts of that time."""
    _facts(store, event, burst_id)
    kept = kept_burst(burst_id)
    site_policy = _policy_record(store, kept.policy).policy
    policy = site_policy.camera(kept.camera)
    if not store.is_judged_alike(burst_id, [judge(policy, frame) for frame in kept.observations]):
        raise _difference([site_policy], "the stored answers give other verdicts than those of its acceptance")
    return "follows from the stored answers"


def _frames(store: Store, kept_burst: _Kept, event: Event) -> str:
    gone = False
    stored: set[str] = set()
    for burst_id in event.provenance.burst_ids:
        try:
            _facts(store, event, burst_id)
        except _NoLongerKept:
            gone = True
        else:
            stored.update(frame.frame_sha256 for frame in kept_burst(burst_id).observations)
    missing = [sha256 for sha256 in event.provenance.frame_sha256 if sha256 not in stored]
    if missing and gone:
        raise _NoLongerKept(f"{len(missing)} of {len(event.provenance.frame_sha256)} are no longer kept")
    if missing:
        raise _Differs(f"no stored frame of its bursts has SHA-256 {missing[0][:12]}")
    return f"{len(event.provenance.frame_sha256)} hashes are those of stored frames"


def _picture_checks(store: Store, event: Event) -> Iterator[tuple[str, Callable[[], str]]]:
    """A check of the pictures that are kept of the event's frames; none where none is."""
    fates = store.frames.fates(event.site, event.camera, event.provenance.frame_sha256)
    kept = [sha256 for sha256, fate in fates.items() if fate == "kept"]
    if kept:
        yield "pictures", partial(_pictures, store, kept, len(fates))


def _pictures(store: Store, kept: Sequence[str], count: int) -> str:
    for sha256 in kept:
        image = store.frames.image(sha256)
        if image is None or hashlib.sha256(image).hexdigest() != sha256:
            raise _Differs(f"the picture {sha256[:12]} is lost, or its bytes have another SHA-256")
    return f"the bytes of {len(kept)} of {count} frames are kept and have these hashes"


def _recomputed(store: Store, record: EventRecord, from_start: bool) -> str:
    event = record.logged.event
    if store.retention.gone(event.site, event.camera).is_proof_gone(event):
        raise _NoLongerKept("its votes are no longer kept")
    start = START if from_start else _checkpoint(store, event)
    after_us = None if start.at_us is None else start.at_us + 1
    history = store.history(event.site, event.camera, after_us, microseconds(event.confirmed_at) + 1)
    frames, recomputed = 0, None
    used = {event.provenance.policy: _policy_record(store, event.provenance.policy).policy}

    def policy_of(digest: str) -> SitePolicy:
        if digest not in used:
            used[digest] = _policy_record(store, digest).policy
        return used[digest]

    for step in steps(history, start, policy_of):
        frames += 1
        recomputed = recomputed or next((each for each in step.events if each.id == event.id), None)
    since = "the camera's first frame" if start.at_us is None else "a checkpoint"
    if record.logged.is_withdrawn:
        if recomputed is not None:
            raise _difference(used.values(), "it was withdrawn, but the stored votes give it")
        return f"{frames} frames from {since} do not give it, and it was withdrawn"
    if recomputed is None:
        raise _difference(used.values(), f"{frames} frames from {since} do not give it")
    if _encoded(recomputed) != _encoded(event):
        fields = [name for name in Event.__struct_fields__ if getattr(recomputed, name) != getattr(event, name)]
        raise _difference(used.values(), f"the stored votes give another {', '.join(fields)}")
    return f"{frames} frames from {since} give it, bit for bit"


def _difference(policies: Iterable[SitePolicy], finding: str) -> _Differs:
    """The error for a result that differs; `_Older` if one of the policies has another version of the rules."""
    older = next((policy for policy in policies if policy.version != RULES_VERSION), None)
    return _Differs(finding) if older is None else _Older(f"{finding}; {_version(older)}")


def _version(policy: SitePolicy) -> str:
    return f"it was made under version {policy.version} of the rules, this server has version {RULES_VERSION}"


def _checkpoint(store: Store, event: Event) -> Checkpoint:
    """The newest checkpoint before all of the event's evidence."""
    firsts = [facts.first_at_us for i in event.provenance.burst_ids if (facts := store.past.burst(i)) is not None]
    before_us = min([*firsts, microseconds(event.started_at)])
    return store.checkpoint(event.site, event.camera, before_us)


def _policy_record(store: Store, digest: str) -> PolicyRecord:
    kept = store.past.policy(digest)
    if kept is None:
        raise Unknown(f"no policy {digest[:12]} is stored")
    return kept


def _same(what: str, actual: object, expected: object) -> None:
    if actual != expected:
        raise _Differs(f"{what} is {actual}, not {expected}")


def _encoded(value: object) -> bytes:
    return msgspec.json.encode(value, order="deterministic")
