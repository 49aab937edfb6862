"""An HTTP GET to a camera, with Basic or Digest authentication by the user and password in its address."""

from __future__ import annotations

import requests
from requests.auth import HTTPDigestAuth
from requests.utils import get_auth_from_url

from camera_agent.imaging.frame import CameraFailure
from camera_agent.network.connection_errors import explain_connection_error

_ADVICE = {
    401: ": check user and password, http://user:password@host/path",
    404: ": its manual names the path of the address",
}


def http_get(session: requests.Session, url: str, timeout_s: float) -> requests.Response:
    """The answer, its body not read yet. Raises `CameraFailure` for every status but 200.

    Basic authentication is tried first. If the camera asks for Digest, the session uses that from then on.
    """
    try:
        answer = session.get(url, timeout=timeout_s, stream=True)
        user, password = get_auth_from_url(url)
        wants_digest = answer.headers.get("WWW-Authenticate", "").lower().startswith("digest")
        if answer.status_code == requests.codes.unauthorized and wants_digest and user:
            answer.close()
            session.auth = HTTPDigestAuth(user, password)
            answer = session.get(url, timeout=timeout_s, stream=True)
    except (requests.RequestException, ValueError) as error:  # ValueError: redirected to an invalid address
        raise CameraFailure(f"no answer: {explain_connection_error(error, url)}") from error
    if answer.status_code != requests.codes.ok:
        answer.close()
        raise CameraFailure(f"the camera answers HTTP {answer.status_code}{_ADVICE.get(answer.status_code, '')}")
    return answer
