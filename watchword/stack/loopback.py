"""Execs a program that binds to every address, and keeps it on 127.0.0.1.

Run by path, without site: `python -I -S loopback.py PROGRAM …`. Needed because Milvus 2.3 has no setting for it. Linux
only, unprivileged: the program runs under a seccomp filter that reports each bind() to a small keeper process, which
replaces "every address" by 127.0.0.1 and lets the call continue. The keeper ends with the program.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
import socket
import struct
import sys
from typing import Any

_PR_SET_NO_NEW_PRIVS, _PR_SET_PTRACER = 38, 0x59616D61
_SET_MODE_FILTER, _FLAG_NEW_LISTENER = 1, 8
_RECEIVE, _SEND = 0xC0502100, 0xC0182101
_NOTIFICATION, _ANSWER = struct.Struct("=QIIiIQ6Q"), struct.Struct("=QqiI")
_GO_ON = 1
# By machine: its seccomp architecture code, and the syscall numbers of seccomp() and bind().
_MACHINES = {"x86_64": (0xC000003E, 317, 49), "aarch64": (0xC00000B7, 277, 200)}
_INET, _INET6 = socket.AF_INET, socket.AF_INET6


def keep_on_loopback() -> None:
    """From now on this process, also after exec, binds to 127.0.0.1 when it asks for every address.

    OSError when the kernel does not support this.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    ours, keepers = socket.socketpair()
    keeper = os.fork()
    if keeper == 0:
        _keeper(ours, keepers)
    keepers.close()
    # The keeper is a child and writes to our memory; if only ancestors may (Yama), it must be allowed explicitly.
    libc.prctl(_PR_SET_PTRACER, keeper, 0, 0, 0)
    listener = _install(libc)
    socket.send_fds(ours, [b"!"], [listener])
    os.close(listener)
    ours.recv(1)
    ours.close()


def _install(libc: Any) -> int:
    """Install the filter; returns the descriptor that reports bind()."""
    try:
        machine, seccomp, bind = _MACHINES[platform.machine()]
    except KeyError:
        raise OSError(f"unknown machine {platform.machine()}") from None
    load, jump_equal, give = 0x20, 0x15, 0x06
    steps = [
        (load, 0, 0, 4),  # the architecture
        (jump_equal, 0, 3, machine),
        (load, 0, 0, 0),  # the syscall number
        (jump_equal, 0, 1, bind),
        (give, 0, 0, 0x7FC00000),  # notify the keeper
        (give, 0, 0, 0x7FFF0000),  # allow
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    program = ctypes.create_string_buffer(struct.pack("@HP", len(steps), ctypes.addressof(code)))
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_NO_NEW_PRIVS)")
    listener = libc.syscall(seccomp, _SET_MODE_FILTER, _FLAG_NEW_LISTENER, program)
    if listener < 0:
        raise OSError(ctypes.get_errno(), "seccomp(SECCOMP_SET_MODE_FILTER)")
    return int(listener)


def _keeper(ours: socket.socket, keepers: socket.socket) -> None:
    """Serve until the program has ended. Never returns."""
    try:
        ours.close()
        _, descriptors, _, _ = socket.recv_fds(keepers, 1, 1)
        keepers.send(b"!")
        keepers.close()
        if descriptors:
            _serve(descriptors[0])
    finally:
        os._exit(0)


def _serve(listener: int) -> None:
    import select

    poll = select.poll()
    poll.register(listener, select.POLLIN)
    while True:
        for _, event in poll.poll():
            if not event & select.POLLIN:
                return
        received = bytearray(_NOTIFICATION.size)
        try:
            fcntl.ioctl(listener, _RECEIVE, received)
            number, pid, _, _, _, _, _, address, length, *_ = _NOTIFICATION.unpack(received)
            try:
                _narrow(pid, address, length)
            except OSError as problem:
                print(f"cannot keep this on loopback ({problem})", file=sys.stderr, flush=True)
            fcntl.ioctl(listener, _SEND, _ANSWER.pack(number, 0, 0, _GO_ON))
        except FileNotFoundError:
            continue  # the caller has ended meanwhile


def _narrow(pid: int, address: int, length: int) -> None:
    """Replace "every address" by 127.0.0.1 in the caller's memory."""
    with open(f"/proc/{pid}/mem", "r+b", buffering=0) as memory:  # noqa: PTH123  # pathlib costs the keeper memory
        asked = os.pread(memory.fileno(), min(length, 28), address)
        family = struct.unpack_from("=H", asked)[0] if len(asked) >= 2 else 0
        if family == _INET and asked[4:8] == bytes(4):
            os.pwrite(memory.fileno(), socket.inet_aton("127.0.0.1"), address + 4)
        elif family == _INET6 and asked[8:24] == bytes(16):
            os.pwrite(memory.fileno(), bytes(10) + b"\xff\xff" + socket.inet_aton("127.0.0.1"), address + 8)


def main() -> None:
    """Arguments: the program, its arguments."""
    command = sys.argv[1:]
    try:
        keep_on_loopback()
    except OSError as problem:
        print(f"this listens on every address of this machine ({problem})", file=sys.stderr, flush=True)
    os.execv(command[0], command)  # noqa: S606  # becoming another program is what this is for


if __name__ == "__main__":
    main()
