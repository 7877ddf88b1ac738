"""A switch between network devices that can cut and slow the cable of each. Needs root.

    python wire.py DEVICE...

Makes the devices, says "ready", and obeys lines on its standard input: `cut DEVICE`, `slow DEVICE SECONDS` (each way),
`heal DEVICE`. Ends with its input, and the devices with it. For kernels without the queueing discipline netem.
"""

from __future__ import annotations

import fcntl
import heapq
import os
import selectors
import struct
import sys
import time
from dataclasses import dataclass, field

_TUNSETIFF = 0x400454CA
_TAP_WITHOUT_HEADER = 0x0002 | 0x1000
_MOST_FRAME = 65_536
_MOST_WAITING = 20_000


@dataclass(eq=False)
class Cable:
    """One device, and the state of its cable."""

    device: str
    fd: int = -1
    cut: bool = False
    delay_s: float = 0.0


@dataclass
class Switch:
    """Takes frames in, and says which are to be delivered where. Pure: the times are arguments."""

    cables: list[Cable]
    _learned: dict[bytes, Cable] = field(default_factory=dict)
    _waiting: list[tuple[float, int, Cable, bytes]] = field(default_factory=list)
    _count: int = 0

    def take(self, source: Cable, frame: bytes, now_s: float) -> None:
        """A frame came in."""
        target, sender = frame[:6], frame[6:12]
        self._learned[sender] = source
        if source.cut:
            return
        known = None if target[0] & 1 else self._learned.get(target)
        for cable in [known] if known else self.cables:
            if cable is not source and not cable.cut and len(self._waiting) < _MOST_WAITING:
                self._count += 1
                due_s = now_s + source.delay_s + cable.delay_s
                heapq.heappush(self._waiting, (due_s, self._count, cable, frame))

    def due(self, now_s: float) -> list[tuple[Cable, bytes]]:
        """Frames to deliver now. What was under way when its cable was cut is lost."""
        found = []
        while self._waiting and self._waiting[0][0] <= now_s:
            _, _, cable, frame = heapq.heappop(self._waiting)
            if not cable.cut:
                found.append((cable, frame))
        return found

    def next_s(self) -> float | None:
        """When the next frame is due."""
        return self._waiting[0][0] if self._waiting else None

    def obey(self, line: str) -> None:
        """`cut DEVICE`, `slow DEVICE SECONDS` or `heal DEVICE`."""
        what, device, *more = line.split()
        cable = next(one for one in self.cables if one.device == device)
        cable.cut = what == "cut"
        cable.delay_s = float(more[0]) if what == "slow" else 0.0


def _opened(device: str) -> Cable:
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH14x", device.encode(), _TAP_WITHOUT_HEADER))
    return Cable(device, fd)


def _deliver(cable: Cable, frame: bytes) -> None:
    try:
        os.write(cable.fd, frame)
    except OSError:
        return  # the device is down, or its queue is full: a network loses frames


def main() -> None:
    switch = Switch([_opened(device) for device in sys.argv[1:]])
    selector = selectors.DefaultSelector()
    for cable in switch.cables:
        selector.register(cable.fd, selectors.EVENT_READ, cable)
    selector.register(sys.stdin.fileno(), selectors.EVENT_READ)
    print("ready", flush=True)
    while True:
        next_s = switch.next_s()
        for key, _ in selector.select(None if next_s is None else max(0.0, next_s - time.monotonic())):
            if key.data is None:
                line = sys.stdin.readline()
                if not line:
                    return
                switch.obey(line)
                print("done", flush=True)
                continue
            try:
                switch.take(key.data, os.read(key.data.fd, _MOST_FRAME), time.monotonic())
            except OSError:
                continue  # the device is not up yet
        for cable, frame in switch.due(time.monotonic()):
            _deliver(cable, frame)


if __name__ == "__main__":
    main()
