"""A past for a fleet on PostgreSQL, written by COPY: quiet bursts of all cameras, in the order in which they come.

All of them say what one recorded burst says, or nothing. Ids, instants and hashes of frames are each burst's own, so
that records, indexes and folds are as large and as much work as real ones. Cameras have a state at the end, and a
checkpoint for each half hour, as retention and `explain` want them.
"""

from __future__ import annotations

import hashlib
import random
import struct
from collections.abc import Iterator, Sequence
from contextlib import closing

import msgspec
from msgspec.structs import replace
from sqlalchemy import Connection, create_engine, insert, make_url, text

from camera_agent import __version__
from policies.fold import REMEMBERED, State, encode_state
from policies.fusion.judge import judge
from policies.observation import Observation
from policies.site.site_policy import SitePolicy, parse_site_policy
from server.store.bursts.keeping import Shared
from server.store.bursts.packing import Loose, Packed, pack, split_id, unpack
from server.store.compact import pack_state
from server.store.rows import MODELS_SEPARATOR, encoded
from server.store.schema import camera_states, cameras, checkpoints, contexts, panels, policies
from tests.benchmarks.fleet.cameras import Activity
from tests.benchmarks.fleet.place import CameraPlace, policy_text
from tests.benchmarks.fleet.recorded import recording
from tests.benchmarks.past.storage import uuid7

_HALF_HOUR_MS = 1_800_000
_COPIED = ("id_key", "camera", "context", "first_at_us", "lasts_us", "is_held", "late", "record")
_ROW = struct.Struct("!hiqiqiqiqiqiiiii")
"""A row of COPY in binary form: eight columns, each after its length; the record follows."""
_HEAD, _END = b"PGCOPY\n\xff\r\n\0" + bytes(8), struct.pack("!h", -1)


def fill(
    url: str, places: Sequence[CameraPlace], bursts: int, activity: Activity, begin_ms: int, *, is_silent: bool = False
) -> None:
    """Give each camera so many bursts from `begin_ms` on, in an empty database that `prepare` has migrated.

    `is_silent`: no detector saw anything in any frame, so that a record is a sixth as large.
    """
    made = {name: parse_site_policy(policy_text(name)) for name in dict.fromkeys(place.site for place in places)}
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
    try:
        with engine.begin() as connection:
            like = _like(made[places[0].site], activity, is_silent=is_silent)
            _register(connection, places, made, activity)
            raw = connection.connection.cursor()
            with closing(raw), raw.copy(f"COPY burst_records ({', '.join(_COPIED)}) FROM STDIN BINARY") as copy:
                for some in _rows(like, len(places), bursts, activity, begin_ms):
                    copy.write(some)
            _settle(connection, places, made, bursts, activity, begin_ms)
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE"))
            connection.execute(text("CHECKPOINT"))
    finally:
        engine.dispose()


def _like(policy: SitePolicy, activity: Activity, *, is_silent: bool) -> Packed:
    """The record that all are like."""
    recorded, frames = recording(), activity.frames
    step_us = round(1_000_000 * activity.every_s / frames)
    seen = [
        Observation(
            policy.site,
            "cam0",
            "0197b1e0-0000-7000-8000-000000000000",
            index,
            index * step_us,
            recorded.ensemble_info,
            {
                model: () if is_silent and model != "frame-change" else seen
                for model, seen in recorded.answers["quiet"][index].items()
            },
            hashlib.sha256(bytes([index])).hexdigest(),
            uncertainty_s=0.01,
            size=(768, 576),
            brightness=0.45,
        )
        for index in range(frames)
    ]
    decisions = msgspec.json.encode([judge(policy.camera("cam0"), each) for each in seen], order="deterministic")
    return unpack(pack(Loose(0, seen[-1].at_us + 500_000, None, 0, 60_000 * frames, "0" * 64, decisions), seen))


def _rows(like: Packed, count: int, bursts: int, activity: Activity, begin_ms: int) -> Iterator[bytes]:
    """Rows of all cameras, as COPY takes them, a round of all cameras at once."""
    chance, encode = random.Random(1), msgspec.msgpack.Encoder().encode
    every_ms, frames = round(1000 * activity.every_s), activity.frames
    lasts_us = (frames - 1) * (1000 * every_ms // frames)
    yield _HEAD
    for number in range(bursts):
        rows: list[bytes] = []
        for camera in range(count):
            at_ms = begin_ms + number * every_ms + every_ms * camera // count
            id_key, id_rest = split_id(uuid7(at_ms, chance))
            hashes, digest = chance.randbytes(32 * frames), chance.randbytes(8)
            record = encode(replace(like, id_rest=id_rest, hashes=hashes, digest=digest))
            key, first_us = camera + 1, 1000 * at_ms
            values = (8, id_key, 8, key, 8, key, 8, first_us, 8, lasts_us, 4, 0, 4, 0, len(record))
            rows += (_ROW.pack(8, *values), record)
        yield b"".join(rows)
    yield _END


def _register(
    connection: Connection, places: Sequence[CameraPlace], made: dict[str, SitePolicy], activity: Activity
) -> None:
    """Rows that records refer to. Camera and context have the same number."""
    info = recording().ensemble_info
    models = MODELS_SEPARATOR.join(sorted(model.model for model in info.models))
    lasts_us = (activity.frames - 1) * round(1_000_000 * activity.every_s / activity.frames)
    connection.execute(insert(panels), {"ensemble": info.ensemble, "body": encoded(info)})
    connection.execute(
        insert(policies),
        [
            {"policy": each.digest, "site": name, "text": policy_text(name), "body": encoded(each), "first_used_us": 0}
            for name, each in made.items()
        ],
    )
    connection.execute(
        insert(cameras),
        [
            {"number": place.number + 1, "site": place.site, "camera": place.camera, "longest_us": lasts_us}
            for place in places
        ],
    )
    rows = []
    for place in places:
        policy = made[place.site].digest
        shared = Shared(info.ensemble, policy, None, place.boot_id, __version__, "schedule", 1)
        columns = {name: getattr(shared, name) for name in Shared.__slots__} | {"models": models}
        number = place.number + 1  # the digest by which a turn finds the row again
        digest = hashlib.sha256(msgspec.json.encode([number, *columns.values()])).hexdigest()
        rows.append({"number": number, "digest": digest, "camera": number} | columns)
    connection.execute(insert(contexts), rows)
    for table in ("cameras", "contexts"):
        connection.execute(text(f"SELECT setval(pg_get_serial_sequence('{table}', 'number'), {len(places)})"))


def _settle(
    connection: Connection,
    places: Sequence[CameraPlace],
    made: dict[str, SitePolicy],
    bursts: int,
    activity: Activity,
    begin_ms: int,
) -> None:
    """Heads and checkpoints: nobody is there."""
    every_ms = round(1000 * activity.every_s)
    step_ms = every_ms // activity.frames
    heads, states = [], []
    for place in places:
        begun_ms = begin_ms + every_ms * place.number // len(places)
        last_us = 1000 * (begun_ms + (bursts - 1) * every_ms + (activity.frames - 1) * step_ms)
        named = {"site": place.site, "camera": place.camera}
        policy = made[place.site].digest
        heads.append(
            named | {"last_at_us": last_us, "state": _state(last_us).decode(), "policy": policy, "changed_at_us": 0}
        )
        for number in range(0, bursts, _HALF_HOUR_MS // every_ms):
            at_us = 1000 * (begun_ms + number * every_ms + (activity.frames - 1) * step_ms)
            states.append(named | {"at_us": at_us, "state": pack_state(_state(at_us))})
        states.append(named | {"at_us": last_us, "state": pack_state(_state(last_us))})
    connection.execute(insert(camera_states), heads)
    connection.execute(insert(checkpoints), states)


def _state(at_us: int) -> bytes:
    hashes = tuple(hashlib.sha256(b"%d %d" % (at_us, index)).hexdigest() for index in range(REMEMBERED))
    return encode_state(State(at_us, ("0197b1e0-0000-7000-8000-000000000000", 0), hashes, at_us))
