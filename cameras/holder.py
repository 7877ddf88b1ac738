"""Who holds a lease: a name for this process, and whether the process of another name is certainly gone."""

from __future__ import annotations

import os
import secrets
import socket
from pathlib import Path


def new_holder() -> str:
    """A name that no other process has, wherever it runs."""
    return f"{_machine()}/{os.getpid()}/{secrets.token_hex(4)}"


def host_of(holder: str) -> str:
    """Host and process, for people."""
    parts = holder.split("/")
    return f"{parts[0]}/{parts[-2]}" if len(parts) > 2 else holder


def is_gone(holder: str) -> bool:
    """Whether it was a process of this machine, and ended. Its lease need not be waited for."""
    machine, _, rest = holder.rpartition("/")[0].rpartition("/")
    if machine != _machine() or not rest.isdigit():
        return False
    try:
        os.kill(int(rest), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _machine() -> str:
    """This host since it was booted, and the space in which process numbers mean something: a container has its own."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()}/{boot}/{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        # Elsewhere nothing is known of other processes: this name is never met again.
        return f"{socket.gethostname()}/{secrets.token_hex(4)}"
