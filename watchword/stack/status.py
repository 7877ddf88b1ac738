"""The output of `watchword up`: a live table on a terminal, plain lines in a log."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from watchword.stack.state import PartState

_COLOURS = {"ready": "green", "elsewhere": "green", "restarting": "yellow", "away": "red", "stopped": "dim"}


class Board:
    """Shows the parts inside the block. `states` is called at every redraw."""

    def __init__(self, console: Console, *, live: bool) -> None:
        self.states: Callable[[], Sequence[PartState]] = list
        self._console = console
        self._live = (
            Live(console=console, get_renderable=lambda: _table(self.states()), refresh_per_second=4) if live else None
        )

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, line: str) -> None:
        """Print one event. A closed output does not stop the stack."""
        with contextlib.suppress(OSError):
            self._console.print(
                Text(f"{datetime.now():%H:%M:%S} {line}"), soft_wrap=self._live is None, highlight=False
            )
            self._console.file.flush()


def _table(states: Sequence[PartState]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("part", "state", "for", "address", "pid", "restarts", ""):
        table.add_column(heading, overflow="ellipsis", no_wrap=True)
    for state in states:
        table.add_row(
            state.name,
            Text(state.phase, style=_COLOURS.get(state.phase, "cyan")),
            duration(time.time() - state.since),
            state.address,
            str(state.pid or ""),
            str(state.restarts or ""),
            Text(state.why),
        )
    return table


def duration(seconds: float) -> str:
    """Formats a duration: 5 s, 12 min, 3 h, 2 d."""
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
