"""Whether this machine's clock is kept by a time service, as the kernel has been told."""

from __future__ import annotations

import ctypes

_UNSYNCHRONISED = 0x40
_ERROR = 5


class _Timex(ctypes.Structure):
    """The head of the kernel's struct timex, and room for the rest of it."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_long * 40),
    )


def synchronised() -> tuple[bool, int] | None:
    """Whether it is, and how far it may be off at most, in milliseconds; None where the kernel does not tell."""
    told = _Timex()
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(told))
    except (OSError, AttributeError):
        return None
    if state < 0:
        return None
    return state != _ERROR and not told.status & _UNSYNCHRONISED, told.maxerror // 1000
