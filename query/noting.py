"""What the audit says of a call: who, what, how it ended, how much was found, from where."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from proto import tracing
from proto.access import Caller
from proto.calling import CLIENT_KEY, WATCH_KEY
from proto.errors import WatchwordError
from proto.types import now_ms
from proto.v1 import query_pb2
from query.watched import QUIET_S, LiveWatches

Note = Callable[[Mapping[str, Any]], None]

_MOST_TEXT = 2000
_MOST_NAMES = 100
_REFUSALS_A_SECOND = 10.0


class Notes:
    """Notes calls in the audit."""

    def __init__(self, note: Note, clock: Callable[[], float] = time.monotonic) -> None:
        self._note = note
        self._clock = clock
        self._room = _REFUSALS_A_SECOND
        self._seen_s = clock()
        self._passed_over = 0
        self._watches = LiveWatches(note)
        self._ending: asyncio.TimerHandle | None = None

    @contextmanager
    def of(self, who: Caller, what: str, context: Any, asked: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """The block is this call. What it puts into the dict is noted too."""
        entry: dict[str, Any] = {
            "who": who.name,
            "token": who.token,
            "role": who.role,
            "what": what,
            **asked,
            "from": str(context.peer())[:200],
        }
        told = [value for key, value in context.invocation_metadata() or () if key == CLIENT_KEY]
        if told:
            entry["for"] = str(told[0])[:200]
        outcome = "broken"
        try:
            yield entry
            outcome = "ok"
        except WatchwordError as error:
            outcome = type(error).__name__.lower()
            raise
        except (asyncio.CancelledError, GeneratorExit):
            outcome = "cancelled"
            raise
        finally:
            with tracing.span("note"):
                self._noted({**entry, "outcome": outcome}, context)

    def close(self) -> None:
        """Note the end of what goes on."""
        if self._ending is not None:
            self._ending.cancel()
        self._watches.end_all()

    def _noted(self, entry: Mapping[str, Any], context: Any) -> None:
        """Note it, unless it is one call of many of a live watch."""
        marks = [str(value) for key, value in context.invocation_metadata() or () if key == WATCH_KEY]
        if not marks or not self._watches.took(marks[0], entry, self._clock(), now_ms()):
            self._note(entry)
        if len(self._watches) and self._ending is None:
            self._ending = asyncio.get_running_loop().call_later(QUIET_S / 4, self._end_quiet)

    def _end_quiet(self) -> None:
        self._ending = None
        self._watches.end_quiet(self._clock())
        if len(self._watches):
            self._ending = asyncio.get_running_loop().call_later(QUIET_S / 4, self._end_quiet)

    def refused(self, method: str, peer: str, error: WatchwordError) -> None:
        """A call by nobody who is known. A flood of them is counted, so that it does not fill the disk."""
        now = self._clock()
        self._room = min(_REFUSALS_A_SECOND, self._room + _REFUSALS_A_SECOND * (now - self._seen_s))
        self._seen_s = now
        if self._room < 1:
            self._passed_over += 1
            return
        self._room -= 1
        entry = {"what": method[:40], "from": peer[:200], "outcome": type(error).__name__.lower()}
        passed_over, self._passed_over = self._passed_over, 0
        self._note({**entry, "as_well": passed_over} if passed_over else entry)


def asked_for(request: query_pb2.SearchRequest) -> dict[str, Any]:
    """What a search looks for."""
    found: dict[str, Any] = {}
    match request.WhichOneof("question"):
        case "text":
            found["text"] = request.text[:_MOST_TEXT]
        case "moment_id":
            found["moment"] = request.moment_id[:64]
        case "image":
            found["image"] = hashlib.sha256(request.image).hexdigest()
    if request.cameras:
        found["cameras"] = [name[:80] for name in request.cameras[:_MOST_NAMES]]
    if request.groups:
        found["groups"] = [name[:80] for name in request.groups[:_MOST_NAMES]]
    if request.start_ms or request.end_ms:
        found |= {"start_ms": request.start_ms, "end_ms": request.end_ms}
    return found
