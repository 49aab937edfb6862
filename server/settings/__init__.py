"""The server's settings, declared once in `ServerSettings`. `load_settings` reads them.

They come from a TOML file (an argument, or `SECTORWATCH_CONFIG`), then from the environment (`SECTORWATCH_<NAME>`),
then from the command line. What none of them gives is as at the last start of the server with that data folder.
"""

from server.settings.declaration import ServerSettings, described, processors
from server.settings.sources import InvalidSettings, config_file, file_faults, given_settings, load_settings

__all__ = [
    "InvalidSettings",
    "ServerSettings",
    "config_file",
    "described",
    "file_faults",
    "given_settings",
    "load_settings",
    "processors",
]
