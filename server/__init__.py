"""The ensemble server: bursts of stills in, presence and movement events out.

Each folder is one part of it, described in its own docstring. `app` joins the parts, `runtime` starts and stops them.
A burst's way begins in `web.bursts` and `pipeline.pipeline`.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("sectorwatch")
except PackageNotFoundError:  # a checkout that was never installed
    __version__ = "0.0.0+checkout"
