"""The Redis cache. It only saves time: searches work without it, and when it is slow."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError

from proto.access import EVERYTHING, Scope
from proto.errors import Broken, Denied, Transient
from proto.metrics import CACHE_LOOKUPS
from proto.types import SpaceInfo, Vector
from query.settings import RedisSettings

log = logging.getLogger("watchword.query")

_KIND = "text_vector"
_NUMBERS = np.dtype("<f4")
_MOST_CONNECTIONS = 64
_PASS_BY_S = 1.0
"""How long Redis is bypassed after a failure, so that an outage costs one wait per second and not one per search."""

Result = TypeVar("Result")


class VectorCache:
    """Caches vectors by space, scope of who asks, and text: nobody sees by an answer's speed what others asked.

    Redis failures never raise here: a vector that does not arrive within `timeout_s` is a miss, whether Redis is slow
    or too many calls run at once. Without a url the cache is always empty.
    """

    def __init__(self, settings: RedisSettings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._away_until = -math.inf
        self._away = False
        self._redis = _client(settings)
        # Not redis-py's blocking pool: it raises the same error when it is full and when Redis is down.
        self._turns = asyncio.Semaphore(_MOST_CONNECTIONS)

    async def get(self, space: SpaceInfo, text: str, scope: Scope = EVERYTHING) -> Vector | None:
        value = await self._ask(lambda redis: redis.get(_key(space, text, scope)))
        vector = _vector(value, space) if isinstance(value, bytes) else None
        CACHE_LOOKUPS.labels(kind=_KIND, outcome="miss" if vector is None else "hit").inc()
        return vector

    async def put(self, space: SpaceInfo, text: str, vector: Vector, scope: Scope = EVERYTHING) -> None:
        value = vector.astype(_NUMBERS).tobytes()
        await self._ask(lambda redis: redis.set(_key(space, text, scope), value, ex=self._settings.vector_ttl_s))

    async def close(self) -> None:
        if self._redis is not None:
            await self._redis.aclose()

    async def _ask(self, call: Callable[[Redis], Awaitable[Result]]) -> Result | None:
        """The answer, or None when it fails or is late."""
        if self._redis is None or self._clock() < self._away_until:
            return None
        queued = self._turns.locked()
        try:
            # redis-py drops the connection of a cancelled command, so nobody reads its late answer.
            async with asyncio.timeout(self._settings.timeout_s), self._turns:
                answer = await call(self._redis)
        except TimeoutError:
            if not queued:  # a queued call gave Redis less than timeout_s; the calls before it judge Redis
                self._pass_by("too slow")
            return None
        except (RedisError, OSError) as error:
            self._pass_by(str(error))
            return None
        if self._away:
            self._away = False
            log.info("the cache answers again")
        return answer

    def _pass_by(self, why: str) -> None:
        self._away_until = self._clock() + _PASS_BY_S
        if not self._away:
            self._away = True
            log.warning("the cache does not answer and is passed by: %s", why)


async def cache_answers(url: str) -> None:
    """Ping Redis as the url's user. Denied when Redis refuses this user, Transient when nobody answers."""
    async with Redis.from_url(url, retry=Retry(NoBackoff(), 0)) as redis:
        where = redis.connection_pool.connection_kwargs
        at = f"{where.get('host', 'localhost')}:{where.get('port', 6379)}"
        try:
            await redis.ping()
        except (AuthenticationError, NoPermissionError, ResponseError) as error:
            raise Denied(f"Redis at {at} refuses ({error})", todo="check the url in redis.url") from error
        except (RedisError, OSError) as error:
            raise Transient(f"no Redis answers at {at}", todo="is it running, and is redis.url right?") from error


@dataclass(frozen=True, slots=True)
class CacheServer:
    """What a Redis says of itself."""

    version: str
    ahead_s: float
    """How far its clock is ahead of this machine's; negative when it is behind."""


async def cache_server(url: str) -> CacheServer | None:
    """Ask Redis for its version and its clock; None when its user may not ask. Errors as of `cache_answers`."""
    await cache_answers(url)
    async with Redis.from_url(url, retry=Retry(NoBackoff(), 0)) as redis:
        try:
            asked_s = time.time()
            seconds, microseconds = await redis.time()
            here_s = (asked_s + time.time()) / 2
            version = (await redis.info("server")).get("redis_version", "unknown")
        except (NoPermissionError, ResponseError):
            return None
        except (RedisError, OSError) as error:
            raise Transient("Redis stopped answering", todo="look at its log") from error
    return CacheServer(str(version), seconds + microseconds / 1e6 - here_s)


def _client(settings: RedisSettings) -> Redis | None:
    url = settings.url.get_secret_value()
    if not url:
        return None
    try:
        return Redis.from_url(
            url,
            max_connections=_MOST_CONNECTIONS,
            socket_timeout=settings.timeout_s,
            socket_connect_timeout=settings.timeout_s,
            retry=Retry(NoBackoff(), 0),
        )
    except ValueError as error:
        raise Broken("the url of Redis cannot be read", todo="give redis://[user:password@]host:port/db") from error


def _key(space: SpaceInfo, text: str, scope: Scope) -> str:
    """Makes every key. Texts that differ only in white space share one, and so do callers who may see the same."""
    seen = "all" if scope.cameras is None else _digest("\n".join(sorted(scope.cameras)))
    return f"watchword:1:{_KIND}:{space.id}:{space.dimension}:{seen}:{_digest(' '.join(text.split()))}"


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=20).hexdigest()


def _vector(value: bytes, space: SpaceInfo) -> Vector | None:
    """The cached vector; None when the value is not a vector of this space."""
    if len(value) != space.dimension * _NUMBERS.itemsize:
        return None
    vector = np.frombuffer(value, _NUMBERS).astype(np.float32)
    return vector if abs(float(np.linalg.norm(vector)) - 1.0) < 1e-2 else None
