"""Execs a program that dies with its parent.

Run by path, without site: `python -I -S child.py PID PROGRAM …`.

On Linux the kernel sends SIGKILL to the program as soon as its parent ends, however it ends. Other systems do not: a
killed parent leaves the program running.
"""

from __future__ import annotations

import os
import sys

PR_SET_PDEATHSIG = 1
SIGKILL = 9


def die_with(parent: int) -> None:
    """Tie this process to its parent; exit if the parent is already gone."""
    if sys.platform == "linux":
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    # The parent may have ended before prctl.
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
