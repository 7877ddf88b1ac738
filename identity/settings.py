"""Settings of logins by an OpenID Connect issuer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from proto.access import Grant, Role, is_loopback
from proto.errors import Invalid
from proto.section import Section
from proto.types import camera_name, group_name

EVERYBODY = "*"

Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]  # fmt: skip


class OidcGrant(Section):
    """What a group of people may see."""

    people: str = Field(min_length=1, max_length=256)
    """The group as the issuer's tokens name it, or `*` for everybody whom it knows."""
    role: Role = Role.VIEWER
    """viewer, operator or admin."""
    cameras: tuple[str, ...] = Field((), max_length=1000)
    """Only these cameras, and those of `groups`. Both empty: all cameras."""
    groups: tuple[str, ...] = Field((), max_length=100)
    """Cameras of these groups, as they are at the time."""

    @field_validator("cameras")
    @classmethod
    def _cameras(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return _checked(camera_name, names)

    @field_validator("groups")
    @classmethod
    def _groups(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return _checked(group_name, names)

    @property
    def grant(self) -> Grant:
        """As a grant."""
        named = frozenset(self.cameras) if self.cameras or self.groups else None
        return Grant(self.role, named, frozenset(self.groups))


class OidcSettings(Section):
    """Logins by an OpenID Connect issuer, such as Keycloak, Entra ID or Okta. Nothing is fetched without an issuer."""

    issuer: str = ""
    """The issuer's address, exactly as its discovery document names it, with https (http on loopback). Empty: no JSON
    Web Token counts, and there is no login."""
    audience: tuple[str, ...] = ()
    """A token counts only when it is meant for one of these (`aud`). Empty: `client_id`."""
    groups_claim: str = "groups"
    """The claim with the names of the groups that a person is in. With dots: a claim inside others, such as
    realm_access.roles."""
    name_claim: str = "preferred_username"
    """The claim that the audit shows as the name. A token without it is known by `email`, else by `sub`."""
    grants: tuple[OidcGrant, ...] = ()
    """Who may see what: tables of `people`, `role`, `cameras` and `groups`. Whoever has several may see the cameras of
    all of them, in the highest role that they give for every one of these. Whoever has none is refused."""
    algorithms: tuple[Algorithm, ...] = Field(("RS256", "PS256", "ES256", "EdDSA"), min_length=1)
    """Signatures that are accepted. None of them can be made with what is public."""
    leeway_s: float = Field(30.0, ge=0, le=300)
    """By how much the issuer's clock may differ from this one's."""
    keys_every_s: float = Field(600.0, ge=1, le=86_400)
    """The issuer's keys are read again after this, and at once when a token names one that is not known."""
    keys_least_s: float = Field(10.0, ge=0, le=3_600)
    """But not sooner than this after the reading before, however many such tokens come."""
    keys_known_for_s: float = Field(21_600.0, ge=1, le=604_800)
    """While the issuer is away, the keys that are known count for so long. Then every JSON Web Token is refused."""
    timeout_s: float = Field(5.0, gt=0, le=60)
    """Deadline of one call to the issuer."""
    ca: str = ""
    """PEM file of the root that signed the issuer's certificate. Empty: the roots of this machine."""
    client_id: str = ""
    """The gateway's name at the issuer: people log in with a browser. Empty: they cannot, and bring tokens."""
    client_secret: SecretStr = SecretStr("")
    """Its secret. Empty: a public client, which PKCE protects."""
    public_url: str = ""
    """The gateway's address as browsers have it, such as https://watch.example.org. Register its /login/callback at the
    issuer."""
    scopes: tuple[str, ...] = ("openid", "profile")
    """What is asked for at a login. Some issuers give groups, or a refresh token, only for a scope of its own."""
    session_s: float = Field(28_800.0, ge=60, le=604_800)
    """A login ends after this. It ends earlier when its token does and the issuer gives no new one."""
    login_first: bool = True
    """Where a token is needed, a browser that opens the console without one is sent to log in. False: the console opens
    and asks for a token; /login logs in."""

    @property
    def audiences(self) -> tuple[str, ...]:
        """What a token may be meant for."""
        return self.audience or (self.client_id,)

    @property
    def has_login(self) -> bool:
        """Whether people can log in with a browser."""
        return bool(self.issuer and self.client_id)

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if not self.issuer:
            if self.client_id or self.audience or self.grants:
                raise ValueError("audience, client_id and grants need an issuer: give oidc.issuer too")
            return self
        if not safe_address(self.issuer):
            raise ValueError(f"issuer = {self.issuer!r} is no https address (http is allowed on loopback only)")
        if not any(self.audiences):
            raise ValueError("a token for any other service would count: give audience, or client_id")
        if not self.grants:
            raise ValueError("nobody may see anything: give grants, such as [{people = '*', role = 'viewer'}]")
        if self.client_id and not safe_address(self.public_url):
            raise ValueError(f"public_url = {self.public_url!r} is no https address: a login needs one to return to")
        if self.client_id and self.client_id not in self.audiences:
            raise ValueError("tokens of logins are meant for client_id: name it in audience too")
        if self.client_id and "openid" not in self.scopes:
            raise ValueError("scopes must have openid")
        return self


def _checked(check: Callable[[str], str], names: tuple[str, ...]) -> tuple[str, ...]:
    try:
        return tuple(map(check, names))
    except Invalid as error:
        raise ValueError(str(error)) from None


def safe_address(address: str) -> bool:
    """Whether it is an https address, or an http one on this machine."""
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        return False
    if not parts.hostname or parts.username is not None or parts.fragment:
        return False
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return parts.scheme == "https" or (parts.scheme == "http" and is_loopback(f"{host}:{port or 80}"))
