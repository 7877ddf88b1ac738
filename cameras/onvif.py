"""What an ONVIF camera says of itself over SOAP: its streams and pictures, with a login by WS-UsernameToken digest.

What a camera answers is a stranger's text: XML without document types or entities, of bounded size and depth, asked of
the camera's own host only, and no redirect is followed.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import secrets
import ssl
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat
from xml.sax.saxutils import escape

from proto.errors import Denied, Invalid, Transient, WatchwordError

_MOST_BYTES = 1 << 20
_MOST_DEPTH = 64
_MOST_PROFILES = 16
_SOAP = "http://www.w3.org/2003/05/soap-envelope"
_DEVICE = "http://www.onvif.org/ver10/device/wsdl"
_MEDIA = "http://www.onvif.org/ver10/media/wsdl"
_SCHEMA = "http://www.onvif.org/ver10/schema"
_SECURITY = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss"
_DIGEST = f"{_SECURITY}-username-token-profile-1.0#PasswordDigest"


@dataclass(frozen=True, slots=True)
class Login:
    """User and password of a camera."""

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Stream:
    """One of the streams of a camera."""

    profile: str
    url: str
    """Without user and password, as the camera tells it."""
    codec: str = ""
    width: int = 0
    height: int = 0
    picture_url: str = ""
    """Where it gives a single picture; empty where it does not say."""


@dataclass(frozen=True, slots=True)
class Answered:
    """What a camera told."""

    streams: tuple[Stream, ...]
    clock_ahead_s: float | None
    """How far its clock is ahead of this machine's; None when it does not tell the time."""


def ask(address: str, login: Login | None, timeout_s: float, now: datetime) -> Answered:
    """Ask the device service at this address for its streams. Blocks for some times `timeout_s` at most.

    Raises Denied when it wants another login, Invalid when it does not speak ONVIF, Transient when it does not answer.
    """
    device = _Service(address, timeout_s)
    ahead = _clock_ahead(device, now)
    signed = _Signed(login, now + (ahead or timedelta()))
    told = device.call(f'<GetCapabilities xmlns="{_DEVICE}"><Category>Media</Category></GetCapabilities>', signed)
    media = _Service(_own(_text(told, "Media", "XAddr") or address, address), timeout_s)
    profiles = media.call(f'<GetProfiles xmlns="{_MEDIA}"/>', signed)
    known = [(one, token) for one in profiles.iter() if _name(one) == "Profiles" and (token := one.get("token", ""))]
    streams = tuple(_stream(media, signed, profile, token) for profile, token in known[:_MOST_PROFILES])
    return Answered(streams, None if ahead is None else ahead.total_seconds())


def parsed(data: bytes) -> Element:
    """The XML as a tree. Invalid when it has a document type, is large, deep or damaged."""
    builder, parser, depth = TreeBuilder(), expat.ParserCreate(namespace_separator=" "), 0

    def begin(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > _MOST_DEPTH:
            raise ValueError("it is nested too deeply")
        builder.start(name, attributes)

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(name)

    def refuse(*_: object) -> None:
        raise ValueError("it has a document type")

    parser.StartElementHandler, parser.EndElementHandler = begin, end
    parser.CharacterDataHandler = builder.data
    # Entities can be declared in a document type only, so none is ever expanded.
    parser.StartDoctypeDeclHandler = refuse
    try:
        if len(data) > _MOST_BYTES:
            raise ValueError("it is too large")
        parser.Parse(data, True)
        return builder.close()
    except (expat.ExpatError, ValueError, LookupError, AssertionError) as error:
        raise Invalid(f"what it answers is no XML that is read ({error})", todo="is it an ONVIF camera?") from None


def words_of(tree: Element, name: str) -> list[str]:
    """The texts of all elements of this name, whatever their namespace."""
    return [(one.text or "").strip() for one in tree.iter() if _name(one) == name]


class _Signed:
    """Makes the header that says who asks: each with a word that is used once."""

    def __init__(self, login: Login | None, at: datetime) -> None:
        self._login = login
        self._created = at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def header(self) -> str:
        if self._login is None:
            return ""
        nonce = secrets.token_bytes(16)
        # SHA-1 is what the profile prescribes.
        words = nonce + self._created.encode() + self._login.password.encode()
        digest = base64.b64encode(hashlib.sha1(words).digest()).decode()  # noqa: S324
        return (
            f'<s:Header><Security s:mustUnderstand="1" xmlns="{_SECURITY}-wssecurity-secext-1.0.xsd"><UsernameToken>'
            f"<Username>{escape(self._login.user)}</Username>"
            f'<Password Type="{_DIGEST}">{digest}</Password>'
            f"<Nonce>{base64.b64encode(nonce).decode()}</Nonce>"
            f'<Created xmlns="{_SECURITY}-wssecurity-utility-1.0.xsd">{self._created}</Created>'
            "</UsernameToken></Security></s:Header>"
        )


class _Service:
    """A SOAP service of a camera."""

    def __init__(self, address: str, timeout_s: float) -> None:
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Invalid("its address is none of HTTP", todo="is it an ONVIF camera?")
        self._host, self._port, self._encrypted = parts.hostname, parts.port, parts.scheme == "https"
        self._path = parts.path or "/"
        self._timeout_s = timeout_s

    def call(self, body: str, signed: _Signed | None = None) -> Element:
        header = "" if signed is None else signed.header()
        words = (
            f'<?xml version="1.0" encoding="utf-8"?><s:Envelope xmlns:s="{_SOAP}">{header}<s:Body>{body}</s:Body>'
            "</s:Envelope>"
        )
        status, data = self._post(words.encode())
        fault = status in (400, 401, 403, 500)
        if status in (401, 403) or (fault and b"NotAuthorized" in data):
            raise Denied(f"the camera at {self._host} refuses", todo="give --user, and its password when asked for it")
        if status != 200:
            raise Invalid(f"the camera at {self._host} answers with {status}", todo="is ONVIF switched on in it?")
        return parsed(data)

    def _post(self, data: bytes) -> tuple[int, bytes]:
        connection = (
            http.client.HTTPSConnection(self._host, self._port, timeout=self._timeout_s, context=_any_certificate())
            if self._encrypted
            else http.client.HTTPConnection(self._host, self._port, timeout=self._timeout_s)
        )
        try:
            connection.request("POST", self._path, data, {"Content-Type": "application/soap+xml; charset=utf-8"})
            answer = connection.getresponse()
            with answer:
                return answer.status, answer.read(_MOST_BYTES + 1)
        except (OSError, http.client.HTTPException) as error:
            why = getattr(error, "strerror", None) or type(error).__name__
            raise Transient(f"the camera at {self._host} does not answer ({why})", todo="try again") from None
        finally:
            connection.close()


def _stream(media: _Service, signed: _Signed, profile: Element, token: str) -> Stream:
    chosen = f"<ProfileToken>{escape(token)}</ProfileToken>"
    setup = (
        f'<StreamSetup><Stream xmlns="{_SCHEMA}">RTP-Unicast</Stream><Transport xmlns="{_SCHEMA}">'
        "<Protocol>RTSP</Protocol></Transport></StreamSetup>"
    )
    told = media.call(f'<GetStreamUri xmlns="{_MEDIA}">{setup}{chosen}</GetStreamUri>', signed)
    try:
        picture = media.call(f'<GetSnapshotUri xmlns="{_MEDIA}">{chosen}</GetSnapshotUri>', signed)
        picture_url = without_login(_text(picture, "MediaUri", "Uri"))
    except WatchwordError:
        picture_url = ""  # not every camera has one
    return Stream(
        profile=plain(token),
        url=without_login(_text(told, "MediaUri", "Uri")),
        codec=plain(_text(profile, "VideoEncoderConfiguration", "Encoding")),
        width=_number(_text(profile, "VideoEncoderConfiguration", "Width")),
        height=_number(_text(profile, "VideoEncoderConfiguration", "Height")),
        picture_url=picture_url,
    )


def without_login(url: str) -> str:
    """The address without a user in it, for a terminal. What cannot be one becomes empty."""
    scheme, mark, rest = plain(url).partition("://")
    authority, slash, path = rest.partition("/")
    return f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}" if mark and scheme.isalnum() else ""


def plain(words: str) -> str:
    """What a stranger wrote, for a terminal."""
    return "".join(sign if sign.isprintable() else "?" for sign in words[:300])


def _clock_ahead(device: _Service, now: datetime) -> timedelta | None:
    """Cameras refuse a login whose time is far from theirs, and their clocks are often wrong. Needs no login."""
    try:
        told = device.call(f'<GetSystemDateAndTime xmlns="{_DEVICE}"/>')
        utc = next(one for one in told.iter() if _name(one) == "UTCDateTime")
        numbers = [int(_text(utc, name)) for name in ("Year", "Month", "Day", "Hour", "Minute", "Second")]
        return datetime(numbers[0], *numbers[1:], tzinfo=UTC) - now  # type: ignore[arg-type, misc]
    except (Denied, Invalid, StopIteration, ValueError, TypeError, OverflowError):
        return None


def _own(address: str, of: str) -> str:
    """The address at the host that was asked: a camera behind another network tells one that nobody reaches."""
    told, asked = urlsplit(address), urlsplit(of)
    try:
        same = told.hostname == asked.hostname and told.scheme in ("http", "https") and (told.port or 0) >= 0
    except ValueError:
        same = False
    return address if same else asked._replace(path=told.path, query="").geturl()


def _text(tree: Element, *path: str) -> str:
    """The text of the first element at this path of names; empty when there is none."""
    found = tree
    for name in path:
        within = next((one for one in found.iter() if _name(one) == name and one is not found), None)
        if within is None:
            return ""
        found = within
    return (found.text or "").strip()


def _number(words: str) -> int:
    return int(words) if words.isascii() and words.isdecimal() and len(words) < 6 else 0


def _name(element: Element) -> str:
    return str(element.tag).rpartition(" ")[2]


def _any_certificate() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # certificates of cameras are their own
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
