"""Sends each kind of request to an application once, and prints the types that msgspec takes apart meanwhile.

`python -m tests.ready_types_script FOLDER`. It must be a process of its own: msgspec takes a type apart once.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec._utils as utils

from policies.site.site_policy import parse_site_policy
from tests.server.web_client import BrightnessEnsemble, body, envelope, jpeg, make_app

_POLICY = """
site = "yard"
targets = ["person", "forklift"]
[target.forklift]
classes = ["truck"]
[[schedule]]
name = "night"
between = ["22:00", "06:00"]
sensitivity = { rule = "any" }
[cameras.gate.sectors.west]
polygon = [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]
[cameras.gate.lines.middle]
a = [0.5, 0]
b = [0.5, 1]
[[cameras.gate.suppress]]
name = "post"
box = [0.1, 0.1, 0.2, 0.2]
"""

_HEARTBEAT = {
    "site": "north-yard",
    "camera": "gate",
    "agent": {
        "version": "0.3.0",
        "sent_at": "2027-01-15T07:59:00Z",
        "started_at": "2027-01-15T07:00:00Z",
        "every_s": 60,
    },
    "state": "watching",
    "since": "2027-01-15T07:00:00Z",
}
_INFER = {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": ["AA=="]}]}
_ANNOTATION = {"verdict": "missed", "site": "north-yard", "camera": "gate", "author": "Ada"}


def main(folder: Path) -> None:
    app, late = make_app(folder, BrightnessEnsemble()), list[str]()
    taken_apart = utils._get_class_mro_and_typevar_mappings

    def noted(kind: Any) -> Any:
        if not sys._getframe(2).f_code.co_filename.endswith("structs.py"):  # that only looks at the fields
            late.append(getattr(kind, "__qualname__", str(kind)))
        return taken_apart(kind)

    utils._get_class_mro_and_typevar_mappings = noted
    client, frames, statuses = app.test_client(), [jpeg(9), jpeg(250)], []
    statuses.append(client.post("/v1/bursts", data=body(envelope(frames), frames)).status_code)
    statuses.append(client.post("/v1/heartbeats", json=_HEARTBEAT).status_code)
    client.post("/v1/annotations", json=_ANNOTATION)
    client.post("/v2/models/ensemble/infer", json=_INFER)
    for path in ("events?limit=3", "cameras?site=north-yard", "annotations?limit=3", "models"):
        statuses.append(client.get(f"/v1/{path}").status_code)
    statuses.append(client.get("/v1/site-policy?site=north-yard&camera=gate").status_code)
    parse_site_policy(_POLICY)
    sys.stdout.write(f"statuses {statuses}\n" + "".join(f"late {name}\n" for name in late))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
