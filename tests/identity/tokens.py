"""An issuer's keys, and tokens that it signs."""

from __future__ import annotations

import base64
import hmac
import json
import time
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from identity.settings import OidcSettings

ISSUER = "https://login.example"
SETTINGS = OidcSettings.model_validate(
    {
        "issuer": ISSUER,
        "audience": ["watchword"],
        "grants": [{"people": "guards", "groups": ["yard"]}, {"people": "heads", "role": "admin"}],
    }
)


@cache
def ec_key(name: str) -> ec.EllipticCurvePrivateKey:
    del name  # one for each
    return ec.generate_private_key(ec.SECP256R1())


@cache
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def jwks(*names: str, **more: Any) -> dict[str, Any]:
    """The public keys of these names, and an RSA key named `rsa`."""
    found = [json.loads(ECAlgorithm.to_jwk(ec_key(name).public_key())) | {"kid": name} for name in names]
    found.append(json.loads(RSAAlgorithm.to_jwk(rsa_key().public_key())) | {"kid": "rsa", "use": "sig"})
    return {"keys": found, **more}


def claims(**changed: Any) -> dict[str, Any]:
    """Good claims. What is changed to None is left out."""
    now = int(time.time())
    told = {"iss": ISSUER, "aud": "watchword", "sub": "u1", "iat": now, "exp": now + 300, "groups": ["guards"]}
    return {key: value for key, value in (told | changed).items() if value is not None}


def signed(told: dict[str, Any] | None = None, kid: str | None = "one", key: Any = None, **header: Any) -> str:
    """A token that is signed by the key of this name."""
    algorithm = header.pop("alg", "ES256")
    headers = header | ({"kid": kid} if kid else {})
    return jwt.encode(claims() if told is None else told, key or ec_key(kid or "one"), algorithm, headers)


def raw(header: dict[str, Any], body: Any, signature: bytes | None = None) -> str:
    """A token put together by hand; signed with HS256 and this secret, or with nothing."""
    text = ".".join(_b64(json.dumps(part).encode()) for part in (header, body))
    mark = b"" if signature is None else hmac.new(signature, text.encode(), "sha256").digest()
    return f"{text}.{_b64(mark)}"


def public_pem() -> bytes:
    return (
        rsa_key().public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
