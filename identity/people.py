"""A person, from the claims of a token that was verified. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from identity.settings import EVERYBODY, OidcSettings
from proto.access import Grant
from proto.errors import Denied

_MOST_NAME = 128
_MOST_GROUPS = 2000


@dataclass(frozen=True, slots=True)
class Person:
    """Who a token is of."""

    name: str
    subject: str
    """What the issuer knows them by; it never changes, unlike the name."""
    grants: tuple[Grant, ...]
    """At least one."""
    until_ms: int
    """When the token ends, by the issuer's clock."""


def person_of(claims: Mapping[str, Any], settings: OidcSettings) -> Person:
    """The person with these claims. Denied when nothing is granted to them."""
    subject = str(claims["sub"])[:_MOST_NAME]
    name = next(
        (found for key in (settings.name_claim, "email") if isinstance(found := claims.get(key), str) and found),
        subject,
    )
    groups = groups_of(claims, settings.groups_claim)
    grants = tuple(one.grant for one in settings.grants if one.people == EVERYBODY or one.people in groups)
    if not grants:
        told = (
            f"none of {len(groups)} groups" if groups else f"no groups: the token has no claim {settings.groups_claim}"
        )
        raise Denied(
            f"{_shown(name)} may see nothing here ({told})",
            todo="have the issuer or oidc.grants name a group of theirs",
        )
    return Person(_shown(name), subject, grants, round(claims["exp"] * 1000))


def groups_of(claims: Mapping[str, Any], claim: str) -> frozenset[str]:
    """The names in a claim, which may be a list or one name. A claim with dots may be inside others."""
    found: Any = claims.get(claim)
    if found is None and "." in claim:
        found = claims
        for part in claim.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
    if isinstance(found, str):
        found = [found]
    if not isinstance(found, Sequence):
        return frozenset()
    return frozenset(one for one in found[:_MOST_GROUPS] if isinstance(one, str))


def _shown(name: str) -> str:
    """The name as it may stand in a log and in a page."""
    return "".join(sign if sign.isprintable() else "?" for sign in name[:_MOST_NAME])
