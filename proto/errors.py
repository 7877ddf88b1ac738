"""The error tree. Every error says what is wrong and what to do about it.

    WatchwordError
    ├── Transient       the part will come back: try again               UNAVAILABLE
    ├── Overloaded      too much at once: wait, then try again           RESOURCE_EXHAUSTED
    ├── Late            the answer did not come before the deadline      DEADLINE_EXCEEDED
    ├── Invalid         the request is wrong: change it                  INVALID_ARGUMENT
    │   └── Poison      this one item can never be processed             INVALID_ARGUMENT
    ├── Unknown         names a camera or a moment that is not here      NOT_FOUND
    ├── Unauthenticated no token came, or one that does not count        UNAUTHENTICATED
    ├── Denied          not allowed                                      PERMISSION_DENIED
    ├── Conflict        somebody changed it meanwhile: look again        ABORTED
    ├── Mismatch        vectors of another space                         FAILED_PRECONDITION
    └── Broken          the installation or its surroundings are wrong   INTERNAL

A vendor's errors are translated into these in the one file that imports the vendor. The mapping to gRPC, which carries
the class, `todo` and `reason` to the caller, is made once, in `proto/rpc.py`. The command line ends with the error's
`exit_code`.
"""

from __future__ import annotations


class WatchwordError(Exception):
    """Base of all. `message` says what is wrong, `todo` what to do next."""

    exit_code = 1

    def __init__(self, message: str, *, todo: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.todo = todo

    def __str__(self) -> str:
        return f"{self.message}: {self.todo}" if self.todo else self.message


class Transient(WatchwordError):
    """A part is down and expected back; the same call may succeed later."""

    exit_code = 3


class Overloaded(WatchwordError):
    """Refused at the door because too much is in progress, or the caller asks too often.

    `wait_s` is after how long the call may be made again, where that is known; before that it is in vain.
    """

    exit_code = 4

    def __init__(self, message: str, *, todo: str = "", wait_s: float = 0.0) -> None:
        super().__init__(message, todo=todo)
        self.wait_s = wait_s


class Late(WatchwordError):
    """The deadline passed first."""

    exit_code = 5


class Invalid(WatchwordError):
    """The request can never succeed as it is."""

    exit_code = 2


class Poison(Invalid):
    """One item of a batch can never be processed; the others go on.

    `reason` is a stable word, for programs and for counting.
    """

    def __init__(self, reason: str, message: str, *, todo: str = "") -> None:
        super().__init__(message, todo=todo)
        self.reason = reason


class Unknown(WatchwordError):
    """The request names something that does not exist here."""

    exit_code = 6


class Denied(WatchwordError):
    """The caller may not do this."""

    exit_code = 7


class Unauthenticated(WatchwordError):
    """It is not known who calls: no token came, or one that does not count."""

    exit_code = 10


class Conflict(WatchwordError):
    """What is to be changed is not as the caller saw it."""

    exit_code = 11


class Mismatch(WatchwordError):
    """Vectors of different spaces would be compared."""

    exit_code = 8


class Broken(WatchwordError):
    """The installation, a setting or the machine is wrong; retrying does not help."""

    exit_code = 9
