"""`sectorwatch nuisances`: recurring weak detections, as suppressions with the events that they would remove."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import click

from policies.events import Event
from policies.site.site_policy import SitePolicy, parse_site_policy
from server.analysis.compare import compared
from server.analysis.nuisances import Nuisance, detections, nuisances
from server.analysis.policy_diff import difference
from server.analysis.tuning.scoring import outcome_of, truth_of
from server.commands.cameras import find_cameras, gone_within, with_bursts
from server.commands.current_policy import current_policy, keep_proposal, write_policy
from server.commands.events import dated_lines
from server.commands.folding import FoldTask, fold_many
from server.commands.options import Instant, Window, current_store, echo_lines, local_of, store_options, stretch
from server.domain.errors import Unknown, Unprocessable
from server.domain.records import CameraHead
from server.domain.times.clock import SECOND_US
from server.domain.times.local_time import FORMS, LocalTime, When
from server.settings import ServerSettings
from server.store import Store

HOUR_US = 3600 * SECOND_US
WEEK_US = 7 * 24 * HOUR_US
_SHOWN = 5
_WITHIN_S = 1.0
_LONGEST_NAMES = 200


@dataclass(frozen=True, slots=True)
class _Effect:
    """What a policy with suppressions changes: events gone and new, and the number of true facts that it would miss."""

    gone: tuple[Event, ...]
    new: tuple[Event, ...]
    lost: int


@click.command()
@click.argument("site")
@click.option("--accept", "accepted", multiple=True, metavar="NAME", help="Propose this suppression; may be repeated.")
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the policy with what is accepted into this file, and propose nothing.",
)
@click.option("--camera", help="Only of this camera.")
@click.option("--since", type=Instant(), help=f"Begin of the examined past: {FORMS} (default: the last 7 days).")
@click.option(
    "--up-to",
    default=0.8,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="Detections with higher scores are strong, and are not suppressed.",
)
@click.option("--days", default=3, show_default=True, type=click.IntRange(min=1), help="Days on which it must recur.")
@click.option(
    "--policy", "file", type=click.Path(path_type=Path), help="Start from this file instead of the live file."
)
@store_options
def command(
    site: str,
    accepted: tuple[str, ...],
    out: Path | None,
    camera: str | None,
    since: When | None,
    up_to: float,
    days: int,
    file: Path | None,
    settings: ServerSettings,
) -> None:
    """List the weak detections of SITE that recur at the same place and hour on several days.

    Each is a suppression with the events that it would have removed. A suppression that would remove an event annotated
    as true is not offered. --accept keeps the change as a proposed version, which `sectorwatch policy` and the console
    show; what is in force stays as it is.
    """
    if out is not None and not accepted:
        raise click.UsageError("--out is for what --accept names")
    store = current_store(settings)
    heads = find_cameras(store, site, camera)
    text, _ = current_policy(store, settings, site, file)
    local = local_of(settings, store, site)
    since_us, _ = stretch(local, since, None)
    past = _Past(store, settings.database_url, local, heads, since_us, parse_site_policy(text))
    recurring = [nuisance for head in heads for nuisance in past.nuisances(head.camera, up_to, days)]
    if accepted:
        chosen = [_named(recurring, name) for name in dict.fromkeys(accepted)]
        changed = _with_accepted(past, text, chosen)
        if out is None:
            keep_proposal(store, settings, site, changed, _reason(chosen))
        else:
            echo_lines(difference(text, changed, "today", out.name))
            write_policy(out, changed)
            click.echo(f"Written: {out}. To propose it: sectorwatch policy propose {site} {out}", err=True)
    else:
        echo_lines(_listed(past, text, recurring, days))


class _Past:
    """The examined stretch of a site's past, under today's policy.

    Effects are examined from before the first event annotated as true, if that is earlier.
    """

    def __init__(
        self,
        store: Store,
        url: str,
        local: LocalTime,
        heads: Sequence[CameraHead],
        since_us: int | None,
        today: SitePolicy,
    ) -> None:
        self.local = local
        self._store = store
        self._url = url
        self._today = today
        self._until_us = max(head.last_at_us for head in heads) + 1
        self.since_us = self._until_us - WEEK_US if since_us is None else since_us
        gone = gone_within(store, local, Window(self.since_us, self._until_us, today.site, None))
        self._annotations = with_bursts(store.annotations.current(today.site), gone)
        true = [each.at_us - HOUR_US for each in self._annotations if each.truth in ("true", "missed")]
        self._effects_since_us = min([self.since_us, *true])

    def nuisances(self, camera: str, up_to: float, days: int) -> list[Nuisance]:
        policy = self._today.camera(camera)
        seen = self._store.observations(self._today.site, camera, self.since_us, self._until_us)
        return nuisances(policy, detections(policy, seen), up_to=up_to, days=days)

    def lines(self, effect: _Effect) -> Iterator[str]:
        """An effect for a person."""
        line = dated_lines(self._store, self.local, (*effect.gone[:_SHOWN], *effect.new))
        yield from (f"would remove {line(event)}" for event in effect.gone[:_SHOWN])
        if len(effect.gone) > _SHOWN:
            yield f"would remove {len(effect.gone) - _SHOWN} more"
        yield from (f"would add    {line(event)}" for event in effect.new)

    def effects(self, tried: Sequence[tuple[str, SitePolicy]]) -> list[_Effect]:
        """What each policy changes in its camera's events; the policies of a camera are adjacent."""
        site, stretch = self._today.site, (self._effects_since_us, self._until_us)
        tasks = [
            FoldTask(self._url, site, camera, (self._today, *(policy for _, policy in pairs)), *stretch)
            for camera, pairs in groupby(tried, key=lambda pair: pair[0])
        ]
        return [effect for result in fold_many(tasks) for effect in self._effects(*result.events)]

    def _effects(self, before: Sequence[Event], *tried: Sequence[Event]) -> Iterator[_Effect]:
        truth = truth_of(self._annotations, (), self._effects_since_us, self._until_us)
        kept = Counter(outcome_of(truth, before, _WITHIN_S).kept)
        for after in tried:
            change = compared(before, after)
            lost = kept - Counter(outcome_of(truth, after, _WITHIN_S).kept)
            yield _Effect(change.only_a, change.only_b, lost.total())


def _listed(past: _Past, text: str, recurring: Sequence[Nuisance], days: int) -> Iterator[str]:
    tried = [(nuisance.camera, parse_site_policy(text + nuisance.as_toml())) for nuisance in recurring]
    effects = zip(recurring, past.effects(tried), strict=True)
    offered = [(nuisance, effect) for nuisance, effect in effects if effect.gone and not effect.lost]
    for nuisance, effect in offered:
        seen = f"{nuisance.sights} times on {nuisance.days} days, scores to {nuisance.max_score:g}"
        yield f"{nuisance.name}: camera {nuisance.camera}, {seen}"
        yield from (f"  {line}" for line in past.lines(effect))
    if offered:
        yield f"{len(offered)} offered; `--accept NAME` proposes a suppression"
    else:
        yield f"Examined from {past.local.dated(past.since_us)}: no weak detection recurs at the same place and hour on"
        yield f"{days} days or more and causes events that nobody annotated as true. See --days, --since and --up-to."


def _named(recurring: Sequence[Nuisance], name: str) -> Nuisance:
    named = [nuisance for nuisance in recurring if nuisance.name == name]
    if not named:
        names = ", ".join(nuisance.name for nuisance in recurring) or "none"
        raise Unknown(f"no recurring nuisance is called `{name}`; names: {names}")
    if len(named) > 1:
        cameras = ", ".join(nuisance.camera for nuisance in named)
        raise Unknown(f"several cameras have a `{name}`: choose with --camera ({cameras})")
    return named[0]


def _with_accepted(past: _Past, text: str, chosen: Sequence[Nuisance]) -> str:
    """The policy with the accepted suppressions. Says what they would have removed together. Raises Unprocessable."""
    changed = text + "".join(nuisance.as_toml() for nuisance in chosen)
    policy = parse_site_policy(changed)
    effects = past.effects([(camera, policy) for camera in dict.fromkeys(nuisance.camera for nuisance in chosen)])
    if lost := sum(effect.lost for effect in effects):
        raise Unprocessable(f"not proposed: it would remove {lost} events that were annotated as true")
    echo_lines(line for effect in effects for line in past.lines(effect))
    click.echo(f"It would have removed {sum(len(effect.gone) for effect in effects)} events.\n")
    return changed


def _reason(chosen: Sequence[Nuisance]) -> str:
    """Why the version is proposed, no longer than a reason may be."""
    names = ", ".join(nuisance.name for nuisance in chosen)
    return f"nuisances: {names}" if len(names) < _LONGEST_NAMES else f"nuisances: {len(chosen)} suppressions"
