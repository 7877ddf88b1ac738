"""Becomes another program that dies with its parent.

Run by path, with no site: `python -I -S child.py PID PROGRAM …`.

On Linux the kernel sends SIGKILL to the program the moment its parent ends, however it ends. Other systems have no
such promise: there a parent that was killed leaves the program running, and the data folder's lock tells who it is.
"""

from __future__ import annotations

import os
import sys

PR_SET_PDEATHSIG = 1
SIGKILL = 9


def die_with(parent: int) -> None:
    """Tie this process to its parent; give up at once when the parent is already gone."""
    if sys.platform == "linux":
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    # The parent may have ended before the tie was made.
    if os.getppid() != parent:
        sys.exit(1)


def main() -> None:
    """Arguments: the parent's pid, the program, its arguments."""
    _, parent, *command = sys.argv
    die_with(int(parent))
    try:
        os.execv(command[0], command)  # noqa: S606  # becoming another program is what this is for
    except OSError as problem:
        sys.exit(f"cannot start {command[0]}: {problem.strerror}")


if __name__ == "__main__":
    main()
