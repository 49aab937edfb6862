"""`camera-agent validate`: what a settings file means."""

from __future__ import annotations

from pathlib import Path

from camera_agent.config.settings import CameraSettings, Settings
from camera_agent.network.addresses import is_loopback
from camera_agent.state import camera_tokens


def summary(file: Path, settings: Settings) -> list[str]:
    """Lines for the user."""
    token = "with a token" if has_token(settings) else "without a token"
    return [
        f"{file} is valid",
        f"  site {settings.site} -> {settings.server.shown_url} ({token})",
        f"  state in {settings.state_folder}",
        f"  spool in {settings.spool_folder}, up to {settings.spool.max_bytes:,} bytes",
        *(f"  camera {camera.name}: {camera.source}; {describe_schedule(camera)}" for camera in settings.cameras),
    ]


def has_token(settings: Settings) -> bool:
    """Whether any camera has a token."""
    try:
        return any(read() for read in camera_tokens(settings).values())
    except OSError:  # there is one, and it cannot be read
        return True


def clear_token_advice(settings: Settings) -> str | None:
    """What to do where a token and pictures cross the network in the clear; None where they do not."""
    url = settings.server.url
    if url.lower().startswith("https://") or is_loopback(url) or not has_token(settings):
        return None
    return (
        f"the token and the pictures go to {settings.server.shown_url} in the clear: run `sectorwatch tls init` on the "
        "server, start it again, and set `url` and `fingerprint` in [server] as it prints them"
    )


def describe_schedule(camera: CameraSettings) -> str:
    """When a camera takes what."""
    bursts = f"{camera.burst.frames} frames {camera.spacing_s:g} s apart"
    off = f"; off outside {', '.join(camera.hours)}" if camera.hours else ""
    if camera.gate is not None:
        looks, quiet_s = camera.gate.looks_per_s, camera.gate.quiet_every_s
        return f"gate at {looks:g} looks a second, then {bursts}; quiet, one every {quiet_s:g} s{off}"
    gap_s = camera.every_s - camera.burst.frames * camera.spacing_s
    gap = f"blind for {gap_s:g} s between bursts" if gap_s > 1e-6 else "no blind time"
    return f"{bursts} every {camera.every_s:g} s, {gap}{off}"
