"""`sectorwatch nuisances`: what is seen weakly again and again, as suppressions with the events they would remove."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import click

from policies.events import Event, instant
from policies.site.site_policy import SitePolicy, parse_site_policy
from server.analysis.compare import compared
from server.analysis.nuisances import Nuisance, nuisances, sights
from server.analysis.policy_diff import difference
from server.analysis.scoring import outcome_of, truth_of
from server.commands.current_policy import PROPOSED, current_policy
from server.commands.folding import FoldTask, find_cameras, fold_many
from server.commands.options import Instant, found_settings, opened_store, store_options
from server.delivery.channels import text_line
from server.domain.clock import SECOND_US
from server.domain.errors import Unknown, Unprocessable
from server.domain.records import Annotation, CameraHead, LoggedEvent
from server.store import Store

HOUR_US = 3600 * SECOND_US
WEEK_US = 7 * 24 * HOUR_US
_SHOWN = 5
_WITHIN_S = 1.0


@dataclass(frozen=True, slots=True)
class _Effect:
    """What a policy with suppressions changes: events gone and new, and true facts told today that it would miss."""

    gone: tuple[Event, ...]
    new: tuple[Event, ...]
    lost: int


@click.command()
@click.argument("site")
@click.option("--accept", "accepted", multiple=True, metavar="NAME", help="Propose this one; may be given again.")
@click.option("--camera", help="Only of this camera.")
@click.option("--since", "since_us", type=Instant(), help="Begin of the past to look at (default: the last 7 days).")
@click.option(
    "--up-to", default=0.8, show_default=True, type=click.FloatRange(0, 1), help="Scores above this are firm, and stay."
)
@click.option("--days", default=3, show_default=True, type=click.IntRange(min=1), help="Days it must recur on.")
@click.option("--policy", "file", type=click.Path(path_type=Path), help="Start from this file, not from the live one.")
@store_options
def command(
    site: str,
    accepted: tuple[str, ...],
    camera: str | None,
    since_us: int | None,
    up_to: float,
    days: int,
    file: Path | None,
    config: Path | None,
    database: str | None,
    data_dir: Path | None,
) -> None:
    """List what SITE sees weakly, at the same place and hour, day after day.

    Each is a suppression with the events it would have removed; one that would remove an event annotated true is
    not offered. With --accept the change is written as a file beside the live policy, which is not touched.
    """
    settings = found_settings(config, database, data_dir)
    store = opened_store(config, database, data_dir)
    heads = find_cameras(store, site, camera)
    text, live = current_policy(store, settings, site, file)
    past = _Past(store, settings.database_url, site, heads, since_us, parse_site_policy(text))
    found = [one for head in heads for one in past.nuisances(head, up_to, days)]
    if accepted:
        _propose(past, text, live, [_named(found, name) for name in dict.fromkeys(accepted)])
        return
    for line in _listed(past, text, found, days):
        click.echo(line)


class _Past:
    """The stretch of a site's past that is looked at, under the policy of today.

    Effects are looked at from the first event marked true on, if that is earlier.
    """

    def __init__(
        self, store: Store, url: str, site: str, heads: Sequence[CameraHead], since_us: int | None, today: SitePolicy
    ) -> None:
        self._store = store
        self._url = url
        self._site = site
        self._until_us = max(head.last_at_us for head in heads) + 1
        self._since_us = self._until_us - WEEK_US if since_us is None else since_us
        self._cameras = [head.camera for head in heads]
        self._today = today
        self._said: list[Annotation] = store.annotations.current(site)
        true = [said.at_us for said in self._said if said.truth in ("true", "missed")]
        self._judged_since_us = min([self._since_us, *(at_us - HOUR_US for at_us in true)])

    @property
    def since(self) -> str:
        """Where the stretch begins, for people."""
        return f"{instant(self._since_us):%Y-%m-%dT%H:%M:%SZ}"

    def nuisances(self, head: CameraHead, up_to: float, days: int) -> list[Nuisance]:
        policy = self._today.camera(head.camera)
        seen = self._store.observations(self._site, head.camera, self._since_us, self._until_us)
        return nuisances(policy, sights(policy, seen), up_to=up_to, days=days)

    def effects(self, tried: Sequence[tuple[str, SitePolicy]]) -> list[_Effect]:
        """What each policy changes in its camera's events; policies of one camera stand side by side."""
        by_camera = groupby(tried, key=lambda pair: pair[0])
        tasks = [
            FoldTask(
                self._url,
                self._site,
                camera,
                (self._today, *(policy for _, policy in pairs)),
                self._judged_since_us,
                self._until_us,
            )
            for camera, pairs in by_camera
        ]
        return [effect for result in fold_many(tasks) for effect in self._effects(*result.events)]

    def _effects(self, before: Sequence[Event], *tried: Sequence[Event]) -> Iterator[_Effect]:
        truth = truth_of(self._said, (), self._judged_since_us, self._until_us)
        kept = Counter(outcome_of(truth, before, _WITHIN_S).kept)
        for after in tried:
            change = compared(before, after)
            lost = kept - Counter(outcome_of(truth, after, _WITHIN_S).kept)
            yield _Effect(change.only_a, change.only_b, lost.total())


def _listed(past: _Past, text: str, found: Sequence[Nuisance], days: int) -> Iterator[str]:
    offered = 0
    tried = [(one.camera, parse_site_policy(text + one.as_toml())) for one in found]
    for one, effect in zip(found, past.effects(tried), strict=True):
        if effect.lost or not effect.gone:
            continue
        offered += 1
        yield f"{one.name}: camera {one.camera}, {one.sights} times on {one.days} days, scores to {one.max_score:g}"
        yield from (f"  {line}" for line in _effect_lines(effect))
    if offered:
        yield f"`--accept NAME` proposes one; {offered} offered"
    else:
        yield f"Looked from {past.since}: nothing is seen weakly at one place and hour on {days} days or more and told"
        yield "events that nobody called true. `--days`, `--since` and `--up-to` say what counts."


def _effect_lines(effect: _Effect) -> Iterator[str]:
    for event in effect.gone[:_SHOWN]:
        yield f"would remove {text_line(LoggedEvent(0, event, False, None, ''))}"
    if len(effect.gone) > _SHOWN:
        yield f"would remove {len(effect.gone) - _SHOWN} more"
    for event in effect.new:
        yield f"would tell   {text_line(LoggedEvent(0, event, False, None, ''))}"


def _named(found: Sequence[Nuisance], name: str) -> Nuisance:
    called = [one for one in found if one.name == name]
    if len(called) > 1:
        cameras = ", ".join(one.camera for one in called)
        raise Unknown(f"several cameras have a `{name}`: say which with --camera ({cameras})")
    if not called:
        raise Unknown(
            f"no recurring nuisance is called `{name}`; names: {', '.join(o.name for o in found) or 'nothing'}"
        )
    return called[0]


def _propose(past: _Past, text: str, live: Path | None, chosen: Sequence[Nuisance]) -> None:
    """Check all that is accepted together once more, and write it beside the live file."""
    changed = text + "".join(one.as_toml() for one in chosen)
    policy = parse_site_policy(changed)
    every = past.effects([(camera, policy) for camera in dict.fromkeys(one.camera for one in chosen)])
    lost = sum(effect.lost for effect in every)
    if lost:
        raise Unprocessable(f"not proposed: it would remove {lost} events that were marked true")
    target = (live.parent / f"{live.name}{PROPOSED}") if live else Path(f"{chosen[0].camera}.toml{PROPOSED}")
    target.write_text(changed, encoding="utf-8")
    for line in (*difference(text, changed, live.name if live else "today", target.name), ""):
        click.echo(line)
    for line in (line for effect in every for line in _effect_lines(effect)):
        click.echo(line)
    gone = sum(len(effect.gone) for effect in every)
    click.echo(f"\nIt would have removed {gone} events. Proposed, and not in force: {target}")
    if live:
        click.echo(f"To put it into force: mv {target} {live}")
