"""How the service is reached: TLS, the token, and the one policy by which a call is tried again."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from watchword_client.errors import Invalid

_TOKEN = re.compile(r"[!-~]{1,6000}")
"""What may stand in gRPC's metadata: also a JSON Web Token, as long as the service takes one."""

_POLICY = {
    "methodConfig": [
        {
            "name": [{"service": "watchword.v1.Query"}],
            # Three seconds in all: a service that starts anew is back by then. A call that was refused is tried again
            # too. All of it ends with the call's deadline, and a clip is tried again only before its first part.
            "retryPolicy": {
                "maxAttempts": 5,
                "initialBackoff": "0.2s",
                "maxBackoff": "2s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
            },
        }
    ],
    # A repeat costs 1 and an answer earns 0.2; below half of the tokens nothing is repeated, so that many clients do
    # not keep down a service that cannot answer.
    "retryThrottling": {"maxTokens": 20, "tokenRatio": 0.2},
}
OPTIONS: list[tuple[str, Any]] = [
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
    ("grpc.max_metadata_size", 512 * 1024),
    # The service allows a ping every 30 seconds.
    ("grpc.keepalive_time_ms", 60_000),
    # So long nothing that was sent is acknowledged: the service's host is gone, and calls to it fail.
    ("grpc.keepalive_timeout_ms", 4_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # Bounds one attempt to connect: calls wait for it.
    ("grpc.min_reconnect_backoff_ms", 2_000),
    ("grpc.service_config", json.dumps(_POLICY)),
]


@dataclass(frozen=True, slots=True)
class Tls:
    """Calls are encrypted, and the service must prove its name."""

    ca: str | Path | None = None
    """PEM file of the root that signed the service's certificate. None: the roots that gRPC brings."""
    certificate: str | Path | None = None
    """PEM file of the certificate to show (mTLS), where the service asks for one."""
    key: str | Path | None = None
    """PEM file of its private key."""
    server_name: str = ""
    """The name in the service's certificate. Empty: the one by which it is called."""


def metadata_of(token: str) -> tuple[tuple[str, str], ...]:
    """What goes with each call."""
    if not token:
        return ()
    if not _TOKEN.fullmatch(token):
        raise Invalid("this cannot be a token", todo="give it as `watchword token create` showed it")
    return (("authorization", f"Bearer {token}"),)


def credentials_of(tls: Tls) -> grpc.ChannelCredentials:
    """For a channel. Invalid when a file cannot be read."""
    if (tls.certificate is None) != (tls.key is None):
        raise Invalid("certificate and key go together", todo="give both, or none")
    return grpc.ssl_channel_credentials(_pem(tls.ca), _pem(tls.key), _pem(tls.certificate))


def options_of(tls: Tls | None) -> list[tuple[str, Any]]:
    """For a channel."""
    name = tls.server_name if tls else ""
    return [*OPTIONS, *([("grpc.ssl_target_name_override", name)] if name else [])]


def _pem(path: str | Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        found = Path(path).expanduser().read_bytes()
    except OSError as error:
        raise Invalid(f"{path} cannot be read ({error.strerror})", todo="name a PEM file") from None
    if b"-----BEGIN " not in found:
        raise Invalid(f"{path} is no PEM file", todo="give it as PEM: it begins with -----BEGIN")
    return found
