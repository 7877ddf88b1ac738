"""Opens what an HLS playlist names, if it is where the playlist is: the same scheme, host, port and IP address.

FFmpeg asks for each playlist, key and segment by `io_open`, so nothing is opened that is not opened here. The host's
name is looked up once, and redirects are not followed.
"""

from __future__ import annotations

import base64
import http.client
import socket
import ssl
import time
from collections.abc import Mapping
from io import BytesIO
from urllib.parse import SplitResult, unquote, urlsplit

from proto.errors import Denied, Invalid, Transient

_LONGEST_S = 60.0
"""A segment that takes longer is given up: a live camera's lasts some seconds."""
_MOST_BYTES = 256 << 20
_PORTS = {"http": 80, "https": 443}


class SameHost:
    """Opens addresses of one host. Used by one thread."""

    def __init__(self, url: str, open_s: float, read_s: float) -> None:
        self._parts = urlsplit(url)
        self._open_s, self._read_s = open_s, read_s
        self._place = _place(self._parts)
        self._host = _host(self._parts)
        self._address: tuple[str, int] | None = None
        self._bodies: set[_Body] = set()
        self.trouble: Denied | Invalid | Transient | None = None
        """Why what was asked for last could not be opened."""

    def __call__(self, url: str, _: int, __: Mapping[str, str]) -> _Body | BytesIO:
        """A file to read; an empty one when it cannot be opened, and `trouble` says why. FFmpeg goes on after errors,
        and PyAV would print them."""
        self.trouble = None
        try:
            body = self._asked(self._checked(url))
        except (Denied, Invalid, Transient) as error:
            self.trouble = error
        except (OSError, http.client.HTTPException, ValueError) as error:
            why = getattr(error, "strerror", None) or type(error).__name__
            self.trouble = Transient(f"{self._host} does not answer ({why})", todo="is it on, and the address right?")
        else:
            self._bodies = {one for one in self._bodies if not one.closed} | {body}
            return body
        return BytesIO()

    def close(self) -> None:
        """Close what FFmpeg leaves open: the playlist that it began with."""
        for body in self._bodies:
            body.close()

    def _checked(self, url: str) -> SplitResult:
        parts = urlsplit(url)
        if parts.scheme == "crypto" or url.startswith(("crypto+", "crypto:")):
            raise Invalid(f"the stream of {self._host} is encrypted", todo="ask the camera for one that is not")
        if _place(parts) != self._place:
            raise Invalid(
                f"the playlist of {self._host} names something elsewhere, which is not opened",
                todo="give the address of a playlist whose segments are on its own host and port",
            )
        return parts

    def _asked(self, parts: SplitResult) -> _Body:
        _, host, port = self._place
        connection = http.client.HTTPConnection(host, port, timeout=self._read_s)
        connection.sock = self._connected(host, port)
        try:
            connection.sock.settimeout(self._read_s)
            if self._parts.scheme.lower() == "https":
                connection.sock = _encrypted(connection.sock, host)
            path = parts.path or "/"
            connection.request("GET", f"{path}?{parts.query}" if parts.query else path, headers=self._headers())
            answer = connection.getresponse()
        except BaseException:
            connection.close()
            raise
        if 200 <= answer.status < 300:
            return _Body(connection, answer)
        answer.close()
        connection.close()
        if 300 <= answer.status < 400:
            raise Invalid(
                f"{self._host} redirects, which is not followed", todo="give the address that it redirects to"
            )
        if answer.status in (401, 403):
            raise Denied(f"the camera at {self._host} refuses", todo="put its user and password into the address")
        raise Transient(f"{self._host} answers with {answer.status}", todo="is the address right?")

    def _connected(self, host: str, port: int) -> socket.socket:
        """A connection to the address that answered first: a name that means another host later does not count."""
        if self._address is not None:
            return socket.create_connection(self._address, self._open_s)
        trouble = OSError("it has no address")
        for *_, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            self._address = str(address[0]), port
            try:
                return socket.create_connection(self._address, self._open_s)
            except OSError as error:
                self._address, trouble = None, error
        raise trouble

    def _headers(self) -> dict[str, str]:
        user = self._parts.username
        if user is None:
            return {}
        words = f"{unquote(user)}:{unquote(self._parts.password or '')}"
        return {"Authorization": f"Basic {base64.b64encode(words.encode()).decode()}"}


class _Body:
    """What was answered, to be read once."""

    def __init__(self, connection: http.client.HTTPConnection, answer: http.client.HTTPResponse) -> None:
        self._connection, self._answer = connection, answer
        self._until_s = time.monotonic() + _LONGEST_S
        self._left = _MOST_BYTES
        self.closed = False

    def read(self, size: int = -1) -> bytes:
        """At most so many bytes; none at the end, and where it takes too long or is too large."""
        if time.monotonic() > self._until_s or self._left <= 0:
            return b""
        try:
            data = self._answer.read1(size)
        except (OSError, http.client.HTTPException):
            return b""
        self._left -= len(data)
        return data

    def close(self) -> None:
        """Read no more. May be called twice."""
        self.closed = True
        self._answer.close()
        self._connection.close()


def _encrypted(sock: socket.socket, host: str) -> ssl.SSLSocket:
    # As FFmpeg does: certificates of cameras are their own.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context.wrap_socket(sock, server_hostname=host)


def _place(parts: SplitResult) -> tuple[str, str, int]:
    """Scheme, host and port."""
    try:
        port = parts.port
    except ValueError:
        port = -1
    scheme = parts.scheme.lower()
    return scheme, (parts.hostname or "").lower(), _PORTS.get(scheme, -1) if port is None else port


def _host(parts: SplitResult) -> str:
    return parts.netloc.rpartition("@")[2]
