"""TCP ports of the embedded parts."""

from __future__ import annotations

import random
import socket

from proto.errors import Broken

HOST = "127.0.0.1"
EVERYWHERE = {"0.0.0.0", "[::]"}  # noqa: S104  # compared with, not bound to
INNER_PORTS = range(20_000, 32_000)
"""Ports that no user types, chosen below the range of outgoing connections."""

_given: set[int] = set()
"""Ports given out by this process, so that two parts do not get the same one before either listens."""


class Port:
    """One part's port: the preferred one, or the next free one if that is taken.

    A `fixed` port, named in the settings, is used or refused, never replaced. `preferred=0` means any port.
    """

    def __init__(self, preferred: int = 0, *, fixed: bool = False, what: str = "this part", host: str = HOST) -> None:
        self._preferred = preferred
        self._fixed = fixed
        self._what = what
        self.host = host
        self.number = 0

    @property
    def address(self) -> str:
        """The address for clients on this machine."""
        return f"{HOST if self.host in EVERYWHERE else self.host}:{self.number}"

    @property
    def listen(self) -> str:
        """The address for the server to listen on."""
        return f"{self.host}:{self.number}"

    def settle(self) -> int:
        """Keep the number if it is free, else take another. Called just before each start of the part."""
        if self.number and is_free(self.number):
            return self.number
        _given.discard(self.number)
        if self._fixed:
            if not is_free(self._preferred):
                raise Broken(
                    f"port {self._preferred} of {self._what} is taken by another program",
                    todo=f"stop that program (`ss -ltnp 'sport = :{self._preferred}'` names it) or set another address",
                )
            self.number = self._preferred
        else:
            self.number = next_free(self._preferred)
        _given.add(self.number)
        return self.number


def next_free(preferred: int) -> int:
    """The preferred port or the first free one above it; 0 asks for any."""
    first = preferred or random.choice(INNER_PORTS)  # noqa: S311  # no secret, only apart from a neighbour's stack
    for number in range(first, min(first + 2000, 65_536)):
        if number not in _given and is_free(number):
            return number
    raise Broken(
        f"no free TCP port from {first} up",
        todo="end programs that listen there, or set the addresses in the settings",
    )


def is_free(number: int) -> bool:
    """Whether a server could listen there now, on any of this machine's addresses."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # Like servers: connections that linger after a crash do not block the port, a listener does.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", number))  # noqa: S104  # bound for a moment, never listening
        except OSError:
            return False
        return True
