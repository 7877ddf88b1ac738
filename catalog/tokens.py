"""Tokens: who may ask, in what role, and of which cameras. A table of the catalog that several processes share."""

from __future__ import annotations

import hashlib
import logging
import re
import secrets
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import Connection, select, update

from catalog.store import Catalog
from catalog.tables import META, TOKENS
from proto.access import Grant, Role
from proto.errors import Broken, Invalid, Unknown
from proto.types import group_name

log = logging.getLogger("watchword.catalog")

_COUNTER = "tokens"
_FORM = re.compile(r"ww_([0-9a-f]{12})_[A-Za-z0-9_-]{43}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 @._-]{0,63}")
MOST_CAMERAS = 1000
MOST_GROUPS = 100


@dataclass(frozen=True, slots=True)
class Token:
    """A token, without its secret."""

    id: str
    name: str
    """Whose it is."""
    role: Role
    cameras: tuple[str, ...] | None
    """Which cameras it may see, besides those of its groups; None: all. Never None with groups: a Watchword that does
    not know of groups must not take the token for one of all cameras."""
    created_ms: int
    expires_ms: int | None = None
    revoked_ms: int | None = None
    used_ms: int = 0
    """When it was last used, to a minute; 0: never."""
    groups: tuple[str, ...] = ()
    """Cameras that are in any of these groups may be seen as long as they are in it."""

    def counts(self, now_ms: int) -> bool:
        """Whether it is neither revoked nor expired."""
        return self.revoked_ms is None and (self.expires_ms is None or now_ms < self.expires_ms)

    @property
    def grant(self) -> Grant:
        """What it gives."""
        return Grant(self.role, None if self.cameras is None else frozenset(self.cameras), frozenset(self.groups))


_TOKEN = TypeAdapter(Token)


def token_id(secret: str) -> str | None:
    """The id that a token's text has in it; None when the text is no token."""
    found = _FORM.fullmatch(secret)
    return found[1] if found else None


def hash_of(secret: str) -> str:
    """What is kept of a token. It has 256 random bits, so a fast hash cannot be turned round."""
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


@dataclass(frozen=True, slots=True)
class Kept:
    """A token as it is stored."""

    token: Token
    hash: str


class TokenRegistry:
    """Every token that was ever made. Safe for many threads and processes. Methods block.

    Each change is counted. What was read is kept, so that reading again costs one small query, and the tokens that
    changed. Raises Transient when the catalog is away, and Broken when it cannot be read.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._lock = threading.Lock()
        self._change = -1
        self._known: dict[str, Kept] = {}

    def create(
        self,
        name: str,
        role: Role,
        cameras: tuple[str, ...] | None,
        now_ms: int,
        expires_ms: int | None = None,
        *,
        groups: tuple[str, ...] = (),
    ) -> tuple[Token, str]:
        """A new token and its secret, which is not kept. It may see `cameras` and those of `groups`; without groups,
        None is all cameras. Invalid while another of this name counts."""
        if not _NAME.fullmatch(name):
            raise Invalid(
                f"{name[:80]!r} cannot be a token's name",
                todo="use 1 to 64 of a-z A-Z 0-9 @ . _ - and space, and begin with a letter or a digit",
            )
        if len(groups) > MOST_GROUPS:
            raise Invalid(f"{len(groups)} groups were given", todo=f"give at most {MOST_GROUPS}")
        groups = tuple(map(group_name, groups))
        if groups and cameras is None:
            cameras = ()
        if (cameras is not None and not (groups or cameras)) or len(cameras or ()) > MOST_CAMERAS:
            raise Invalid(f"{len(cameras or ())} cameras were given", todo=f"give 1 to {MOST_CAMERAS}, or none for all")
        token = Token(secrets.token_hex(6), name, role, cameras, now_ms, expires_ms, groups=groups)
        secret = f"ww_{token.id}_{secrets.token_urlsafe(32)}"
        with self._catalog.writing() as connection:
            change = _counted(connection)
            if any(one.name == name and one.counts(now_ms) for one in _all(connection)):
                raise Invalid(
                    f"there is a token named {name} already", todo=f"choose another name, or revoke {name} first"
                )
            self._catalog.put(connection, TOKENS, [_row(token, hash_of(secret), {}, change)])
        return token, secret

    def revoke(self, wanted: str, now_ms: int) -> Token:
        """End the token of this name or id. Unknown when there is none that counts."""
        with self._catalog.writing() as connection:
            change = _counted(connection)
            for one in _all(connection):
                # One that expired may have the name of one that counts, which is the one that must end.
                if wanted in (one.name, one.id) and one.counts(now_ms):
                    at = TOKENS.c
                    row = connection.execute(select(at.settings, at.hash).where(at.id == one.id)).one()
                    ended = replace(one, revoked_ms=now_ms)
                    # Settings that a later Watchword gave it, and that are not known here, stay.
                    self._catalog.put(connection, TOKENS, [_row(ended, row.hash, row.settings, change)])
                    return ended
        raise Unknown(f"no token is named {wanted[:80]!r}", todo="`watchword token list` shows all")

    def all(self) -> list[Token]:
        """All tokens, also those that count no more, sorted by name and age."""
        with self._catalog.reading() as connection:
            return sorted(_all(connection), key=lambda token: (token.name, token.created_ms, token.id))

    def kept(self) -> Mapping[str, Kept]:
        """Every token by its id. Shared: callers must not change it."""
        at = TOKENS.c
        with self._lock:
            with self._catalog.reading() as connection:
                change = connection.scalar(select(META.c.value).where(META.c.name == _COUNTER))
                if change == self._change:
                    return self._known
                # Fewer changes than before: the catalog was restored, and everything may be different.
                since = self._change if change is not None and change > self._change else -1
                wanted = select(at.id, at.settings, at.used_ms, at.hash).where(at.change > since)
                rows = connection.execute(wanted).all()
            fresh = dict(_readable(rows))
            self._known = {**self._known, **fresh} if since >= 0 else fresh
            self._change = -1 if change is None else change
            return self._known

    def note_used(self, used: Mapping[str, int]) -> None:
        """When these tokens were last used, by id."""
        with self._catalog.writing() as connection:
            for name, at_ms in sorted(used.items()):
                later = (TOKENS.c.id == name) & (TOKENS.c.used_ms < at_ms)
                connection.execute(update(TOKENS).where(later).values(used_ms=at_ms))


def _readable(rows: Iterable[Any]) -> Iterator[tuple[str, Kept]]:
    """The tokens that can be read. One that a later Watchword made must not take the others with it."""
    for row in rows:
        try:
            yield row.id, Kept(_token(row.id, row.settings, row.used_ms), row.hash)
        except Broken as error:
            log.warning("token %s does not count: %s", row.id, error)


def _counted(connection: Connection) -> int:
    """Count one more change. From here on to the end of the transaction nobody else changes a token."""
    counter = META.c.name == _COUNTER
    connection.execute(update(META).where(counter).values(value=META.c.value + 1))
    found: int | None = connection.scalar(select(META.c.value).where(counter))
    if found is None:
        raise Broken("the catalog does not count its tokens' changes", todo="restore it from a backup")
    return found


def _all(connection: Connection) -> list[Token]:
    rows = connection.execute(select(TOKENS.c.id, TOKENS.c.settings, TOKENS.c.used_ms)).all()
    return [_token(*row) for row in rows]


def _row(token: Token, hashed: str, stored: Mapping[str, Any], change: int) -> dict[str, Any]:
    settings = {**stored, **_TOKEN.dump_python(token, mode="json", exclude={"id", "used_ms"})}
    return {"id": token.id, "hash": hashed, "settings": settings, "used_ms": token.used_ms, "change": change}


def _token(name: str, settings: object, used_ms: int) -> Token:
    try:
        return _TOKEN.validate_python({**settings, "id": name, "used_ms": used_ms})  # type: ignore[dict-item]
    except (ValidationError, TypeError) as error:
        raise Broken(
            f"the catalog's settings of token {name} cannot be read ({type(error).__name__})",
            todo="use the Watchword that made it, or delete its row of the table tokens",
        ) from None
