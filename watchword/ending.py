"""Ends a process whose work is over but which a thread keeps alive.

On exit Python joins all pool threads, and a thread that hangs in a blocking call, such as a read of a hung disk, cannot
be stopped. Without a bound such a process neither works nor exits, so it is never restarted.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import math
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from proto.errors import WatchwordError

_TELL_S = 1.0
"""Bound for printing the last words: standard error itself may hang."""


class Ending:
    """Bounds how long this process takes to end. When the bound passes, it exits at once with its error's exit code.

    Does nothing until `begin`. Thread-safe.
    """

    def __init__(self) -> None:
        self._error: BaseException | None = None
        self._ends_at = math.inf
        self._changed = threading.Condition()

    def begin(self, within_s: float, error: BaseException | None) -> None:
        """End within this many seconds. Of several calls the earliest bound and the last error count."""
        with self._changed:
            begun = self._ends_at < math.inf
            self._error = error
            self._ends_at = min(self._ends_at, time.monotonic() + within_s)
            self._changed.notify()
        if not begun:
            threading.Thread(target=self._wait, name="ending", daemon=True).start()

    @contextmanager
    def after(self, within_s: float) -> Iterator[None]:
        """Call `begin` when the block ends, with its error if it raised."""
        try:
            yield
        except asyncio.CancelledError:
            self.begin(within_s, None)
            raise
        except BaseException as error:
            self.begin(within_s, error)
            raise
        self.begin(within_s, None)

    def _wait(self) -> None:
        with self._changed:
            while (left_s := self._ends_at - time.monotonic()) > 0:
                self._changed.wait(left_s)
        telling = threading.Thread(target=self._tell, daemon=True)
        telling.start()
        telling.join(_TELL_S)
        match self._error:
            case None:
                os._exit(0)
            case WatchwordError() as error:
                os._exit(error.exit_code)
            case _:
                os._exit(1)

    def _tell(self) -> None:
        """Print every thread's stack, then the error, so that it is the log's last line."""
        with contextlib.suppress(OSError, ValueError):
            faulthandler.dump_traceback(sys.stderr, all_threads=True)
            print("watchword: the threads above keep this process alive; it ends without them", file=sys.stderr)
            if isinstance(self._error, WatchwordError):
                print(f"watchword: {self._error}", file=sys.stderr)
            elif self._error is not None:
                traceback.print_exception(self._error)
            sys.stdout.flush()
            sys.stderr.flush()
