"""An HTTP GET to a camera: its authentication, its certificate, its redirects."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urljoin, urlsplit

import requests

from camera_agent.cameras.http_auth import Login
from camera_agent.imaging.frame import CameraFailure
from camera_agent.network.addresses import Credentials, address_fault, credentials, shown, without_credentials
from camera_agent.network.certificates import CAMERA, PUBLIC, Trust
from camera_agent.network.connection_errors import explain_https_error
from camera_agent.network.proxies import through_proxy
from camera_agent.network.trust_adapter import TrustAdapter

_ADVICE = {
    401: ": check user and password, http://user:password@host/path",
    404: ": its manual names the path of the address",
}
_MAX_REDIRECTS = 5
_MAX_DRAINED_BYTES = 64_000


class CameraSession(requests.Session):
    """The connections to one camera, and the way in which it lets a user in.

    A redirect leads to another host only if that is one of `redirect_hosts`; user and password never go there.
    """

    def __init__(self, trust: Trust = PUBLIC, redirect_hosts: Collection[str] = ()) -> None:
        super().__init__()
        self.trust = trust
        self.redirect_hosts = frozenset(host.lower() for host in redirect_hosts)
        self._logins: dict[tuple[str | None, Credentials], Login] = {}
        adapter = TrustAdapter(trust)
        self.mount("http://", adapter)
        self.mount("https://", adapter)

    def login(self, url: str, given: Credentials) -> Login:
        """The login of this user at the host of `url`."""
        return self._logins.setdefault((urlsplit(url).hostname, given), Login(given))


def http_get(session: CameraSession, url: str, timeout_s: float) -> requests.Response:
    """The answer, its body not read yet. Raises `CameraFailure` for every status but 200.

    User and password of the address are sent in the form that the camera asks for, and to its host only.
    """
    given, target = credentials(url), without_credentials(url)
    try:
        for _ in range(1 + _MAX_REDIRECTS):
            answer = _get(session, target, given, timeout_s)
            location = session.get_redirect_target(answer)
            if location is None:
                return _checked(answer, target)
            answer.close()
            target, given = _redirected(session, target, location, given)
    except (requests.RequestException, ValueError, OSError) as error:
        raise CameraFailure(f"no answer: {_reason(session, error, target, timeout_s)}") from error
    raise CameraFailure(f"no answer: it redirects more than {_MAX_REDIRECTS} times, last to {shown(target)}")


def _get(session: CameraSession, target: str, given: Credentials | None, timeout_s: float) -> requests.Response:
    login = None if given is None else session.login(target, given)
    if login is not None:
        login.begin()
    while True:
        answer = session.get(
            target, timeout=timeout_s, stream=True, allow_redirects=False, auth=login or (lambda request: request)
        )
        if login is None or not login.is_worth_another_try(answer):
            return answer
        if int(answer.headers.get("Content-Length") or _MAX_DRAINED_BYTES) < _MAX_DRAINED_BYTES:
            _ = answer.content  # the connection can be used again
        answer.close()


def _redirected(
    session: CameraSession, target: str, location: str, given: Credentials | None
) -> tuple[str, Credentials | None]:
    """The next address, and the user and password for it. Raises `ValueError` for an invalid address."""
    following = urljoin(target, location)
    if fault := address_fault(following, ("http", "https")):
        raise CameraFailure(f"no answer: it redirects to an address that {fault}")
    before, after = urlsplit(target), urlsplit(following)
    if (before.scheme, after.scheme) == ("https", "http"):
        raise CameraFailure(f"the camera redirects from https to {shown(following)}: set that address if you trust it")
    is_same_host = before.hostname == after.hostname
    if not is_same_host and after.hostname not in session.redirect_hosts:
        raise CameraFailure(
            f"the camera redirects to another host, {shown(following)}: if you trust it, set "
            f'redirect_hosts = ["{after.hostname}"]'
        )
    own = credentials(following)
    return without_credentials(following), own or (given if is_same_host else None)


def _checked(answer: requests.Response, target: str) -> requests.Response:
    if answer.status_code == requests.codes.ok:
        return answer
    answer.close()
    advice = _ADVICE.get(answer.status_code, "")
    raise CameraFailure(f"the camera answers HTTP {answer.status_code}{advice}{through_proxy(target)}")


def _reason(session: CameraSession, error: Exception, target: str, timeout_s: float) -> str:
    return explain_https_error(error, target, session.trust, CAMERA, timeout_s)
