"""TLS of our servers and clients: the settings, and the certificates, which are read again when their files change."""

from __future__ import annotations

import logging
import ssl
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import grpc
from pydantic import model_validator

from proto.errors import Broken
from proto.section import Section

log = logging.getLogger("watchword.tls")

SYSTEM = "system"


class ServerTls(Section):
    """What a server shows, and what it asks of its callers."""

    certificate: str = ""
    """PEM file of the certificate that the server shows, with those between it and its root. Empty: no TLS. It is read
    again when it changes, as are the next two: connections that are open keep the old one."""
    key: str = ""
    """PEM file of the certificate's private key, without a password."""
    client_ca: str = ""
    """PEM file of the root that signs certificates of callers (mTLS): whoever shows none is refused. Empty: nobody is
    asked for one."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if bool(self.certificate) != bool(self.key):
            raise ValueError("certificate and key go together: give both, or none")
        if self.client_ca and not self.certificate:
            raise ValueError("client_ca needs TLS: give certificate and key too")
        return self


class ClientTls(Section):
    """How a server of ours is called."""

    ca: str = ""
    """PEM file of the root that signed the server's certificate, or `system` for the roots of this machine: calls are
    encrypted, and the server must prove its name. Empty: no TLS."""
    server_name: str = ""
    """The name in the server's certificate. Empty: the one by which it is called."""
    client_certificate: str = ""
    """PEM file of the certificate that clients show to a server that asks for one."""
    client_key: str = ""
    """PEM file of its private key."""

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if bool(self.client_certificate) != bool(self.client_key):
            raise ValueError("client_certificate and client_key go together: give both, or none")
        if self.client_certificate and not self.ca:
            raise ValueError("client_certificate needs TLS: give ca too")
        return self


@dataclass(frozen=True, slots=True, eq=False)
class _Loaded:
    """A certificate and its key, which fit."""

    certificate: bytes
    key: bytes
    client_ca: bytes
    context: ssl.SSLContext


class Certificate:
    """The certificate of a server, as its files have it. Safe for threads."""

    def __init__(self, tls: ServerTls) -> None:
        """Raises Broken when it cannot be used."""
        self._tls = tls
        self._files = [Path(name) for name in (tls.certificate, tls.key, tls.client_ca) if name]
        self._lock = threading.Lock()
        self._tried = self._state()
        self._loaded = self._load()

    def latest(self) -> _Loaded:
        """The files as they are now; as they were before, while they cannot be used."""
        with self._lock:
            state = self._state()
            if state != self._tried:
                self._tried = state
                try:
                    self._loaded = self._load()
                except Broken as error:
                    log.warning("the certificate from before is used: %s", error)
                else:
                    log.info("%s is used from now on", self._tls.certificate)
            return self._loaded

    def _state(self) -> Sequence[tuple[int, ...]]:
        """Changes with the files."""
        found: list[tuple[int, ...]] = []
        for path in self._files:
            try:
                seen = path.stat()
                found.append((seen.st_mtime_ns, seen.st_ino, seen.st_size))
            except OSError:
                found.append((0,))
        return found

    def _load(self) -> _Loaded:
        certificate, key = read_pem(self._tls.certificate), read_pem(self._tls.key)
        client_ca = read_pem(self._tls.client_ca) if self._tls.client_ca else b""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        try:
            context.load_cert_chain(self._tls.certificate, self._tls.key, password=_no_password)
            if client_ca:
                context.load_verify_locations(cadata=client_ca.decode("ascii", "replace"))
                context.verify_mode = ssl.CERT_REQUIRED
        except (OSError, ValueError) as error:
            names = ", ".join(map(str, self._files))
            todo = "give PEM files that belong together, the key without a password"
            raise Broken(f"{names} cannot be used for TLS ({error})", todo=todo) from None
        return _Loaded(certificate, key, client_ca, context)


def server_credentials(tls: ServerTls) -> grpc.ServerCredentials:
    """For a gRPC server; each new connection is shown what the files have then. Broken when they cannot be used."""
    certificate = Certificate(tls)
    shown = certificate.latest()

    def newer() -> grpc.ServerCertificateConfiguration | None:
        nonlocal shown
        latest = certificate.latest()
        if latest is shown:
            return None
        shown = latest
        return _configuration(latest)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(shown),
        newer,  # type: ignore[arg-type]  # None is no change: the stubs do not say so
        require_client_authentication=bool(tls.client_ca),
    )


def server_context(tls: ServerTls) -> ssl.SSLContext:
    """For an HTTP server; each new connection is shown what the files have then. Broken when they cannot be used."""
    certificate = Certificate(tls)
    context = certificate.latest().context

    def choose(connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = certificate.latest().context

    # Called for each handshake, also when the client names no server.
    context.sni_callback = choose
    return context


def channel_credentials(tls: ClientTls) -> grpc.ChannelCredentials:
    """For a gRPC client. Broken when the files cannot be read."""
    return grpc.ssl_channel_credentials(
        root_certificates=None if tls.ca == SYSTEM else read_pem(tls.ca),
        private_key=read_pem(tls.client_key) if tls.client_key else None,
        certificate_chain=read_pem(tls.client_certificate) if tls.client_certificate else None,
    )


def read_pem(name: str) -> bytes:
    """The file's content. Broken when it is not PEM."""
    try:
        found = Path(name).expanduser().read_bytes()
    except OSError as error:
        raise Broken(
            f"{name} cannot be read ({error.strerror})", todo="name a PEM file that this user may read"
        ) from None
    if b"-----BEGIN " not in found:
        raise Broken(f"{name} is no PEM file", todo="give the certificate or key as PEM: it begins with -----BEGIN")
    return found


def _configuration(loaded: _Loaded) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(loaded.key, loaded.certificate)], root_certificates=loaded.client_ca or None
    )


def _no_password() -> str:
    raise ValueError("the key has a password")
