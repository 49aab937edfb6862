"""`sectorwatch models swap|rollback|status|history`: change the models of the running servers; no request fails."""

from __future__ import annotations

import getpass
import os
from pathlib import Path
from typing import Any

import click
import msgspec
import requests

from server.commands.options import aligned, config_option, current_store, echo_lines, store_options, utc
from server.domain.errors import ConfigurationError, Conflict
from server.domain.fleet import MISMATCHED, SAME_SITES, sites_differ, state_of
from server.serving.served import InService
from server.serving.swap import Comparison, Rollback, Swap
from server.settings import ServerSettings, load_settings
from server.web.control import address_in

_in_service = msgspec.json.Decoder(InService)

_CONNECT_S = 5.0
_OTHERS = {
    "serves": "serves it too",
    "behind": "does not serve it yet; `sectorwatch models status` shows when it does",
    "gone": "gives no sign of life; it serves this ensemble once it is back",
}

_data_dir = click.option("--data-dir", type=click.Path(path_type=Path), help="Folder of the server's data.")


@click.command()
@click.argument("names", nargs=-1, metavar="[MODEL]...")
@config_option
@_data_dir
@click.option(
    "--shadow",
    "shadow_s",
    type=click.FloatRange(min=0),
    default=0.0,
    metavar="SECONDS",
    help="First run the new models on live frames as well, for this long, and report which labels differ.",
)
@click.option("--shadow-frames", type=click.IntRange(min=1), help="End the shadow run after this many frames.")
def swap(
    names: tuple[str, ...], config: Path | None, data_dir: Path | None, shadow_s: float, shadow_frames: int | None
) -> None:
    """Make the server on this machine, and all others on its database, serve other models (default: those of the
    settings).

    Reads cards, weights, your own models, lock and golden set again. The new ensemble is loaded beside the present
    ensemble and checked against lock, golden set and memory; then new requests use it. No request fails meanwhile.
    Once all servers that live have it ready, all serve it; where one refuses it, none does, and it says which and why.
    After a restart a server serves the new ensemble, until the setting `models` changes.
    """
    if shadow_frames is not None and not shadow_s:
        raise click.UsageError("--shadow-frames needs --shadow SECONDS")
    settings = load_settings(config, data_dir=data_dir)
    request = Swap(names or settings.models, shadow_s, shadow_frames or 0, _user())
    click.echo(f"Loading {', '.join(request.models)} ... (the server's log shows the progress)", err=True)
    served = _request(settings, "swap", request)
    if served.compared is not None:
        _show(served.compared)
    _show_served(served, settings)


@click.command()
@config_option
@_data_dir
def rollback(config: Path | None, data_dir: Path | None) -> None:
    """Make all servers on the database serve the ensemble before the last swap, at once: it is still in memory."""
    settings = load_settings(config, data_dir=data_dir)
    _show_served(_request(settings, "rollback", Rollback(_user())), settings)
    if settings.lock is not None:
        click.echo(f"{settings.lock} locks the other ensemble: write it again before the next start.", err=True)


@click.command()
@store_options
@click.option(
    "--limit", type=click.IntRange(min=1), default=50, show_default=True, help="Show at most this many, the newest."
)
def history(settings: ServerSettings, limit: int) -> None:
    """Show which ensemble served from when, and when its answers differed from the golden set."""
    for notice in current_store(settings).notices.all(limit):
        replica = "" if notice.instance is None else f"{notice.instance} "
        what = f"{replica}{notice.what} {notice.ensemble} {','.join(notice.models)}"
        click.echo(f"{utc(notice.at_us, 'seconds')} {what}: {notice.detail}")


@click.command()
@store_options
def status(settings: ServerSettings) -> None:
    """Show which ensemble all servers on the database are to serve, what each of them serves, and which one deletes
    what is not to be kept and folds in late bursts, for all; also whether they judge by different site policies.

    Exit code 1 if one that lives does not serve it.
    """
    standing = current_store(settings).fleet.standing()
    if standing.wanted is None:
        raise click.ClickException("no server has served models on this database: start `sectorwatch serve`")
    wanted = standing.wanted
    author = f" by {wanted.author}" if wanted.author else " at its start"
    asked = f"since {utc(wanted.asked_at_us, 'seconds')}, asked of {wanted.instance}{author}"
    click.echo(f"generation {wanted.number} {wanted.ensemble} {','.join(wanted.models)} {asked}")
    keeper = standing.with_upkeep()
    states = [(each.name, *state_of(each, standing)) for each in standing.replicas]
    echo_lines(aligned([("REPLICA", "STATE", "WHAT"), *states]) if states else ["no server runs on this database"])
    if keeper is not None:
        click.echo(f"upkeep by {keeper.name} since {utc(keeper.upkeep_since_us or 0, 'seconds')}")
    if (differ := sites_differ(standing)) is not None:
        click.echo(f"site policies differ, unchanged for {differ.for_s:.0f} s: {differ.what}")
        click.echo(f"  -> {SAME_SITES}")
    raise SystemExit(1 if any(state in MISMATCHED for _name, state, _what in states) else 0)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user of a container without a name
        return f"user {os.getuid()}"


def _request(settings: ServerSettings, what: str, body: object) -> InService:
    """Send a request to the running server. Raises Conflict if it refuses, ConfigurationError if it does not answer."""
    address = address_in(settings.data_dir)
    try:
        answer = requests.post(
            f"{address.url}/{what}",
            data=msgspec.json.encode(body),
            headers={"Authorization": f"Bearer {address.key}"},
            timeout=(_CONNECT_S, None),
        )
    except requests.RequestException as error:
        raise ConfigurationError(
            f"the server of {settings.data_dir} does not answer ({type(error).__name__}): start `sectorwatch serve`"
        ) from None
    if not answer.ok:
        raise Conflict(_detail(answer))
    return _in_service.decode(answer.content)


def _detail(answer: requests.Response) -> str:
    problem: Any = answer.json() if "json" in answer.headers.get("Content-Type", "") else {}
    return str(problem.get("detail", f"the server answered {answer.status_code}"))


def _show(compared: Comparison) -> None:
    click.echo(f"{compared.frames} frames of {compared.requests} requests went to both ensembles:")
    for changed in compared.changed:
        was, now = changed.was or "(no answer)", changed.now or "(no answer)"
        click.echo(f"  {changed.model}: {was} -> {now} in {changed.frames} frames")
    if not compared.changed:
        click.echo("  no label differs" if compared.frames else "  no frame came, or there was no spare time")


def _show_served(served: InService, settings: ServerSettings) -> None:
    click.echo(f"{served.ensemble} serves: {', '.join(served.models)}")
    for other in served.others:
        click.echo(f"  {other.name}: {_OTHERS[other.state]}")
    click.echo(f"before it: {served.instead_of} (`sectorwatch models rollback` goes back)")
    if served.models != settings.models:
        names = ", ".join(f'"{name}"' for name in served.models)
        click.echo(f"A restart serves it again. To put it into the settings: models = [{names}]")
