"""JSON Web Tokens: the issuer's keys, and what a token that they signed says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jwt
from jwt.exceptions import (
    ExpiredSignatureError,
    ImmatureSignatureError,
    InvalidAudienceError,
    InvalidIssuerError,
    PyJWTError,
)

from identity.settings import OidcSettings
from proto.errors import Broken, Unauthenticated

MOST_BYTES = 6000
"""Longest token: it must fit into the headers of HTTP and gRPC."""
_KINDS = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}
_TYPES = {"jwt", "at+jwt", "application/at+jwt"}
"""Other tokens of an issuer, such as one that tells of a logout, are no entry."""
_TODO = "log in again, or get a new token from the issuer"


class UnknownKey(Unauthenticated):
    """The token names a key that is not among those known."""


class Keys:
    """The issuer's keys as its JWKS document has them."""

    def __init__(self, document: object) -> None:
        """Broken when there is no usable key. Keys that are shared secrets are none."""
        listed = document.get("keys") if isinstance(document, Mapping) else None
        found: list[Mapping[str, Any]] = [
            key
            for key in (listed if isinstance(listed, list) else [])
            if isinstance(key, dict) and key.get("kty") in _KINDS.values() and key.get("use", "sig") == "sig"
        ]
        if not found:
            raise Broken("the issuer's JWKS has no key for signatures", todo="is its jwks_uri right?")
        self._keys = found
        self._made: dict[tuple[int, str], jwt.PyJWK] = {}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Keys) and self._keys == other._keys

    __hash__ = None  # type: ignore[assignment]

    def of(self, kid: object, algorithm: str) -> jwt.PyJWK:
        """The key of this id for this algorithm. UnknownKey without one; Unauthenticated when it does not fit."""
        named = [(n, key) for n, key in enumerate(self._keys) if kid is None or key.get("kid") == kid]
        if not named:
            raise UnknownKey("the token is signed by a key that the issuer does not have", todo=_TODO)
        fits = [one for one in named if _fits(one[1], algorithm)]
        if len(fits) != 1:
            raise Unauthenticated("the token's key does not fit its signature", todo=_TODO)
        place, data = fits[0]
        if (place, algorithm) not in self._made:
            try:
                self._made[place, algorithm] = jwt.PyJWK(dict(data), algorithm=algorithm)
            except PyJWTError:
                raise Unauthenticated("the token's key does not fit its signature", todo=_TODO) from None
        return self._made[place, algorithm]


def _fits(key: Mapping[str, Any], algorithm: str) -> bool:
    return bool(key["kty"] == _KINDS[algorithm[:2]] and key.get("alg", algorithm) == algorithm)


def is_jwt(text: str) -> bool:
    """Whether the text has the form of a signed token."""
    return text.count(".") == 2 and text.startswith("eyJ")


def header_of(token: str, algorithms: Sequence[str]) -> tuple[object, str]:
    """The id of its key, None without one, and its algorithm, which is one of these. Unauthenticated otherwise."""
    if len(token) > MOST_BYTES:
        raise Unauthenticated(f"the token has more than {MOST_BYTES} bytes", todo="have the issuer put less into it")
    try:
        header = jwt.get_unverified_header(token)
    except PyJWTError:
        raise Unauthenticated("the token cannot be read", todo=_TODO) from None
    algorithm = header.get("alg")
    if algorithm not in algorithms:
        todo = f"have the issuer sign with one of {', '.join(algorithms)}, or add its algorithm to oidc.algorithms"
        raise Unauthenticated(f"the token is signed by {str(algorithm)[:20]!r}, which does not count", todo=todo)
    if str(header.get("typ", "jwt")).lower() not in _TYPES:
        raise Unauthenticated("the token is not meant for access", todo=_TODO)
    return header.get("kid"), str(algorithm)


def verified(token: str, keys: Keys, settings: OidcSettings, audiences: Sequence[str]) -> dict[str, Any]:
    """The claims of a token that these keys signed for one of these audiences, now. Unauthenticated otherwise."""
    kid, algorithm = header_of(token, settings.algorithms)
    try:
        return jwt.decode(
            token,
            keys.of(kid, algorithm),
            algorithms=[algorithm],
            audience=list(audiences),
            issuer=settings.issuer,
            leeway=settings.leeway_s,
            options={"require": ["exp", "iat", "iss", "aud", "sub"], "enforce_minimum_key_length": True},
        )
    except ExpiredSignatureError:
        raise Unauthenticated("the token has expired", todo=_TODO) from None
    except ImmatureSignatureError:
        todo = "set the clocks of the issuer and of this machine right"
        raise Unauthenticated("the token is not valid yet", todo=todo) from None
    except InvalidAudienceError:
        todo = "ask the issuer for one for this service: see oidc.audience"
        raise Unauthenticated("the token is meant for another service", todo=todo) from None
    except InvalidIssuerError:
        raise Unauthenticated("the token is of another issuer", todo=_TODO) from None
    except (PyJWTError, ValueError, TypeError, OverflowError):
        raise Unauthenticated("the token is not one that the issuer signed", todo=_TODO) from None
