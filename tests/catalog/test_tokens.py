from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from catalog.cameras import CameraRegistry
from catalog.known_tokens import KnownTokens
from catalog.store import Catalog
from catalog.tables import META, TOKENS
from catalog.tokens import Kept, TokenRegistry, token_id
from proto.access import Caller, Grant, Role, Scope, together
from proto.errors import Invalid, Transient, Unauthenticated, Unknown, WatchwordError
from proto.types import Camera
from tests.catalog.shared import opened

NOW = 1_700_000_000_000


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Away(TokenRegistry):
    """A registry whose catalog can be away, and which counts what is asked of it."""

    def __init__(self, catalog: Catalog) -> None:
        super().__init__(catalog)
        self.trouble: WatchwordError | None = None
        self.noted: list[dict[str, int]] = []

    def kept(self) -> Mapping[str, Kept]:
        if self.trouble:
            raise self.trouble
        return super().kept()

    def note_used(self, used: Mapping[str, int]) -> None:
        self.noted.append(dict(used))
        super().note_used(used)


def test_a_token_is_found_by_its_text_alone_and_its_text_is_kept_nowhere(url: str) -> None:
    catalog = opened(url)
    token, secret = TokenRegistry(catalog).create("kim", Role.VIEWER, ("dock", "gate"), NOW, NOW + 5)
    assert token_id(secret) == token.id
    with catalog.reading() as connection:
        stored = repr(connection.execute(select(TOKENS)).all())
    assert secret not in stored
    assert secret[-43:] not in stored
    known = KnownTokens(TokenRegistry(catalog), 60)
    known.read()
    assert known.check(secret, NOW) == token
    assert known.caller(secret, NOW) == Caller("kim", Role.VIEWER, Scope(frozenset({"dock", "gate"})), token.id)


def test_a_token_of_groups_sees_what_is_in_them_at_the_time(url: str) -> None:
    cameras = CameraRegistry(opened(url))
    cameras.add_missing(Camera(name, "x", groups=groups) for name, groups in (("dock", ("yard",)), ("hall", ())))
    token, secret = TokenRegistry(opened(url)).create("kim", Role.VIEWER, ("hall",), NOW, groups=("yard",))
    _, groups_alone = TokenRegistry(opened(url)).create("lee", Role.VIEWER, None, NOW, groups=("yard", "none"))
    known = KnownTokens(TokenRegistry(opened(url)), 60, cameras=CameraRegistry(opened(url)))

    def seen(text: str) -> set[str]:
        known.read()
        return set(known.caller(text, NOW).scope.cameras or ("everything",))

    assert (seen(secret), seen(groups_alone)) == ({"dock", "hall"}, {"dock"})
    cameras.change("hall", lambda camera: replace(camera, groups=("yard",)))
    cameras.change("dock", lambda camera: replace(camera, groups=()))
    assert (seen(secret), seen(groups_alone)) == ({"hall"}, {"hall"})
    cameras.change("hall", lambda camera: replace(camera, groups=()))
    assert known.caller(secret, NOW).scope == Scope(frozenset({"hall"}))
    known.read()
    assert known.caller(groups_alone, NOW).scope == Scope(frozenset())
    assert token.groups == ("yard",)


def test_a_watchword_without_groups_sees_no_camera_in_a_token_of_groups(tmp_path: Path) -> None:
    catalog = opened(tmp_path)
    TokenRegistry(catalog).create("kim", Role.VIEWER, None, NOW, groups=("yard",))
    with catalog.reading() as connection:
        assert connection.execute(select(TOKENS.c.settings)).scalar_one()["cameras"] == []


@pytest.mark.parametrize("given", [{"cameras": ()}, {"groups": ("../x",)}, {"groups": tuple(map(str, range(101)))}])
def test_what_is_no_scope_is_no_token(tmp_path: Path, given: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        TokenRegistry(opened(tmp_path)).create("kim", Role.VIEWER, given.pop("cameras", None), NOW, **given)


ALL, GATE, YARD = Grant(Role.VIEWER), Grant(Role.OPERATOR, frozenset({"gate"})), Grant(Role.ADMIN, None, frozenset("y"))


@pytest.mark.parametrize(
    ("grants", "role", "cameras"),
    [
        ([ALL], Role.VIEWER, None),
        ([GATE], Role.OPERATOR, {"gate"}),
        ([ALL, GATE], Role.VIEWER, None),
        ([GATE, YARD], Role.OPERATOR, {"gate", "shed"}),
        ([Grant(Role.VIEWER, frozenset({"shed"})), YARD], Role.ADMIN, {"shed"}),
        ([Grant(Role.OPERATOR), YARD, ALL], Role.OPERATOR, None),
        ([Grant(Role.INGEST), GATE], Role.OPERATOR, {"gate"}),
        ([Grant(Role.INGEST)], Role.INGEST, None),
    ],
)
def test_several_grants_give_no_role_for_a_camera_for_which_none_gives_it(
    grants: list[Grant], role: Role, cameras: set[str] | None
) -> None:
    found = together(grants, {"y": frozenset({"shed"})})
    assert found == (role, Scope(None if cameras is None else frozenset(cameras)))


def test_of_two_tokens_of_one_name_one_must_have_ended(url: str) -> None:
    tokens = TokenRegistry(opened(url))
    first, _ = tokens.create("kim", Role.VIEWER, None, NOW)
    with pytest.raises(Invalid, match="already"):
        tokens.create("kim", Role.ADMIN, None, NOW)
    tokens.revoke("kim", NOW + 1)
    second, _ = tokens.create("kim", Role.ADMIN, None, NOW + 2)
    with pytest.raises(Unknown):
        tokens.revoke(first.id, NOW + 3)
    assert tokens.revoke(second.id, NOW + 3).name == "kim"
    assert [(one.role, one.revoked_ms) for one in tokens.all()] == [("viewer", NOW + 1), ("admin", NOW + 3)]


def test_a_revocation_is_known_to_others_at_their_next_reading(url: str) -> None:
    _, secret = TokenRegistry(opened(url)).create("kim", Role.VIEWER, None, NOW)
    known = KnownTokens(TokenRegistry(opened(url)), 60)
    known.read()
    assert known.check(secret, NOW).name == "kim"
    TokenRegistry(opened(url)).revoke("kim", NOW)
    known.read()
    with pytest.raises(Unauthenticated):
        known.check(secret, NOW)


def test_what_is_no_good_is_refused_with_one_and_the_same_text(tmp_path: Path) -> None:
    registry = TokenRegistry(opened(tmp_path))
    _, good = registry.create("kim", Role.VIEWER, None, NOW)
    _, expired = registry.create("old", Role.VIEWER, None, NOW, NOW + 10)
    _, revoked = registry.create("gone", Role.VIEWER, None, NOW)
    registry.revoke("gone", NOW)
    known = KnownTokens(registry, 60)
    known.read()
    forged = [good[:-1] + ("A" if good[-1] != "A" else "B"), "ww_" + "0" * 12 + good[15:], "", "x" * 100_000, "é"]
    said = set()
    for secret in [*forged, expired, revoked]:
        with pytest.raises(Unauthenticated) as refused:
            known.check(secret, NOW + 10)
        said.add(str(refused.value))
    assert len(said) == 1
    assert known.check(good, NOW + 10).name == "kim"


def test_while_the_catalog_is_away_known_tokens_count_for_a_time_and_unknown_ones_are_refused(tmp_path: Path) -> None:
    registry, clock = Away(opened(tmp_path)), Clock()
    _, secret = registry.create("kim", Role.VIEWER, None, NOW)
    known = KnownTokens(registry, 600.0, clock)
    with pytest.raises(Transient, match="not read yet"):
        known.check(secret, NOW)
    known.read()
    registry.trouble = Transient("it is down")
    clock.now_s = 600.0
    known.read()
    assert known.check(secret, NOW).name == "kim"
    with pytest.raises(Transient, match="this token cannot be checked now"):
        known.check(secret[:-1], NOW)
    clock.now_s = 600.1
    with pytest.raises(Transient, match="it is down"):
        known.check(secret, NOW)
    registry.trouble = None
    known.read()
    assert known.check(secret, NOW).name == "kim"


def test_the_last_use_is_noted_at_most_once_a_minute(tmp_path: Path) -> None:
    registry, clock = Away(opened(tmp_path)), Clock()
    token, secret = registry.create("kim", Role.VIEWER, None, NOW)
    known = KnownTokens(registry, 600.0, clock)
    known.read()
    for second in range(150):
        clock.now_s = float(second)
        known.check(secret, NOW + 1000 * second)
        known.read()
    assert registry.noted == [{token.id: NOW + 60_000}, {token.id: NOW + 120_000}]
    assert [one.used_ms for one in registry.all()] == [NOW + 120_000]
    before = registry.kept()
    registry.note_used({token.id: 5})
    assert registry.kept() is before
    assert [one.used_ms for one in registry.all()] == [NOW + 120_000]


def test_a_token_of_a_later_watchword_does_not_take_the_others_with_it(tmp_path: Path) -> None:
    catalog = opened(tmp_path)
    registry = TokenRegistry(catalog)
    _, good = registry.create("kim", Role.VIEWER, None, NOW)
    strange, other = registry.create("lee", Role.VIEWER, None, NOW)
    with catalog.writing() as connection:
        settings = {"name": "lee", "role": "emperor", "cameras": None, "created_ms": 1}
        connection.execute(update(TOKENS).where(TOKENS.c.id == strange.id).values(settings=settings))
    known = KnownTokens(registry, 60)
    known.read()
    assert known.check(good, NOW).name == "kim"
    with pytest.raises(Unauthenticated):
        known.check(other, NOW)


def test_a_setting_that_is_not_known_here_outlives_a_revocation(tmp_path: Path) -> None:
    catalog = opened(tmp_path)
    registry = TokenRegistry(catalog)
    registry.create("kim", Role.VIEWER, None, NOW)
    with catalog.writing() as connection:
        stored = connection.execute(select(TOKENS.c.settings)).scalar_one()
        connection.execute(update(TOKENS).values(settings={**stored, "groups": ["north"]}))
    registry.revoke("kim", NOW)
    with catalog.reading() as connection:
        assert connection.execute(select(TOKENS.c.settings)).scalar_one()["groups"] == ["north"]


def test_a_catalog_that_was_restored_is_read_anew(tmp_path: Path) -> None:
    catalog = opened(tmp_path)
    registry = TokenRegistry(catalog)
    registry.create("kim", Role.VIEWER, None, NOW)
    known = TokenRegistry(catalog)
    assert len(known.kept()) == 1
    with catalog.writing() as connection:
        connection.execute(TOKENS.delete())
        connection.execute(update(META).where(META.c.name == "tokens").values(value=0))
    assert known.kept() == {}


@pytest.mark.parametrize("name", ["", " kim", "a" * 65, "a\nb", "../x"])
def test_names_are_plain(name: str, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="cannot be a token's name"):
        TokenRegistry(opened(tmp_path)).create(name, Role.VIEWER, None, NOW)


def test_an_empty_list_of_cameras_is_not_taken_for_all(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="0 cameras"):
        TokenRegistry(opened(tmp_path)).create("kim", Role.VIEWER, (), NOW)


def test_the_token_that_counts_is_revoked_and_not_an_expired_one_of_its_name(url: str) -> None:
    registry = TokenRegistry(opened(url))
    for begun_ms in range(NOW, NOW + 80, 10):
        registry.create("kim", Role.VIEWER, None, begun_ms, begun_ms + 10)
    last, _ = registry.create("kim", Role.VIEWER, None, NOW + 80)
    assert registry.revoke("kim", NOW + 90).id == last.id
    assert not any(one.counts(NOW + 90) for one in registry.all())
    with pytest.raises(Unknown):
        registry.revoke("kim", NOW + 90)
