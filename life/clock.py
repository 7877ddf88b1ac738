"""Whether this machine's clock can be trusted with removing things. Pure: every time is an argument."""

from __future__ import annotations

from proto.life import DAY_MS, MOST_LEAP_MS

MOST_SKEW_MS = 10 * 60_000
"""Clocks of two machines that are farther apart are wrong."""


def doubt(now_ms: int, trusted_ms: int, store_ms: int | None, newest_ms: int) -> str | None:
    """Why nothing should be removed for its age at this time; None when the clock agrees with what else is known.

    `trusted_ms` is the last time at which it was trusted, 0 if never; `store_ms` the clock of the catalog's server,
    where that is another one; `newest_ms` the latest sign of life in what is stored, 0 if there is none.
    """
    if store_ms is not None and abs(now_ms - store_ms) > MOST_SKEW_MS:
        return f"this machine's clock is {_apart(now_ms - store_ms)} that of the catalog's server"
    if trusted_ms:
        if abs(now_ms - trusted_ms) > MOST_LEAP_MS:
            return f"the clock is {_apart(now_ms - trusted_ms)} the time at which it was right last"
    elif newest_ms and now_ms - newest_ms > MOST_LEAP_MS:
        return f"the clock is {_apart(now_ms - newest_ms)} the latest that was stored"
    return None


def _apart(by_ms: int) -> str:
    days = abs(by_ms) / DAY_MS
    length = f"{days:.1f} days" if days >= 1 else f"{abs(by_ms) / 60_000:.0f} minutes"
    return f"{length} {'ahead of' if by_ms > 0 else 'behind'}"
