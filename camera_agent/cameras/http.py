"""Asking a camera over HTTP, with the user and password of its address, whichever way it wants to be told them."""

from __future__ import annotations

import requests
from requests.auth import HTTPDigestAuth
from requests.utils import get_auth_from_url

from camera_agent.imaging.failure import CameraFailure
from camera_agent.network.connection_errors import why_unreached

_ADVICE = {
    401: ": mind user and password, http://user:password@host/path",
    404: ": its manual names the path of the address",
}


def ask(session: requests.Session, url: str, timeout_s: float) -> requests.Response:
    """GET, the body not read yet. Raises `CameraFailure` for all but 200.

    Basic authentication is tried first; a camera that asks for Digest gets that, from then on, in this session.
    """
    try:
        answer = session.get(url, timeout=timeout_s, stream=True)
        user, password = get_auth_from_url(url)
        wants_digest = answer.headers.get("WWW-Authenticate", "").lower().startswith("digest")
        if answer.status_code == requests.codes.unauthorized and wants_digest and user:
            answer.close()
            session.auth = HTTPDigestAuth(user, password)
            answer = session.get(url, timeout=timeout_s, stream=True)
    except (requests.RequestException, ValueError) as error:  # ValueError: sent on to an address that is none
        raise CameraFailure(f"no answer: {why_unreached(error, url)}") from error
    if answer.status_code != requests.codes.ok:
        answer.close()
        raise CameraFailure(f"the camera answers HTTP {answer.status_code}{_ADVICE.get(answer.status_code, '')}")
    return answer
