"""The receiving half of the wire: `POST /v1/bursts`.

Knock, authenticate, admit, bound, read, decode, process, answer: whatever fails first decides, and until the pipeline
has committed nothing is kept. The answer is 201 for a burst that is new and 200 for one that is known; both say
the same things, so an agent that missed the first answer loses nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec
from flask import Blueprint, Response, request

from server.domain.burst import Burst, Limits, decode_burst
from server.domain.errors import Malformed
from server.domain.records import KeptBurst
from server.web import etag
from server.web.admission import Admission
from server.web.auth import Doorkeeper
from server.web.multipart import Bounds, Upload, read_upload

log = logging.getLogger(__name__)


class Receipt(Protocol):
    """What became of a burst; see `server.pipeline.pipeline`."""

    @property
    def known(self) -> bool: ...
    @property
    def burst(self) -> KeptBurst: ...

    def as_wire(self) -> Mapping[str, object]: ...


class Pipeline(Protocol):
    @property
    def ensemble(self) -> str: ...

    def process(self, burst: Burst) -> Receipt:
        """Judge `burst` and keep what came of it, once however often it is sent."""
        ...


def routes(
    pipeline: Callable[[], Pipeline],
    doorkeeper: Doorkeeper,
    admission: Admission,
    bounds: Bounds,
    limits: Limits,
    came: Callable[[Burst, Receipt], None],
) -> Blueprint:
    """The intake. `pipeline` gives the pipeline or raises RetryLater while its ensemble is not loaded.

    `came` is told of every burst that was accepted or known.
    """
    blueprint = Blueprint("intake", __name__, url_prefix="/v1")

    @blueprint.post("/bursts")
    def bursts() -> Response:
        admission.knock()
        grant = doorkeeper.admit(request)
        grant.to_send()
        with admission.admitted(grant.client, request.content_length) as spend:
            into = pipeline()
            etag.demand(into.ensemble)
            upload = read_upload(bounds)
            burst = decode_burst(_envelope(upload), upload.files, limits)
            grant.to_send_for(burst.site, burst.camera)
            spend(len(burst.frames))
            receipt = into.process(burst)
        came(burst, receipt)
        _note(burst, receipt)
        answer = Response(
            msgspec.json.encode(receipt.as_wire()),
            status=200 if receipt.known else 201,
            content_type="application/json",
        )
        return etag.tagged(answer, receipt.burst.ensemble_info.ensemble)

    return blueprint


def _envelope(upload: Upload) -> bytes:
    if upload.envelope is None:
        raise Malformed("no part `burst` (application/json) came with the frames")
    return upload.envelope


def _note(burst: Burst, receipt: Receipt) -> None:
    log.info(
        "burst known" if receipt.known else "burst accepted",
        extra={
            "burst": burst.burst_id,
            "site": burst.site,
            "camera": burst.camera,
            "frames": len(burst.frames),
            "reason": burst.reason,
        },
    )
