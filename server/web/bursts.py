"""`POST /v1/bursts`: the endpoint that camera agents use.

Steps, of which the first that fails decides the answer: authenticate, receive within bounds, decode the envelope, check
the pictures' headers, take a place, process. Nothing is kept until the pipeline has committed. The answer is 201 for a
new burst and 200 for a known one, with the same body, so an agent that missed the first answer loses nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

from flask import Blueprint, Response, request

from server.domain.burst import Burst, Limits, decode_burst
from server.domain.errors import Malformed
from server.domain.records import KeptBurst
from server.pipeline.response import Receipt
from server.web import etag
from server.web.admission import Admission, PictureLimits
from server.web.auth import Authenticator
from server.web.json_http import json_response
from server.web.multipart import Bounds, read_upload

log = logging.getLogger(__name__)


class Pipeline(Protocol):
    @property
    def ensemble(self) -> str: ...

    def enlarged_images(self, burst: Burst) -> int:
        """How many images detectors see of `burst` besides its frames."""
        ...

    def process(self, burst: Burst) -> Receipt:
        """Judge `burst` and keep the result, once however often it is sent."""
        ...


def routes(
    pipeline: Callable[[], Pipeline],
    authenticator: Authenticator,
    admission: Admission,
    bounds: Bounds,
    limits: Limits,
    pictures: PictureLimits,
    on_burst: Callable[[Burst, KeptBurst, bool], None],
) -> Blueprint:
    """The endpoint. `pipeline` gives the pipeline or raises RetryLater while its ensemble is not loaded.

    `on_burst` is called with every burst that is accepted, what is stored of it, and whether it was known.
    """
    blueprint = Blueprint("bursts", __name__, url_prefix="/v1")

    @blueprint.post("/bursts")
    def bursts() -> Response:
        admission.check_open()
        permissions = authenticator.authenticate(request)
        permissions.to_send()
        with admission.admitted(permissions.client, request.content_length) as upload:
            current = pipeline()
            etag.check_if_match(current.ensemble)
            parts = read_upload(bounds)
            if parts.envelope is None:
                raise Malformed("the part `burst` (application/json) is missing")
            burst = decode_burst(parts.envelope, parts.files, limits)
            permissions.to_send_for(burst.site, burst.camera)
            upload.begin(pictures.cost(parts.files) + current.enlarged_images(burst))
            receipt = current.process(burst)
            if not receipt.judged:
                upload.refund()
        on_burst(burst, receipt.burst, receipt.known)
        _log(burst, receipt)
        answer = json_response(receipt.as_wire(), 200 if receipt.known else 201)
        return etag.tagged(answer, receipt.burst.ensemble_info.ensemble)

    return blueprint


def _log(burst: Burst, receipt: Receipt) -> None:
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
