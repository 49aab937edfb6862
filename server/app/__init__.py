"""The server as a whole: `composition` joins its parts, `runtime` is the life of one server process.

A new part is made in `composition._runtime`; what it starts and stops stands in `runtime.Runtime`.
"""

from server.app.composition import create_app, runtime_of

__all__ = ["create_app", "runtime_of"]
