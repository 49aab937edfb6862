"""The ensemble's digest as an entity tag: in every answer of the models, and as a condition of a request.

An answer carries `ETag: "<digest>"` and `X-Ensemble: <digest>`. A request with `If-Match: "<digest>"` is refused with
412 while another ensemble is in service, before anything is read or stored. So a client that was approved with one
ensemble never gets the labels of another unnoticed.
"""

from __future__ import annotations

from flask import Response, request

from server.domain.errors import Malformed, OtherEnsemble


def check_if_match(ensemble: str) -> None:
    """Raises OtherEnsemble when the current request's `If-Match` does not name `ensemble`.

    Raises Malformed when the header cannot be read: it must not pass for a condition that holds.
    """
    wanted = request.if_match
    if not wanted and request.headers.get("If-Match", "").strip():
        raise Malformed(f"`If-Match` names no entity tag: {request.headers['If-Match'][:80]!r}")
    if wanted and not wanted.contains(ensemble):
        raise OtherEnsemble(f"`If-Match` names {wanted.to_header()}, but the ensemble in service is {ensemble}")


def tagged(response: Response, ensemble: str) -> Response:
    """The response with the digest of the ensemble that gave it."""
    response.set_etag(ensemble)
    response.headers["X-Ensemble"] = ensemble
    return response
