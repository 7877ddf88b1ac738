"""Finds the ONVIF cameras of a network: WS-Discovery asks all at once over UDP, then each is asked for its streams."""

from __future__ import annotations

import socket
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import unquote, urlsplit

from cameras.onvif import Answered, Login, ask, parsed, plain, words_of
from proto.errors import Broken, Invalid, WatchwordError

GROUP = ("239.255.255.250", 3702)
"""Where cameras listen for a probe."""
_MOST_ANSWER = 65_535
_MOST_CAMERAS = 500
_AT_ONCE = 16
_SCOPE = "onvif://www.onvif.org/"
_PROBE = (
    '<?xml version="1.0" encoding="utf-8"?>'
    '<e:Envelope xmlns:e="http://www.w3.org/2003/05/soap-envelope" '
    'xmlns:w="http://schemas.xmlsoap.org/ws/2004/08/addressing" '
    'xmlns:d="http://schemas.xmlsoap.org/ws/2005/04/discovery" '
    'xmlns:dn="http://www.onvif.org/ver10/network/wsdl">'
    "<e:Header><w:MessageID>uuid:{id}</w:MessageID>"
    "<w:To>urn:schemas-xmlsoap-org:ws:2005:04:discovery</w:To>"
    "<w:Action>http://schemas.xmlsoap.org/ws/2005/04/discovery/Probe</w:Action></e:Header>"
    "<e:Body><d:Probe><d:Types>dn:NetworkVideoTransmitter</d:Types></d:Probe></e:Body></e:Envelope>"
)


@dataclass(frozen=True, slots=True)
class Found:
    """A camera that answered a probe."""

    address: str
    """Of its device service."""
    name: str = ""
    hardware: str = ""

    @property
    def host(self) -> str:
        return urlsplit(self.address).hostname or ""


@dataclass(frozen=True, slots=True)
class Discovered:
    """A camera, and what it told, or why it did not."""

    found: Found
    answered: Answered | None
    error: WatchwordError | None = None


def discover(
    seconds: float, login: Login | None, timeout_s: float, *, to: tuple[str, int] = GROUP, via: str = ""
) -> list[Discovered]:
    """Every camera that answers within `seconds`, by address. Blocks so long, and some times `timeout_s` at most.

    `via` is the address of the network interface that is asked over; without it the system chooses. `login` is sent to
    every camera that answers, as a digest.
    """
    cameras = probe(seconds, to=to, via=via)

    def look(one: Found) -> Discovered:
        try:
            return Discovered(one, ask(one.address, login, timeout_s, datetime.now(UTC)))
        except WatchwordError as error:
            return Discovered(one, None, error)

    with ThreadPoolExecutor(_AT_ONCE, "discover") as threads:
        return list(threads.map(look, cameras))


def probe(
    seconds: float, *, to: tuple[str, int] = GROUP, via: str = "", clock: Callable[[], float] = time.monotonic
) -> list[Found]:
    """The cameras that answer within `seconds`. Broken when nothing can be sent."""
    words = uuid.uuid4()
    found: dict[str, Found] = {}
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)
            if via:
                asking.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(via))
            asking.bind((via, 0))
            until_s, again_s = clock() + seconds, clock()
            for _ in range(20 * _MOST_CAMERAS):
                if clock() >= again_s and again_s < until_s:
                    asking.sendto(_PROBE.format(id=words).encode(), to)
                    again_s += seconds / 2  # datagrams get lost
                left_s = until_s - clock()
                if left_s <= 0 or len(found) >= _MOST_CAMERAS:
                    break
                asking.settimeout(min(left_s, max(0.001, again_s - clock())) if again_s < until_s else left_s)
                with suppress(TimeoutError):
                    data, (host, _port) = asking.recvfrom(_MOST_ANSWER)
                    with suppress(Invalid):
                        for one in matches(data, host, f"uuid:{words}"):
                            found.setdefault(one.address, one)
    except OSError as error:
        raise Broken(
            f"the network cannot be asked ({error.strerror or error})",
            todo="name the address of this machine in the cameras' network with --via",
        ) from error
    return sorted(found.values(), key=lambda one: one.address)


def matches(data: bytes, host: str, asked: str) -> list[Found]:
    """The cameras that an answer names, as far as they are at the host that sent it and answer what was asked."""
    tree = parsed(data)
    if asked not in words_of(tree, "RelatesTo"):
        return []
    scopes = [scope for words in words_of(tree, "Scopes") for scope in words.split()]
    addresses = [address for words in words_of(tree, "XAddrs") for address in words.split()]
    for address in addresses:
        with suppress(ValueError):
            parts = urlsplit(address)
            if parts.scheme in ("http", "https") and parts.hostname == host and (parts.port or 1) > 0:
                return [Found(plain(address), _scope(scopes, "name"), _scope(scopes, "hardware"))]
    return []


def _scope(scopes: list[str], what: str) -> str:
    begins = f"{_SCOPE}{what}/"
    return next((plain(unquote(scope.removeprefix(begins))) for scope in scopes if scope.startswith(begins)), "")
