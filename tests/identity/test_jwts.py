"""Which tokens count."""

from __future__ import annotations

import time
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from identity.jwts import Keys, UnknownKey, is_jwt, verified
from proto.errors import Broken, Unauthenticated
from tests.identity.tokens import SETTINGS, claims, ec_key, jwks, public_pem, raw, rsa_key, signed

KEYS = Keys(jwks("one", "two"))
NOW = int(time.time())
ES = {"alg": "ES256", "typ": "JWT", "kid": "one"}


def said(token: str) -> dict[str, Any]:
    return verified(token, KEYS, SETTINGS, SETTINGS.audiences)


@pytest.mark.parametrize(
    "token",
    [
        signed(),
        signed(kid="two"),
        signed(typ="at+jwt"),
        signed(claims(aud=["other", "watchword"])),
        signed(kid="rsa", key=rsa_key(), alg="RS256"),
        signed(kid="rsa", key=rsa_key(), alg="PS256"),
    ],
)
def test_a_good_token_says_who_it_is_of(token: str) -> None:
    assert said(token)["sub"] == "u1"


def test_clocks_may_be_half_a_minute_apart() -> None:
    now = int(time.time())
    assert said(signed(claims(exp=now - 15)))["sub"] == "u1"
    assert said(signed(claims(nbf=now + 15, iat=now + 15)))["sub"] == "u1"


FORGED = {
    "no signature": raw({"alg": "none", "kid": "one"}, claims()),
    "no signature, other case": raw({"alg": "nOnE", "kid": "one"}, claims()),
    "signature cut off": signed().rpartition(".")[0] + ".",
    "public key as a shared secret": raw({"alg": "HS256", "kid": "rsa"}, claims(), public_pem()),
    "another key of the name": signed(key=ec_key("thief")),
    "its own key": signed(key=ec_key("thief"), jwk=jwks("thief")["keys"][0], jku="https://evil.example/jwks"),
    "another algorithm of the key's kind": signed(alg="ES384", key=ec.generate_private_key(ec.SECP384R1())),
    "a key of another kind": signed(kid="rsa", key=ec_key("one")),
    "not whitelisted": signed(kid="rsa", key=rsa_key(), alg="RS512"),
    "unknown extension": raw(ES | {"crit": ["x"], "x": 1}, claims()),
    "for others": signed(claims(aud="someone-else")),
    "for nobody": signed(claims(aud=None)),
    "of another issuer": signed(claims(iss="https://login.example/")),
    "expired": signed(claims(exp=NOW - 40)),
    "without an end": signed(claims(exp=None)),
    "not valid yet": signed(claims(nbf=NOW + 86_400)),
    "made tomorrow": signed(claims(iat=NOW + 86_400, exp=NOW + 90_000)),
    "of nobody": signed(claims(sub=None)),
    "subject is no text": signed(claims(sub=None) | {"sub": 7}),
    "end is no number": signed(claims(exp="tomorrow")),
    "end is endless": signed(claims(exp=float("inf"))),
    "end is not a number": signed(claims(exp=float("nan"))),
    "tells of a logout": signed(typ="logout+jwt"),
    "two keys could be meant": signed(kid=None),
    "too long": signed(claims(groups=["x" * 50] * 200)),
    "not JSON": "eyJhbGci.e30.",
    "a list": raw({"alg": "none"}, []),
    "header is a list": raw([], {}),  # type: ignore[arg-type]
    "odd signs": "eyJé.\x00.x",
}  # fmt: skip


@pytest.mark.parametrize("name", FORGED)
def test_what_is_forged_or_not_meant_for_us_does_not_count(name: str) -> None:
    with pytest.raises(Unauthenticated) as refused:
        said(FORGED[name])
    assert refused.value.todo
    assert not isinstance(refused.value, UnknownKey)


def test_a_key_that_is_not_known_is_told_apart() -> None:
    with pytest.raises(UnknownKey):
        said(signed(kid="three"))


def test_a_key_says_for_which_algorithm_it_is() -> None:
    given = jwks()
    given["keys"][0] |= {"alg": "PS256"}
    with pytest.raises(Unauthenticated, match="does not fit"):
        verified(signed(kid="rsa", key=rsa_key(), alg="RS256"), Keys(given), SETTINGS, SETTINGS.audiences)
    assert verified(signed(kid="rsa", key=rsa_key(), alg="PS256"), Keys(given), SETTINGS, SETTINGS.audiences)


def test_a_single_key_needs_no_name() -> None:
    assert verified(signed(kid=None, key=rsa_key(), alg="RS256"), Keys(jwks()), SETTINGS, SETTINGS.audiences)


@pytest.mark.parametrize(
    "document",
    [{}, [], None, {"keys": "x"}, {"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "one"}]},
     {"keys": [{"kty": "RSA", "use": "enc"}]}],
)  # fmt: skip
def test_a_document_without_public_keys_is_no_set_of_keys(document: Any) -> None:
    with pytest.raises(Broken):
        Keys(document)


def test_a_damaged_key_refuses_its_tokens_alone() -> None:
    given = jwks("one")
    given["keys"][0]["x"] = "!"
    with pytest.raises(Unauthenticated):
        verified(signed(), Keys(given), SETTINGS, SETTINGS.audiences)


def test_a_token_of_ours_is_not_taken_for_one_of_an_issuer() -> None:
    assert not is_jwt("ww_" + "0" * 12 + "_" + "a" * 43)
    assert is_jwt(signed())
