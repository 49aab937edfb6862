"""The camera agent: takes bursts of stills and sends them to the server.

Begin with `agent.py` (what runs) and `config/settings.py` (what can be set). The HTTP format is the only contract with
the server: nothing here imports `server`, `policies` or torch.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("sectorwatch")
except PackageNotFoundError:  # run from a checkout that is not installed
    __version__ = "0.0.0+checkout"
