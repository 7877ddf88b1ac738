"""What the audit says of live watches: one line when one begins and one when it ends.

Whoever watches what is live has a gateway ask the same question every two seconds. The gateway marks these calls, and
only such a question is left out of the audit: another one under the same mark is noted like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

QUIET_S = 20.0
"""A watch of which nothing came for so long has ended."""
_MOST = 1000
_RECENT_MS = 3_600_000
_QUESTION = ("text", "moment", "image", "cameras", "groups")
_OF_WHOM = ("who", "token", "role", "from", "for")


@dataclass(slots=True)
class _Watch:
    asked: Mapping[str, Any] | None
    """What it looks for; None: no search of it came yet."""
    whom: Mapping[str, Any]
    began_s: float
    last_s: float
    outcome: str
    events: int = 0
    calls: int = 0
    sees: set[str] = field(default_factory=set)


class LiveWatches:
    """The watches that go on. `note` takes the lines. Pure but for that: time is an argument."""

    def __init__(self, note: Callable[[Mapping[str, Any]], None]) -> None:
        self._note = note
        self._watches: dict[tuple[str, str, str], _Watch] = {}

    def __len__(self) -> int:
        return len(self._watches)

    def took(self, mark: str, entry: Mapping[str, Any], now_s: float, now_ms: int) -> bool:
        """Take the entry of a call with this mark: `ID/EVENTS`. False when it is to be noted as it is."""
        ident, _, events = mark.partition("/")
        what = {
            name: value for name, value in entry.items() if name in ("text", "moment", "image", "cameras", "groups")
        }
        recent = not entry.get("end_ms") and entry.get("start_ms", 0) > now_ms - _RECENT_MS
        if entry["what"] not in ("search", "cameras") or (entry["what"] == "search" and not recent):
            return False
        key = entry["who"], entry["token"], ident[:32]
        watch = self._watches.get(key)
        if watch is None:
            if len(self._watches) >= _MOST or entry["outcome"] != "ok":
                return False
            whom = {name: entry[name] for name in _OF_WHOM if name in entry}
            watch = self._watches[key] = _Watch(None, whom, now_s, now_s, "ok")
            self._note({**whom, "what": "watch", "outcome": "ok"})
        if entry["what"] == "search":
            if watch.asked is None:
                watch.asked = what
            elif watch.asked != what:
                return False
            watch.sees.update(entry.get("sees", ()))
        watch.last_s, watch.calls = now_s, watch.calls + 1
        watch.events = max(watch.events, int(events)) if events.isdecimal() and len(events) < 12 else watch.events
        changed, watch.outcome = entry["outcome"] != watch.outcome, entry["outcome"]
        return not changed

    def end_quiet(self, now_s: float) -> None:
        """Note the end of those of which nothing came for a while."""
        for key, watch in list(self._watches.items()):
            if now_s - watch.last_s >= QUIET_S:
                del self._watches[key]
                self._note(
                    {
                        **watch.whom,
                        "what": "watch ended",
                        **(watch.asked or {}),
                        "seconds": round(watch.last_s - watch.began_s),
                        "events": watch.events,
                        "calls": watch.calls,
                        "sees": sorted(watch.sees),
                        "outcome": watch.outcome,
                    }
                )

    def end_all(self) -> None:
        """Note the end of all: nobody takes calls any more."""
        self.end_quiet(float("inf"))
