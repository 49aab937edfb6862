"""`sectorwatch models swap|rollback|history`: other models for a running server, without a request that fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec
import requests

from policies.events import instant
from server.commands.options import opened_store, store_options
from server.domain.errors import ConfigurationError, Conflict
from server.serving.service import InService
from server.serving.swap import Comparison, Swap
from server.settings import ServerSettings, load_settings
from server.web.control import address_in

_CONNECT_S = 5.0

_config = click.option("--config", type=click.Path(path_type=Path), help="Settings file (TOML) of the server.")
_data_dir = click.option("--data-dir", type=click.Path(path_type=Path), help="Folder of the server's data.")


@click.command()
@click.argument("names", nargs=-1, metavar="[MODEL]...")
@_config
@_data_dir
@click.option(
    "--shadow",
    "shadow_s",
    type=click.FloatRange(min=0),
    default=0.0,
    metavar="SECONDS",
    help="First ask the next models about live frames too, for so long, and report which labels differ.",
)
@click.option("--shadow-frames", type=click.IntRange(min=1), help="End the shadow after so many frames.")
def swap(
    names: tuple[str, ...], config: Path | None, data_dir: Path | None, shadow_s: float, shadow_frames: int | None
) -> None:
    """Have the server that runs here serve other models (none named: those of the settings).

    Cards, weights, your own models, lock and golden set are read anew. The next ensemble is built beside the present
    one, held against lock, golden set and memory, and then given to new requests; none fails meanwhile. After a
    restart it is served again, until the setting `models` is changed.
    """
    if shadow_frames is not None and not shadow_s:
        raise click.UsageError("--shadow-frames goes with --shadow SECONDS, which bounds it")
    settings = load_settings(config, data_dir=data_dir)
    asked = Swap(names or settings.models, shadow_s, shadow_frames or 0)
    click.echo(f"Loading {', '.join(asked.models)} ... (the server's log says how far it is)", err=True)
    served = _asked(settings, "swap", asked)
    if served.compared is not None:
        _show(served.compared)
    _tell(served, settings)


@click.command()
@_config
@_data_dir
def rollback(config: Path | None, data_dir: Path | None) -> None:
    """Have the server that runs here serve what it served before the last swap: at once, since that is in memory."""
    settings = load_settings(config, data_dir=data_dir)
    _tell(_asked(settings, "rollback", None), settings)
    if settings.lock is not None:
        click.echo(f"{settings.lock} must lock it again before the next start, which goes by the file.", err=True)


@click.command()
@store_options
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="The newest so many.")
def history(config: Path | None, database: str | None, data_dir: Path | None, limit: int) -> None:
    """Show which ensemble served from when, and when it did not answer as approved."""
    for notice in opened_store(config, database, data_dir).notices.all(limit):
        at = instant(notice.at_us).isoformat(timespec="seconds").replace("+00:00", "Z")
        click.echo(f"{at} {notice.what} {notice.ensemble} {','.join(notice.models)}: {notice.detail}")


def _asked(settings: ServerSettings, what: str, body: object) -> InService:
    """What the server answers. Raises Conflict with its refusal; ConfigurationError when it does not answer."""
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
    return msgspec.json.decode(answer.content, type=InService)


def _detail(answer: requests.Response) -> str:
    problem: Any = answer.json() if "json" in answer.headers.get("Content-Type", "") else {}
    return str(problem.get("detail", f"the server answered {answer.status_code}"))


def _show(compared: Comparison) -> None:
    click.echo(f"{compared.frames} frames of {compared.requests} requests were asked of both:")
    for changed in compared.changed:
        was, now = changed.was or "(no answer)", changed.now or "(no answer)"
        click.echo(f"  {changed.model}: {was} -> {now} in {changed.frames} frames")
    if not compared.changed:
        click.echo("  no label differs" if compared.frames else "  none came, or there was nothing to spare")


def _tell(served: InService, settings: ServerSettings) -> None:
    click.echo(f"{served.ensemble} serves: {', '.join(served.models)}")
    click.echo(f"before it: {served.instead_of} (`sectorwatch models rollback` goes back)")
    if served.models != settings.models:
        names = ", ".join(f'"{name}"' for name in served.models)
        click.echo(f"A restart serves it again; to say so in the settings as well: models = [{names}]")
