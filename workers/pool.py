"""The workers behind one address: discovery, and which one to ask next."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import random
import socket
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import Any

from proto.calling import open_channel
from proto.errors import Broken, Late, Mismatch, Overloaded, Transient, WatchwordError
from proto.retry import Backoff
from proto.tls import ClientTls
from proto.v1 import encoder_pb2_grpc

log = logging.getLogger("watchword.workers")

_RESTS = Backoff(0.1, 5.0)
"""How long a failed worker rests."""
_RESOLVE_WITHIN_S = 2.0
_CONNECT_WITHIN_S = 1.0
"""A machine that is gone does not refuse connections; this bounds the wait before the next worker is tried."""

Resolve = Callable[[str, int], Awaitable[Collection[str]]]
"""Resolves a host name and a port to addresses (HOST:PORT). OSError when there are none now."""


class Budget:
    """The retry budget, a token bucket: some retries per second, and one for every five calls.

    While most calls succeed, every failed one may be retried. When most fail, retrying all would add to the overload.
    """

    def __init__(self, *, most: float = 100, a_second: float = 10, a_call: float = 0.2) -> None:
        self._most = self._left = most
        self._a_second = a_second
        self._a_call = a_call
        self._seen = 0.0

    def earn(self) -> None:
        """Count a new call."""
        self._left = min(self._most, self._left + self._a_call)

    def take(self, now: float) -> bool:
        """Spend one retry; False when the budget is empty."""
        self._left = min(self._most, self._left + max(0.0, now - self._seen) * self._a_second)
        self._seen = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Worker:
    """One worker: its load from this client, and whether it may be asked now."""

    def __init__(self, address: str, tls: ClientTls | None = None, server_name: str = "") -> None:
        """`server_name` is the name in its certificate, unless `tls` says another."""
        self.address = address
        self.items = 0
        """Items sent there and not yet answered."""
        self.space: str | None = None
        """The space of its vectors; None until it was described."""
        self.rests_until = 0.0
        self.strange = False
        """It serves another space."""
        self._failures = 0
        self._channel = open_channel(address, connect_within_s=_CONNECT_WITHIN_S, tls=tls, server_name=server_name)
        self.stub: Any = encoder_pb2_grpc.EncoderStub(self._channel)

    def rests(self, now: float) -> bool:
        return now < self.rests_until

    def chosen(self, now: float, items: int) -> None:
        """Count the items sent. A worker that failed before rests at once, so that only one caller probes it."""
        self.items += items
        if self.strange:
            self.rests_until = now + _RESTS.most_s
        elif self._failures:
            self.rests_until = now + _RESTS.pause_s(self._failures, 1.0)

    def answered(self) -> None:
        self._failures, self.rests_until, self.strange = 0, 0.0, False

    def failed(self, error: WatchwordError, now: float) -> None:
        """Let it rest: briefly when it is full, with growing backoff while it is down."""
        match error:
            case Overloaded():
                self.rests_until = max(self.rests_until, now + _RESTS.first_s / 2)
            case Mismatch():
                self.strange, self.space = True, None
                self.rests_until = now + _RESTS.most_s
            case Transient() | Late():
                self._failures += 1
                self.rests_until = now + _RESTS.pause_s(self._failures, 1.0)

    async def close(self, grace_s: float | None = None) -> None:
        """Close the channel; calls in flight have `grace_s` to finish."""
        await self._channel.close(grace_s)


def choose(workers: Iterable[Worker], now: float) -> Worker | None:
    """The worker to ask: prefers those not resting, then our space, then the least busy, then a random one."""

    def rank(worker: Worker) -> tuple[bool, float, int, float]:
        rest = max(0.0, worker.rests_until - now)
        return worker.strange and rest > 0, rest, worker.items, random.random()  # noqa: S311 - no secret

    return min(workers, key=rank, default=None)


class Pool:
    """Follows the workers behind `address`: HOST:PORT[,HOST:PORT…], where a name may stand for several machines."""

    def __init__(
        self, address: str, resolve: Resolve, *, grace_s: float, every_s: float = 5.0, tls: ClientTls | None = None
    ) -> None:
        """A name older than `every_s` is resolved again when used. A worker that left has `grace_s` to finish."""
        self._every_s = every_s
        self._tls = tls
        self._hosts = _hosts(address)
        self._fixed = all(_is_number(host) for host, _ in self._hosts)
        self._resolve = resolve
        self._grace_s = grace_s
        self._found: dict[tuple[str, int], Collection[str]] = {}
        self._workers: dict[str, Worker] = {}
        self._resolved_at = float("-inf")
        self._resolving: asyncio.Task[None] | None = None
        self._leaving: set[asyncio.Task[None]] = set()

    @property
    def known(self) -> list[str]:
        """Addresses of the current workers."""
        return list(self._workers)

    async def workers(self) -> list[Worker]:
        """The current workers; Transient when no name resolves."""
        stale = asyncio.get_running_loop().time() - self._resolved_at >= self._every_s
        if not self._resolving and (not self._workers or (stale and not self._fixed)):
            self._resolving = asyncio.create_task(self._follow())
        if not self._workers and self._resolving:
            await asyncio.shield(self._resolving)
        if not self._workers:
            names = ", ".join(host for host, _ in self._hosts)
            raise Transient(
                f"no encoder is known as {names}", todo="is encoder.address right, and its name known here?"
            )
        return list(self._workers.values())

    async def close(self) -> None:
        if self._resolving:
            self._resolving.cancel()
            await asyncio.wait([self._resolving])
        for task in self._leaving:
            task.cancel()
        await asyncio.gather(*self._leaving, *(worker.close() for worker in self._workers.values()))

    async def _follow(self) -> None:
        """Resolve the names and update the workers. A name that does not resolve changes nothing."""
        try:
            await asyncio.gather(*(self._look_up(*host) for host in self._hosts))
            self._keep({address: host for (host, _), addresses in self._found.items() for address in addresses})
        finally:
            self._resolved_at = asyncio.get_running_loop().time()
            self._resolving = None

    async def _look_up(self, host: str, port: int) -> None:
        try:
            async with asyncio.timeout(_RESOLVE_WITHIN_S):
                self._found[host, port] = [_joined(host, port)] if _is_number(host) else await self._resolve(host, port)
        except (OSError, UnicodeError) as error:
            log.warning("the encoder's name %s cannot be looked up (%s)", host, error or "no answer in time")

    def _keep(self, hosts: Mapping[str, str]) -> None:
        """Know the workers at these addresses, each found by a name, and no others."""
        for address in hosts.keys() - self._workers.keys():
            self._workers[address] = Worker(address, self._tls, hosts[address])
        for address in self._workers.keys() - hosts.keys():
            task = asyncio.create_task(self._workers.pop(address).close(self._grace_s))
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)


async def resolve(host: str, port: int) -> list[str]:
    """Every address, of one family only: a machine with both would count twice."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    family = socket.AF_INET if any(kind == socket.AF_INET for kind, *_ in found) else socket.AF_INET6
    return [_joined(str(where[0]), port) for kind, *_, where in found if kind == family]


async def resolved(address: str) -> list[str]:
    """Every worker behind an address, in order; Transient when no name resolves."""
    pool = Pool(address, resolve, grace_s=0.0)
    try:
        return sorted(worker.address for worker in await pool.workers())
    finally:
        await pool.close()


def _hosts(address: str) -> list[tuple[str, int]]:
    return [_host(part.strip()) for part in address.split(",")]


def _host(part: str) -> tuple[str, int]:
    host, _, port = part.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise Broken(
            f"{part!r} is no address of an encoder", todo="set encoder.address to HOST:PORT, or several with commas"
        )
    return host.removeprefix("[").removesuffix("]"), int(port)


def _is_number(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
