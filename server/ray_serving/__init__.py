"""The ensemble on a Ray cluster. Only this package imports ray. Begin with README.md, then `cluster` and `replica`."""

from __future__ import annotations

from importlib.util import find_spec

from server.domain.errors import ConfigurationError


def require_ray() -> None:
    """Raises ConfigurationError where Ray is not installed. It imports nothing of it."""
    if find_spec("ray") is None:
        raise ConfigurationError('ensemble = "ray" needs Ray, which is not here: pip install "sectorwatch[ray]"')
