"""Cameras are found by UDP and asked over SOAP; what a stranger answers opens and expands nothing."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from cameras.discovery import Discovered, discover, matches, probe
from cameras.onvif import Answered, Login, ask, parsed, without_login
from proto.errors import Broken, Denied, Invalid, Transient
from tests.cameras.onvif_device import PASSWORD, USER, OnvifDevice
from tests.watchword.conftest import cli
from tests.watchword.terminal import Cli, refused

__all__ = ["cli"]
LOGIN = Login(USER, PASSWORD)
SECONDS = 0.2
BOMB = '<!DOCTYPE e [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><e>&b;</e>'
OUTSIDE = '<!DOCTYPE e [<!ENTITY a SYSTEM "file:///etc/passwd">]><e>&a;</e>'


@pytest.fixture
def device() -> Iterator[OnvifDevice]:
    made = OnvifDevice()
    yield made
    made.close()


def asked(device: OnvifDevice, login: Login | None = LOGIN) -> Answered:
    return ask(f"{device.url}/onvif/device_service", login, 2.0, datetime.now(UTC))


def found(device: OnvifDevice, login: Login | None = LOGIN) -> Discovered:
    (one,) = discover(SECONDS, login, 2.0, to=device.place)
    return one


def test_a_camera_is_found_and_tells_its_streams_though_its_clock_is_wrong(device: OnvifDevice) -> None:
    hours = -7
    device.ahead = timedelta(hours=hours)
    one = found(device)
    assert (one.found.name, one.found.hardware, one.error) == ("Front door", "X1", None)
    assert one.answered is not None and one.answered.clock_ahead_s is not None
    assert round(one.answered.clock_ahead_s / 3600) == hours
    (stream,) = one.answered.streams
    assert (stream.url, stream.codec) == ("rtsp://127.0.0.1:554/main?a=1&b=2", "H264")
    assert (stream.width, stream.height, stream.picture_url) == (1920, 1080, "http://127.0.0.1/picture.jpg")


@pytest.mark.parametrize("login", [None, Login(USER, "wrong"), Login("<x/>", PASSWORD)])
def test_a_camera_that_wants_another_login_says_so_and_nothing_secret(device: OnvifDevice, login: Login | None) -> None:
    with pytest.raises(Denied) as refused:
        asked(device, login)
    assert "wrong" not in f"{refused.value} {login!r}" and PASSWORD not in repr(login)


@pytest.mark.parametrize(
    "answer",
    [BOMB, OUTSIDE, "", "no xml", "<e>" * 100 + "</e>" * 100, "<e>" + "x" * 2_000_000 + "</e>", b"\xff\xfe<\0e\0"],
)
def test_what_is_no_plain_xml_is_refused(device: OnvifDevice, answer: str | bytes) -> None:
    device.answers["GetProfiles"] = answer
    with pytest.raises(Invalid):
        asked(device)
    with pytest.raises(Invalid):
        parsed(answer if isinstance(answer, bytes) else answer.encode())


def test_a_camera_that_names_another_host_is_not_asked_there(device: OnvifDevice) -> None:
    device.xaddrs = "http://169.254.169.254/onvif file:///etc/passwd http://127.0.0.1:99999/x http://[::1"
    assert discover(SECONDS, LOGIN, 2.0, to=device.place) == []
    assert device.asked == []


@pytest.mark.parametrize(
    "match", ["<d:XAddrs>http://127.0.0.1/</d:XAddrs>", "<a:RelatesTo>uuid:1</a:RelatesTo>", "&x;"]
)
def test_an_answer_to_another_question_does_not_count(device: OnvifDevice, match: str) -> None:
    device.match = match
    assert probe(SECONDS, to=device.place) == []


def test_an_answer_names_a_camera_once_and_is_shown_as_text() -> None:
    scopes = "onvif://www.onvif.org/name/a%1b[31m%0ab"
    data = f"<e><RelatesTo>q</RelatesTo><Scopes>{scopes}</Scopes><XAddrs>http://h/a http://h/b</XAddrs></e>".encode()
    (one,) = matches(data, "h", "q")
    assert (one.address, one.name) == ("http://h/a", "a?[31m?b")
    assert without_login("rtsp://u:p@h/x") == "rtsp://h/x"
    assert without_login("no address") == ""


def test_a_camera_that_does_not_answer_and_a_network_that_is_not_there_are_told(device: OnvifDevice) -> None:
    device.xaddrs = "http://127.0.0.1:1/onvif"
    assert isinstance(found(device).error, Transient)
    with pytest.raises(Broken, match="the network cannot be asked"):
        probe(SECONDS, to=device.place, via="192.0.2.1")


def test_the_command_shows_what_can_be_added(device: OnvifDevice, cli: Cli) -> None:
    place = f"{device.place[0]}:{device.place[1]}"
    shown = cli("camera", "discover", "--to", place, "--seconds", "0.3")
    assert "127.0.0.1 (Front door X1)" in shown.out and "give --user" in shown.out
    assert "is no host and port" in refused(cli("camera", "discover", "--to", "x"))
    assert "cannot be waited for" in refused(cli("camera", "discover", "--seconds", "1e9"))
