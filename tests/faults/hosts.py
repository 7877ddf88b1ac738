"""Hosts of a test network: network namespaces of this machine, with servers on them. Needs root, and Linux.

Each has a name, an address and a folder of its own, and the network between them can be cut and slowed. What is
installed is the same for all, and they share the machine's processors, clock and disk.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tests.faults.cluster import Host
from tests.tools.apache_kafka import apache_kafka_part, cache_folder, jars
from tests.tools.postgres import Postgres
from tests.tools.s3 import S3
from tests.tools.servers import Server
from watchword.stack import binaries, ready
from watchword.stack.milvus import MilvusPorts, write_config
from watchword.stack.parts import Launch, Part
from watchword.stack.ports import Port

_WIRE = Path(__file__).with_name("wire.py")
_ENTER = """
hostname "$1"; shift
while [ "$1" != -- ]; do mount -t tmpfs nothing "$1"; shift; done
shift; exec "$@"
"""
"""With another name of the machine, processes cannot look whether those of other hosts run."""
_MTU = "9000"
_START_S = 600.0


class NoHostsHere(Exception):
    """This machine cannot have test hosts; the message says why."""


class Network:
    """Hosts, and this machine as another one, joined by a switch."""

    def __init__(self, wire: subprocess.Popen[str], hosts: dict[str, Host], devices: dict[str, str], own: str) -> None:
        self.hosts = hosts
        self.own_address = own
        """This machine's address in the network."""
        self._wire = wire
        self._devices = devices

    def cut(self, host: Host) -> None:
        """Nothing gets to it or from it."""
        self._tell("cut", host)

    def slow(self, host: Host, seconds: float) -> None:
        """Everything takes so long to it, and from it."""
        self._tell("slow", host, str(seconds))

    def heal(self, host: Host) -> None:
        self._tell("heal", host)

    def _tell(self, what: str, host: Host, *more: str) -> None:
        assert self._wire.stdin is not None
        assert self._wire.stdout is not None
        print(what, self._devices[host.name], *more, file=self._wire.stdin, flush=True)
        assert self._wire.stdout.readline() == "done\n", "the switch has ended"


@contextmanager
def network(*names: str, folder: Path) -> Iterator[Network]:
    """A network with these hosts. NoHostsHere when this machine cannot have one.

    A host has the folder of its name in `folder`, and those of the others are empty where it looks.
    """
    ip, unshare = shutil.which("ip"), shutil.which("unshare")
    if sys.platform != "linux" or os.geteuid() != 0 or not ip or not unshare or not Path("/dev/net/tun").exists():
        raise NoHostsHere("test hosts need Linux, root, the programs `ip` and `unshare`, and /dev/net/tun")
    homes = {name: folder.absolute() / name for name in names}
    for home in homes.values():
        home.mkdir(parents=True)
    mark = f"{random.randrange(16**4):04x}"
    net = f"10.{random.randrange(100, 250)}.{random.randrange(256)}"
    devices = {name: f"ww{mark}{number}" for number, name in enumerate(names)}
    own = f"ww{mark}own"
    wire = subprocess.Popen(
        [sys.executable, "-I", "-S", str(_WIRE), own, *devices.values()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    made: list[str] = []
    try:
        assert wire.stdout is not None
        if wire.stdout.readline() != "ready\n":
            raise NoHostsHere("this kernel makes no TAP devices")
        _run(ip, "addr", "add", f"{net}.254/24", "dev", own)
        _run(ip, "link", "set", own, "mtu", _MTU, "up")
        hosts = {}
        for number, (name, device) in enumerate(devices.items(), 1):
            space, address = f"{device}-{name}", f"{net}.{number}"
            _run(ip, "netns", "add", space)
            made.append(space)
            _run(ip, "link", "set", device, "netns", space)
            _run(ip, "-n", space, "link", "set", "lo", "up")
            _run(ip, "-n", space, "addr", "add", f"{address}/24", "dev", device)
            _run(ip, "-n", space, "link", "set", device, "mtu", _MTU, "up")
            others = [str(home) for other, home in homes.items() if other != name]
            enter = (ip, "netns", "exec", space, unshare, "--uts", "sh", "-ec", _ENTER, "sh", name, *others, "--")
            hosts[name] = Host(name, address, enter)
        yield Network(wire, hosts, devices, f"{net}.254")
    finally:
        for space in made:
            subprocess.run([ip, "netns", "del", space], check=False)
        wire.kill()
        wire.communicate()


def kafka_on(host: Host, folder: Path) -> Server:
    """Apache Kafka on a host, not yet started."""
    part = apache_kafka_part(Port(host=host.address), folder / "kafka", jars())
    return Server(_there(part, host), folder / "kafka.log")


def milvus_on(host: Host, folder: Path) -> Server:
    """Milvus on a host, not yet started."""
    ports = MilvusPorts(proxy=Port(host=host.address))
    data = folder / f"milvus-{host.name}"

    def plan() -> Launch:
        program = binaries.milvus(cache_folder().parent, print)
        data.mkdir(parents=True, exist_ok=True)
        ports.settle()
        environment = write_config(data, ports)
        return Launch(
            (str(program), "run", "standalone"), data, {**environment, "LD_LIBRARY_PATH": str(program.parent)}
        )

    def address() -> str:
        return f"http://{ports.proxy.address}"

    part = Part(f"Milvus on {host.name}", address, lambda: ready.milvus(address()), plan, deadline_s=180)
    return Server(_there(part, host), folder / f"milvus-{host.name}.log")


def redis_on(host: Host, folder: Path) -> Server:
    """Redis on a host, not yet started."""
    port = Port(host=host.address)
    words = ("--bind", host.address, "--protected-mode", "no", "--save", "", "--appendonly", "no")

    def plan() -> Launch:
        return Launch((str(binaries.redis_server()), "--port", str(port.settle()), *words), folder)

    def address() -> str:
        return f"redis://{port.address}/0"

    part = Part("Redis", address, lambda: ready.redis(address()), plan)
    return Server(_there(part, host), folder / "redis.log")


def postgres_on(host: Host) -> Postgres:
    """PostgreSQL on a host, not yet started. Its data is where its own user may read it."""
    return Postgres(host=host.address, enter=host.enter)


def s3_on(host: Host, folder: Path) -> S3:
    """A server that speaks S3 on a host, not yet started."""
    (folder / "s3").mkdir(parents=True)
    return S3(folder / "s3", host=host.address, enter=host.enter)


def _there(part: Part, host: Host) -> Part:
    """The part, started on the host."""
    plan = part.plan
    assert plan is not None

    def there() -> Launch:
        launch = plan()
        return replace(launch, argv=(*host.enter, *launch.argv))

    # Several servers start at once on the processors of one machine.
    return replace(part, plan=there, deadline_s=_START_S)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NoHostsHere(f"{' '.join(command[1:])}: {done.stderr.strip()}")
