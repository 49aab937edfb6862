"""Passwords in addresses: never shown, wherever they stand; and no usable address is refused."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from camera_agent.network.addresses import (
    Credentials,
    address_advice,
    address_fault,
    credentials,
    shown,
    with_credentials,
    without_credentials,
    without_secrets,
)

SCHEMES = ("rtsp", "rtsps", "http", "https")
MARK = "zQ7x"
"""Stands at both ends of every password here, and nowhere else."""

USABLE = [
    f"rtsp://admin:{MARK}@10.0.0.7:554/1",
    f"rtsp://admin:{MARK}@{MARK}@10.0.0.7:554/1",
    f"rtsp://admin:{MARK}@@{MARK}@cam/",
    f"rtsp://admin:{MARK}:{MARK}@cam/1",
    f"rtsp://admin:{MARK}%40{MARK}@cam/1",
    f"rtsp://admin:{MARK}%zz{MARK}@cam/1",
    f"rtsp://admin:{MARK}%@cam/1",
    f"RTSP://admin:{MARK}@cam/1",
    f"rtsp://{MARK}@cam/1",
    f"rtsp://:{MARK}@cam/1",
    f"rtsp://admin:{MARK}pässwörd{MARK}@cam/1",
    f"rtsp://admin:{MARK}℀{MARK}@cam/1",
    f"rtsp://admin:{MARK}[{MARK}@cam/1",
    f"rtsp://admin:{MARK}'\"\\`$!{MARK}@cam/1",
    f"rtsp://admin:{MARK}@[fd00::7]:554/1",
    f"http://cam/snapshot.cgi?user=admin&pwd={MARK}",
    f"http://cam/snapshot.cgi?user=admin&PassWord={MARK}&channel=1",
    f"http://cam/snapshot.cgi?usr={MARK}&%70wd={MARK}",
    f"http://cam/snapshot.cgi?pwd={MARK}@{MARK}",
    f"http://cam:80/snapshot.cgi?pwd={MARK}&{MARK}=1&channel={MARK}{MARK}{MARK}{MARK}",
    f"http://cam/snapshot.cgi?loginuse=admin;loginpas={MARK}",
    f"http://cam/snapshot.cgi?{MARK}",
    f"http://cam/snapshot.cgi#{MARK}",
    f"http://admin:{MARK}@cam/snapshot.cgi?token={MARK}#{MARK}",
    f"rtsp://cam:554/user=admin&password={MARK}&channel=1&stream=0.sdp?real_stream",
    f"rtsp://cam:554/user=admin_password={MARK}_channel=1.sdp",
    f"rtsps://nvr:7441/{MARK}AbCd01234567?enableSrtp",
]
REFUSED = [
    f"rtsp://admin:{MARK}/{MARK}@cam:554/1",
    f"rtsp://admin:12/{MARK}@cam/1",
    f"rtsp://admin:{MARK}?{MARK}@cam/1",
    f"rtsp://admin:12?{MARK}@cam/1",
    f"rtsp://admin:{MARK}#{MARK}@cam/1",
    f"rtsp://admin:12#{MARK}@cam/1",
    f"rtsp://admin:{MARK}@1/{MARK}@cam/1",
    f"rtsp://ad/min:{MARK}@cam/1",
]
WRONG = [
    (f"rtp://admin:{MARK}@cam/1", "does not begin with rtsp://"),
    (f"htp://admin:{MARK}/{MARK}@cam/1", "does not begin with rtsp://"),
    (f"admin:{MARK}@cam/1", "does not begin with rtsp://"),
    (f"//admin:{MARK}@cam/1", "does not begin with rtsp://"),
    (f"rtsp:/admin:{MARK}@cam/1", "does not begin with rtsp://"),
    (f"rtsp://admin:{MARK}/1", "names no valid host and port"),
    (f"rtsp://admin:{MARK}@", "names no valid host and port"),
    (f"rtsp://admin:{MARK}@cam:99999/1", "names no valid host and port"),
    (f"rtsp://admin:{MARK}@cam:port/1", "names no valid host and port|cannot be taken apart"),
    (f"rtsp://admin:{MARK} {MARK}@cam/1", "write a space as %20"),
    (f"rtsp://admin:{MARK}\t@cam/1", "write a space as %20"),
    (f"rtsp://admin:{MARK}\u200b@cam/1", "write a space as %20"),
]


@pytest.mark.parametrize("address", USABLE)
def test_a_usable_address_is_shown_with_its_host_and_without_its_password(address: str) -> None:
    assert address_fault(address, SCHEMES) is None
    assert MARK not in shown(address)
    assert any(host in shown(address) for host in ("cam", "10.0.0.7", "[fd00::7]", "nvr"))


@pytest.mark.parametrize("address", REFUSED)
def test_a_password_that_looks_like_a_host_or_a_path_is_refused_with_how_to_write_it(address: str) -> None:
    fault = address_fault(address, SCHEMES)
    assert fault is not None
    assert "@ as %40, / as %2F, ? as %3F, # as %23" in fault
    assert MARK not in fault + shown(address)
    assert "12" not in fault + shown(address)


@pytest.mark.parametrize(("address", "words"), WRONG)
def test_a_wrong_address_is_refused_without_its_password(address: str, words: str) -> None:
    fault = address_fault(address, SCHEMES) or ""
    assert any(word in fault for word in words.split("|"))
    assert MARK not in fault + shown(address)


@pytest.mark.parametrize(
    ("address", "is_advised"),
    [
        ("rtsp://admin:p@ss@cam/1", True),
        ("rtsp://admin:100%@cam/1", True),
        ("rtsp://admin:p%40ss@cam/1", False),
        ("rtsp://admin:pa:ss@cam/1", False),
        ("http://cam/a?mail=b@c", False),
    ],
)
def test_an_address_that_other_programs_misread_is_used_with_advice(address: str, is_advised: bool) -> None:
    assert address_fault(address, SCHEMES) is None
    assert ("%40" in (address_advice(address) or "")) is is_advised


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("http://cam/", None),
        ("http://admin@cam/", Credentials("admin", "")),
        ("http://admin:p@ss@cam/", Credentials("admin", "p@ss")),
        ("http://admin:pa:ss@cam/", Credentials("admin", "pa:ss")),
        ("http://ad%3Amin:p%25%zz@cam/", Credentials("ad:min", "p%%zz")),
    ],
)
def test_user_and_password_are_split_at_the_first_colon_and_the_last_at(
    address: str, expected: Credentials | None
) -> None:
    assert credentials(address) == expected
    assert without_credentials(address) == "http://cam/"
    assert credentials(with_credentials(address, expected)) == expected


@given(st.text(min_size=1, max_size=20))
def test_every_password_is_either_understood_or_hidden_whole(middle: str) -> None:
    password = f"{MARK}{middle}{MARK}"
    address = f"http://admin:{password}@cam:80/snapshot.cgi?pwd={password}"
    fault = address_fault(address, SCHEMES)
    assert MARK not in shown(address)
    assert MARK not in (fault or "") + (address_advice(address) or "")
    encoded = f"http://admin:{quote(password, safe='')}@cam/"
    assert address_fault(encoded, SCHEMES) is None
    assert credentials(encoded) == Credentials("admin", password)
    assert without_secrets(f"Max retries exceeded with url: {encoded} (Caused by a reset)") == (
        "Max retries exceeded with url: http://***@cam/ (Caused by a reset)"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            f"HTTPConnectionPool(host='cam'): Max retries exceeded with url: /snap.cgi?user=a&pwd={MARK} (Caused",
            "HTTPConnectionPool(host='cam'): Max retries exceeded with url: /snap.cgi?user=***&pwd=*** (Caused",
        ),
        (f"Invalid URL 'http://u:{MARK}@{MARK}@cam/x': no host", "Invalid URL 'http://***@cam/x': no host"),
        (f"{{'Authorization': 'Basic {MARK}'}}", "{'Authorization': ***"),
        (f"proxy http://u:{MARK}@proxy:3128.", "proxy http://***@proxy:3128."),
        (f"password={MARK} channel=1", "password=*** channel=1"),
        ("is it http:// there?", "is it http:// there?"),
        ("check rtsp://user:password@host/path", "check rtsp://user:password@host/path"),
        ("https://yard.example:8443: nothing listens", "https://yard.example:8443: nothing listens"),
    ],
)
def test_a_text_of_a_library_loses_its_passwords_and_nothing_else(text: str, expected: str) -> None:
    assert without_secrets(text) == expected


SECRET_PARTS = [
    f"http://cam/live/{MARK}",
    f"http://cam/secret/{MARK}/x.jpg",
    f"http://cam/tokens/abcDEF-{MARK}_JKL/x.jpg",
    f"http://cam/key/9f86d081-884c-{MARK}-9a2f/snapshot",
    f"http://cam/onvif/{MARK}secret.jpg",
    f"http://cam/api/v1;token={MARK}/x",
    f"http://cam/snapshot.jpg#{MARK}",
    f"http://cam/x?channel={MARK}",
    f"https://cam/x?id=A1b2{MARK}",
    f"https://cam/x?{MARK}",
]


@pytest.mark.parametrize("address", SECRET_PARTS)
def test_a_secret_in_the_path_the_query_or_the_fragment_is_not_shown(address: str) -> None:
    assert MARK not in shown(address)
    assert MARK not in without_secrets(f"[rtsp @ 0x55d] Server returned 404 for {address}")
    path = address.partition("//")[2].removeprefix("cam")
    assert MARK not in without_secrets(
        f"HTTPConnectionPool(host='cam'): Max retries exceeded with url: {path} (Caused by"
    )


@pytest.mark.parametrize(
    "address",
    [
        "http://10.0.0.7/axis-cgi/mjpg/video.cgi?resolution=640x480",
        "rtsp://cam/Streaming/Channels/101",
        "rtsp://cam/h264Preview_01_main",
        "rtsp://cam/cam/realmonitor?channel=1&subtype=0",
        "http://cam/cgi-bin/nph-mjpegStream",
        "http://cam/tmpfs/auto.jpg",
        "https://server.example/v1/bursts",
    ],
)
def test_the_usual_addresses_of_cameras_are_shown_whole(address: str) -> None:
    assert shown(address) == address
