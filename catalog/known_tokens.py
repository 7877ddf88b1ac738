"""The tokens as they were read last: what is known goes on while the catalog is away, for a stated time."""

from __future__ import annotations

import hmac
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from catalog.cameras import CameraRegistry
from catalog.tokens import Kept, Token, TokenRegistry, hash_of, token_id
from proto.access import Caller, Grant, Members, Role, Scope, together
from proto.errors import Transient, Unauthenticated, WatchwordError

log = logging.getLogger("watchword.catalog")

_NOTED_EVERY_S = 60.0
_MOST_SCOPES = 1000
"""Most scopes that are remembered: one for each set of grants."""
_BAD = "the token does not count: it is unknown, expired or revoked"
_BAD_TODO = "get a new one: `watchword token create NAME` on the machine of the catalog"


class KnownTokens:
    """The registry for those who check tokens, and which cameras each group has. Safe for threads.

    `check` asks nobody. Whoever has it calls `read` about once a second, which blocks: so a token that was revoked ends
    within about that, and a camera that left a group is seen no longer. While the catalog is away, what is known counts
    for `known_for_s`.
    """

    def __init__(
        self,
        registry: TokenRegistry,
        known_for_s: float,
        clock: Callable[[], float] = time.monotonic,
        *,
        cameras: CameraRegistry | None = None,
    ) -> None:
        """Without `cameras` no group has any."""
        self._registry = registry
        self._cameras = cameras
        self._members: Members = {}
        self._together: dict[tuple[Grant, ...], tuple[Role, Scope]] = {}
        self._known_for_s = known_for_s
        self._clock = clock
        self._lock = threading.Lock()
        self._known: Mapping[str, Kept] = {}
        self._read_s: float | None = None
        self._away = False
        self._why = "it was not read yet"
        self._used: dict[str, int] = {}
        self._noted_s = clock()

    def check(self, secret: str, now_ms: int) -> Token:
        """The token of this text. Unauthenticated when none counts; Transient when what is known is too old."""
        self._check_age()
        kept = self._known.get(token_id(secret) or "")
        # Hashed also for an unknown id: how long a refusal takes says nothing.
        same = hmac.compare_digest(hash_of(secret), kept.hash if kept else "0" * 64)
        if kept is None or not same:
            if self._away:
                # It may have been made meanwhile.
                raise Transient("this token cannot be checked now: the catalog is away", todo="try again later")
            raise Unauthenticated(_BAD, todo=_BAD_TODO)
        if not kept.token.counts(now_ms):
            raise Unauthenticated(_BAD, todo=_BAD_TODO)
        self._used[kept.token.id] = now_ms
        return kept.token

    def caller(self, secret: str, now_ms: int) -> Caller:
        """Who calls with the token of this text. Raises as `check` does."""
        token = self.check(secret, now_ms)
        return self.caller_with((token.grant,), token.name, token.id)

    def caller_with(self, grants: Sequence[Grant], name: str, token: str = "") -> Caller:
        """Who calls with these grants, at least one. Transient when what is known of groups is too old."""
        self._check_age()
        made = self._together
        key = tuple(grants)
        if (found := made.get(key)) is None:
            if len(made) >= _MOST_SCOPES:
                made.clear()
            found = made[key] = together(key, self._members)
        return Caller(name, *found, token)

    def _check_age(self) -> None:
        if self._read_s is None or self._clock() - self._read_s > self._known_for_s:
            raise Transient(f"tokens cannot be checked now ({self._why})", todo="try again when the catalog is back")

    def knows(self, secret: str) -> bool:
        """Whether there is a token of this id. If not, reading again may find it."""
        return token_id(secret) in self._known

    def read(self) -> None:
        """Read what changed, and note what was used, at most once a minute. Raises nothing: an error is logged once."""
        begun_s = self._clock()
        try:
            with self._lock:
                self._known = self._registry.kept()
                self._read_members()
                self._read_s = begun_s
                self._note_used(begun_s)
        except WatchwordError as error:
            if not self._away:
                log.warning("tokens that are known count for %.0f s from now on: %s", self._known_for_s, error)
            self._away, self._why = True, error.message
            return
        if self._away:
            log.info("tokens can be read again")
        self._away = False

    def _read_members(self) -> None:
        found: dict[str, set[str]] = {}
        for camera in [] if self._cameras is None else self._cameras.all():
            for group in camera.groups:
                found.setdefault(group, set()).add(camera.name)
        members = {group: frozenset(names) for group, names in found.items()}
        if members != self._members:
            # In this order: a scope that is made meanwhile of the former members goes into the dict that is dropped.
            self._members = members
            self._together = {}

    def _note_used(self, now_s: float) -> None:
        if not self._used or now_s - self._noted_s < _NOTED_EVERY_S:
            return
        self._noted_s = now_s
        used, self._used = dict(self._used), {}  # others write meanwhile
        try:
            self._registry.note_used(used)
        except WatchwordError:
            self._used = used | self._used
            raise
