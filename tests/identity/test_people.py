"""What somebody is granted, and settings that cannot be."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from identity.people import groups_of, person_of
from identity.settings import OidcSettings, safe_address
from proto.access import Grant, Role
from proto.errors import Denied
from tests.identity.tokens import ISSUER, SETTINGS, claims

GUARD = Grant(Role.VIEWER, frozenset(), frozenset({"yard"}))


def test_the_groups_of_a_token_become_what_is_granted_to_them() -> None:
    person = person_of(claims(preferred_username="Kim", groups=["heads", "others", "guards"], exp=5), SETTINGS)
    assert (person.name, person.subject, person.until_ms) == ("Kim", "u1", 5000)
    assert person.grants == (GUARD, Grant(Role.ADMIN))
    assert person_of(claims(email="kim@example.org"), SETTINGS).name == "kim@example.org"
    assert person_of(claims(preferred_username=7), SETTINGS).name == "u1"
    assert person_of(claims(preferred_username="a\nb\x1b" + "c" * 500), SETTINGS).name == "a?b?" + "c" * 124


@pytest.mark.parametrize("groups", [None, [], ["Guards"], "yard", 7, [["guards"]], {"guards": True}])
def test_whoever_is_granted_nothing_is_told_so(groups: Any) -> None:
    with pytest.raises(Denied, match=r"oidc\.grants"):
        person_of(claims(groups=groups), SETTINGS)


def test_everybody_can_be_granted_something() -> None:
    given = SETTINGS.model_copy(update={"grants": OidcSettings.model_validate(
        {"issuer": ISSUER, "audience": ["x"], "grants": [{"people": "*", "cameras": ["gate"]}]}).grants})  # fmt: skip
    assert person_of(claims(groups=None), given).grants == (Grant(Role.VIEWER, frozenset({"gate"})),)


@pytest.mark.parametrize(
    ("told", "claim", "groups"),
    [
        ({"groups": ["a", 7, "b"]}, "groups", {"a", "b"}),
        ({"groups": "a"}, "groups", {"a"}),
        ({"realm_access": {"roles": ["a"]}}, "realm_access.roles", {"a"}),
        ({"https://example.org/groups": ["a"]}, "https://example.org/groups", {"a"}),
        ({"realm_access": []}, "realm_access.roles", set()),
        ({}, "a.b.c", set()),
    ],
)
def test_groups_are_found_where_the_setting_says(told: dict[str, Any], claim: str, groups: set[str]) -> None:
    assert groups_of(told, claim) == groups


GOOD = {"issuer": ISSUER, "client_id": "w", "public_url": "https://watch.example", "grants": [{"people": "*"}]}


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"issuer": "http://login.example"}, "no https address"),
        ({"issuer": "https://user:pw@login.example"}, "no https address"),
        ({"issuer": ""}, "need an issuer"),
        ({"client_id": ""}, "any other service"),
        ({"grants": []}, "nobody may see anything"),
        ({"public_url": "http://watch.example"}, "public_url"),
        ({"audience": ["other"]}, "name it in audience"),
        ({"scopes": ["profile"]}, "openid"),
        ({"algorithms": ["HS256"]}, "RS256"),
        ({"algorithms": ["none"]}, "RS256"),
        ({"grants": [{"people": "*", "cameras": ["../x"]}]}, "camera's name"),
        ({"grants": [{"people": "*", "role": "emperor"}]}, "viewer"),
    ],
)
def test_settings_that_let_anybody_in_or_nobody_are_refused(changed: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        OidcSettings.model_validate(GOOD | changed)


def test_settings_of_a_login_are_whole() -> None:
    assert OidcSettings.model_validate(GOOD).audiences == ("w",)
    assert OidcSettings.model_validate(GOOD).has_login
    assert not OidcSettings().has_login


@pytest.mark.parametrize("address", ["http://127.0.0.1:1", "http://localhost:80/x", "http://[::1]:8", "https://a.b"])
def test_an_address_is_safe_with_tls_or_on_this_machine(address: str) -> None:
    assert safe_address(address)


@pytest.mark.parametrize("address", ["", "http://a.b", "ftp://127.0.0.1", "https://", "https://a:b:c", "//a.b"])
def test_other_addresses_are_not_safe(address: str) -> None:
    assert not safe_address(address)
