"""Authentication of HTTP cameras, against servers that check it: offers in any order and form."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler

import pytest

from camera_agent.cameras.http_auth import Challenge, challenges, digest_value
from camera_agent.cameras.mjpeg import MotionJpeg
from camera_agent.cameras.snapshot import Snapshot
from camera_agent.imaging.frame import CameraFailure, FrameFormat
from camera_agent.network.addresses import Credentials, with_credentials
from tests.camera_agent.cameras.test_cameras import serving
from tests.camera_agent.conftest import jpeg

USER = Credentials("admin", 's3cret, "really" @/?#')


class Guard:
    """A camera that lets in whoever answers one of its offers right. It keeps each request's `Authorization`."""

    def __init__(self, *offers: str, user: Credentials = USER, encoding: str = "utf-8") -> None:
        self.offers = offers
        self.user = user
        self.encoding = encoding
        self.seen: list[str | None] = []
        self.nonce_lives = 1000
        self.says_stale = True
        self.picture = jpeg(7)
        self._nonce = 1
        self._uses = 0
        self._counted = 0

    def __call__(self, handler: BaseHTTPRequestHandler) -> None:
        sent = handler.headers["Authorization"]
        self.seen.append(sent)
        status, is_stale = self._judge(handler, sent)
        handler.send_response(status)
        for offer in self.offers if status == 401 else ():
            stale = ", stale=true" if is_stale and self.says_stale and "igest" in offer else ""
            handler.send_header("WWW-Authenticate", offer.replace("NONCE", f"n{self._nonce}") + stale)
        handler.send_header("Content-Length", str(len(self.picture) if status == 200 else 0))
        handler.end_headers()
        if status == 200:
            handler.wfile.write(self.picture)

    def _judge(self, handler: BaseHTTPRequestHandler, sent: str | None) -> tuple[int, bool]:
        if sent is None:
            return 401, False
        if sent.startswith("Basic "):
            pair = f"{self.user.user}:{self.user.password}".encode(self.encoding)
            is_offered = any("asic" in offer.lower() for offer in self.offers)
            return (200 if is_offered and base64.b64decode(sent[6:]) == pair else 401), False
        given = {
            key: quoted or plain for key, quoted, plain in re.findall(r'(\w+)=(?:"((?:[^"\\]|\\.)*)"|([^,\s]+))', sent)
        }
        given = {key: re.sub(r"\\(.)", r"\1", value) for key, value in given.items()}
        if given["uri"] != handler.path or not self._is_right(given):
            return 401, False
        self._uses += 1
        if self._uses > self.nonce_lives or given["nonce"] != f"n{self._nonce}":
            self._nonce, self._uses, self._counted = self._nonce + 1, 0, 0
            return 401, True
        assert "nc" not in given or int(given["nc"], 16) > self._counted
        self._counted = int(given.get("nc", "0"), 16)
        return 200, False

    def _is_right(self, given: dict[str, str]) -> bool:
        """RFC 7616, section 3.4, written down once more."""
        name = given.get("algorithm", "MD5")
        kind = {"MD5": "md5", "SHA-256": "sha256", "SHA-512-256": "sha512_256"}[name.upper().removesuffix("-SESS")]
        realm, user, password = given["realm"], self.user.user, self.user.password

        def digest(text: str) -> str:
            return hashlib.new(kind, text.encode(self.encoding)).hexdigest()

        first = digest(f"{user}:{realm}:{password}")
        if name.upper().endswith("-SESS"):
            first = digest(f"{first}:{given['nonce']}:{given['cnonce']}")
        body = f":{digest('')}" if given.get("qop") == "auth-int" else ""
        second = digest(f"GET:{given['uri']}{body}")
        middle = f":{given['nc']}:{given['cnonce']}:{given['qop']}" if "qop" in given else ""
        return given["response"] == digest(f"{first}:{given['nonce']}{middle}:{second}")


def take(
    guard: Callable[[BaseHTTPRequestHandler], None],
    count: int = 1,
    user: Credentials = USER,
    redirect_hosts: tuple[str, ...] = (),
) -> None:
    with serving(guard) as url:
        camera = Snapshot(with_credentials(url, user), timeout_s=5.0, redirect_hosts=redirect_hosts)
        try:
            for _ in range(count):
                assert camera.frame(FrameFormat()).jpeg == jpeg(7)
        finally:
            camera.close()


OFFERS = {
    "Basic": ['Basic realm="cam"'],
    "Basic without a realm": ["Basic"],
    "basic in capitals": ['BASIC REALM="cam"'],
    "Digest of RFC 2069": ['Digest realm="cam", nonce="NONCE"'],
    "Digest with auth": ['Digest realm="cam", nonce="NONCE", qop="auth", opaque="o=,\\"p"'],
    "Digest with auth and auth-int": ['Digest qop="auth,auth-int", realm="cam", nonce="NONCE", algorithm=MD5'],
    "Digest with auth-int only": ['Digest realm="cam", qop="auth-int", nonce="NONCE"'],
    "qop without quotes": ["Digest realm=cam, nonce=NONCE, qop=auth, algorithm=MD5"],
    "algorithm in quotes": ['digest realm="cam", nonce="NONCE", qop="auth", algorithm="MD5"'],
    "algorithm in small letters": ['Digest realm="cam", nonce="NONCE", qop="auth", algorithm=md5'],
    "MD5-sess": ['Digest realm="cam", nonce="NONCE", qop="auth", algorithm=MD5-sess'],
    "SHA-256": ['Digest realm="cam", nonce="NONCE", qop="auth", algorithm=SHA-256'],
    "SHA-512-256": ['Digest realm="cam", nonce="NONCE", qop="auth", algorithm=SHA-512-256'],
    "SHA-256 before MD5": [
        'Digest realm="cam", nonce="NONCE", qop="auth", algorithm=SHA-256',
        'Digest realm="cam", nonce="NONCE", qop="auth", algorithm=MD5',
    ],
    "MD5 before SHA-256 in one header": [
        'Digest realm="cam", nonce="NONCE", algorithm=MD5, qop="auth", '
        'Digest realm="cam", nonce="NONCE", algorithm=SHA-256, qop="auth"'
    ],
    "Basic before Digest": ['Basic realm="cam"', 'Digest realm="cam", nonce="NONCE", qop="auth"'],
    "Digest before Basic in one header": ['Digest realm="cam", nonce="NONCE", qop="auth", Basic realm="cam"'],
    "Basic before Digest in one header": ['Basic realm="a, Digest b", Digest realm="cam", nonce="NONCE"'],
    "others before Digest": ["Negotiate", "NTLM TlRMTVNTUAAC==", 'Bearer realm="x"', 'Digest realm="c", nonce="NONCE"'],
    "an unknown algorithm before Basic": ['Digest realm="c", nonce="NONCE", algorithm=SHA3-999', 'Basic realm="c"'],
    "a realm with commas and quotes": ['Digest realm="a, \\"b\\", c=d", nonce="NONCE", qop="auth"'],
    "spaces around signs": ['Digest   realm = "cam" ,nonce ="NONCE",,qop= "auth"'],
    "no commas": ['Digest realm="cam" nonce="NONCE" qop="auth"'],
}


@pytest.mark.parametrize("offers", OFFERS.values(), ids=OFFERS.keys())
def test_a_camera_lets_us_in_in_whatever_form_it_asks(offers: list[str]) -> None:
    guard = Guard(*offers)
    take(guard, count=3)
    assert [sent is None for sent in guard.seen] == [True, False, False, False]


def test_the_strongest_offer_is_answered_and_the_password_is_not_sent_in_clear() -> None:
    guard = Guard(
        'Basic realm="c"',
        'Digest realm="c", nonce="NONCE", algorithm=MD5, Digest realm="c", nonce="NONCE", algorithm=SHA-256',
    )
    take(guard)
    assert [sent and sent.split()[0] for sent in guard.seen] == [None, "Digest"]
    assert "algorithm=SHA-256" in str(guard.seen[1])


@pytest.mark.parametrize("says_stale", [True, False])
def test_a_nonce_that_the_camera_renews_costs_one_request(says_stale: bool) -> None:
    guard = Guard('Digest realm="cam", nonce="NONCE", qop="auth"')
    guard.nonce_lives, guard.says_stale = 2, says_stale
    take(guard, count=5)
    assert len(guard.seen) == 1 + 5 + 2


def test_a_camera_that_asks_for_digest_only_later_is_answered() -> None:
    guard = Guard('Basic realm="cam"')
    with serving(guard) as url:
        camera = Snapshot(with_credentials(url, USER), timeout_s=5.0)
        camera.frame(FrameFormat())
        guard.offers = ('Digest realm="cam", nonce="NONCE", qop="auth", algorithm=SHA-256',)
        camera.frame(FrameFormat())
        camera.close()
    assert [str(sent).split()[0] for sent in guard.seen] == ["None", "Basic", "Basic", "Digest"]


def test_an_open_camera_that_asks_for_a_password_later_gets_it() -> None:
    guard = Guard('Digest realm="cam", nonce="NONCE"')
    asked = False

    def respond(handler: BaseHTTPRequestHandler) -> None:
        if asked:
            guard(handler)
            return
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(jpeg(7))))
        handler.end_headers()
        handler.wfile.write(jpeg(7))

    with serving(respond) as url:
        camera = Snapshot(with_credentials(url, USER), timeout_s=5.0)
        camera.frame(FrameFormat())
        asked = True
        camera.frame(FrameFormat())
        camera.close()


@pytest.mark.parametrize("offer", ['Basic realm="c"', 'Digest realm="c", nonce="NONCE", qop="auth"'])
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_a_password_beyond_ascii_is_tried_in_both_encodings(offer: str, encoding: str) -> None:
    user = Credentials("jürgen", "größe:§@")
    take(Guard(offer, user=user, encoding=encoding), count=2, user=user)


def test_a_password_beyond_latin_1_is_sent_as_utf_8() -> None:
    user = Credentials("камера", "пароль")
    take(Guard('Digest realm="c", nonce="NONCE", qop="auth"', user=user), user=user)


def test_a_wrong_password_is_tried_few_times_and_not_shown() -> None:
    guard = Guard('Basic realm="c"', 'Digest realm="c", nonce="NONCE", qop="auth"')
    with pytest.raises(CameraFailure, match="HTTP 401: check user and password") as caught:
        take(guard, user=Credentials("admin", "wr0ngzQ7x"))
    assert len(guard.seen) == 3
    assert "zQ7x" not in str(caught.value)


@pytest.mark.parametrize("status", [401, 403])
def test_a_camera_that_expects_basic_without_asking_gets_it(status: int) -> None:
    guard = Guard('Basic realm="c"')

    def respond(handler: BaseHTTPRequestHandler) -> None:
        if handler.headers["Authorization"] is not None:
            guard(handler)
            return
        handler.send_response(status)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    take(respond)


def test_a_redirect_on_the_same_host_keeps_the_password_and_its_proof_fits_the_new_path() -> None:
    guard = Guard('Digest realm="c", nonce="NONCE", qop="auth"')

    def respond(handler: BaseHTTPRequestHandler) -> None:
        if handler.path == "/snap.jpg":
            handler.send_response(302)
            handler.send_header("Location", "/live/1.jpg?channel=1")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        guard(handler)

    take(respond, count=2)


@pytest.mark.parametrize("is_allowed", [False, True])
def test_a_redirect_leads_to_another_host_only_if_it_is_allowed_and_never_with_the_password(
    *, is_allowed: bool
) -> None:
    guard = Guard('Basic realm="c"')
    with serving(guard) as other:
        target = other.replace("127.0.0.1", "localhost")

        def respond(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(302)
            handler.send_header("Location", target)
            handler.send_header("Content-Length", "0")
            handler.end_headers()

        message = "HTTP 401" if is_allowed else r'another host, http://localhost.*set redirect_hosts = \["localhost"\]'
        with pytest.raises(CameraFailure, match=message):
            take(respond, redirect_hosts=("localhost",) if is_allowed else ())
    assert guard.seen == ([None] if is_allowed else [])


def test_motion_jpeg_authenticates_in_the_same_way() -> None:
    guard = Guard('Basic realm="c"', 'Digest realm="c", nonce="NONCE", qop="auth", algorithm=SHA-256')

    def respond(handler: BaseHTTPRequestHandler) -> None:
        status, _ = guard._judge(handler, handler.headers["Authorization"])
        handler.send_response(status)
        if status == 401:
            for offer in guard.offers:
                handler.send_header("WWW-Authenticate", offer.replace("NONCE", "n1"))
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        handler.send_header("Content-Type", "multipart/x-mixed-replace; boundary=part")
        handler.end_headers()
        head = f"--part\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg(7))}\r\n\r\n".encode()
        for _ in range(200):
            handler.wfile.write(head + jpeg(7) + b"\r\n")

    with serving(respond) as url:
        camera = MotionJpeg(with_credentials(url, USER), timeout_s=5.0)
        camera.open()
        assert camera.frame(FrameFormat()).jpeg == jpeg(7)
        camera.close()


CNONCE = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"
SECTION_3_9_1 = (
    'Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm={}, '
    'nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"'
)


@pytest.mark.parametrize(
    ("algorithm", "response"),
    [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ],
)
def test_the_examples_of_rfc_7616_section_3_9_1_come_out(algorithm: str, response: str) -> None:
    (challenge,) = challenges(SECTION_3_9_1.format(algorithm))
    value = digest_value(challenge, Credentials("Mufasa", "Circle of Life"), "GET", "/dir/index.html", 1, CNONCE)
    assert f'response="{response}"' in value
    assert f"algorithm={algorithm}" in value


def test_the_example_of_rfc_2617_section_3_5_comes_out() -> None:
    (challenge,) = challenges(
        'Digest realm="testrealm@host.com", qop="auth,auth-int", '
        'nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", opaque="5ccc069c403ebaf9f0171e9517f40e41"'
    )
    value = digest_value(challenge, Credentials("Mufasa", "Circle Of Life"), "GET", "/dir/index.html", 1, "0a4f113b")
    assert 'response="6629fae49393a05397450978507c4ef1"' in value


def test_the_example_of_rfc_7616_section_3_9_2_hashes_the_user() -> None:
    (challenge,) = challenges(
        'Digest realm="api@example.org", qop="auth", algorithm=SHA-512-256, '
        'nonce="5TsQWLVdgBdmrQ0XsxbDODV+57QdFR34I9HAbC/RVvkK", '
        'opaque="HRPCssKJSGjCrkzDg8OhwpzCiGPChXYjwrI2QmXDnsOS", charset=UTF-8, userhash=true'
    )
    given = Credentials("J\u00e4s\u00f8n Doe", "Secret, or not?")
    value = digest_value(challenge, given, "GET", "/doe.json", 1, "NTg6RKcb9boFIAS3KrFK9BGeh+niz/sm")
    assert "793263caabb707a56211940d90411ea4a575adeccb7e360aeb624ed06ece9b0b" in value
    assert "userhash=true" in value


def test_challenges_are_read_from_one_header_in_order() -> None:
    header = 'Newauth realm="apps", type=1, title="Login to \\"apps\\"", Basic realm="simple"'
    assert challenges(header) == [
        Challenge("newauth", {"realm": "apps", "type": "1", "title": 'Login to "apps"'}),
        Challenge("basic", {"realm": "simple"}),
    ]
    assert challenges('Digest realm="unended') == [Challenge("digest", {"realm": ""}), Challenge("unended", {})]
    assert challenges("") == []
