"""What a fleet needs before its first burst: a migrated database, policies of its sites, a token for each camera."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import insert

from server.store import open_store
from server.store.engine import writing
from server.store.schema import tokens
from server.web.auth import new_token
from tests.benchmarks.past.replay import site

CAMERAS_OF_SITE = 20
_NAMED = 'site = "pets"'


@dataclass(frozen=True, slots=True)
class CameraPlace:
    """One camera: where it is, its token, and the boot of its machine."""

    number: int
    site: str
    camera: str
    token: str
    boot_id: str


def prepare(folder: Path, url: str, cameras: int) -> list[CameraPlace]:
    """Make everything in an empty folder and an empty database. Each camera has the demonstration's six sectors."""
    (folder / "sites").mkdir(parents=True)
    made: list[CameraPlace] = []
    rows: list[dict[str, object]] = []
    for number, (name, camera) in enumerate(_names(cameras)):
        file = folder / "sites" / f"{name}.toml"
        if not file.exists():
            file.write_text(policy_text(name), encoding="utf-8")
        token = new_token()
        made.append(CameraPlace(number, name, camera, token.token, str(uuid.uuid5(uuid.NAMESPACE_OID, str(number)))))
        rows.append({"id": token.id, "name": camera, "site": name, "camera": camera, "hash": token.hash})
    with closing(open_store(url)) as store:
        store.upgrade()
        with writing(store._engine, lock="tokens") as connection:
            now_us = time.time_ns() // 1000
            connection.execute(insert(tokens), [row | {"created_at_us": now_us} for row in rows])
    return made


def policy_text(name: str) -> str:
    """The file of a site's policy: the demonstration's, for CAMERAS_OF_SITE cameras."""
    return site(CAMERAS_OF_SITE).replace(_NAMED, f'site = "{name}"')


def _names(cameras: int) -> Iterator[tuple[str, str]]:
    for number in range(cameras):
        yield f"site-{number // CAMERAS_OF_SITE:04}", f"cam{number % CAMERAS_OF_SITE}"
