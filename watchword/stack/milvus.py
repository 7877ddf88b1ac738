"""The configuration of the embedded Milvus: one small process, on loopback only."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from catalog.files import write_whole
from watchword.stack.ports import HOST, Port

INNER = ("rootCoord", "queryCoord", "queryNode", "indexNode", "dataCoord", "dataNode")


@dataclass(frozen=True)
class MilvusPorts:
    """Every port of the server. Clients use `proxy`; its own components use the others."""

    proxy: Port
    internal: Port = field(default_factory=Port)
    metrics: Port = field(default_factory=Port)
    inner: dict[str, Port] = field(default_factory=lambda: {name: Port() for name in INNER})

    def settle(self) -> None:
        for port in (self.proxy, self.internal, self.metrics, *self.inner.values()):
            port.settle()


def write_config(folder: Path, ports: MilvusPorts) -> dict[str, str]:
    """Write the configuration to `folder` and return the environment that makes Milvus use it.

    The files are JSON, which is valid YAML.
    """
    config = folder / "config"
    files = {
        "milvus.yaml": json.dumps(_milvus(folder, ports), indent=1),
        "etcd.yaml": json.dumps(_etcd(folder), indent=1),
        # The engine's log: warnings and errors, to standard error. Milvus exits when this file is missing.
        "glog.conf": "--logtostderr=true\n--minloglevel=1\n",
    }
    for name, text in files.items():
        write_whole(config / name, text.encode(), durable=False)
    return {
        "MILVUSCONF": str(config),
        "METRICS_PORT": str(ports.metrics.number),
        "DEPLOY_MODE": "STANDALONE",
    }


def _milvus(folder: Path, ports: MilvusPorts) -> dict[str, Any]:
    return {
        "etcd": {
            "use": {"embed": True},
            "data": {"dir": str(folder / "etcd")},
            "config": {"path": str(folder / "config" / "etcd.yaml")},
            "log": {"level": "warn", "path": "stdout"},
            "rootPath": "watchword",
        },
        "localStorage": {"path": str(folder / "files")},
        "mq": {"type": "rocksmq"},
        "rocksmq": {"path": str(folder / "rocksmq"), "lrucacheratio": 0.01, "retentionSizeInMB": 1024},
        "proxy": {
            "ip": HOST,
            "port": ports.proxy.number,
            "internalPort": ports.internal.number,
            "http": {"enabled": False},
        },
        **{name: {"ip": HOST, "port": port.number} for name, port in ports.inner.items()},
        "common": {
            "storageType": "local",
            # A start after a kill waits until the old server's lease has expired: 65 s at the default of 30. It checks
            # after 3 and 6 s, so a lease of 4 is found expired at 6. With a much shorter one a live server would lose
            # its lease when the machine stalls.
            "session": {"ttl": 4},
        },
        # Its components poll for each other; by default the pause doubles up to 10 s.
        "grpc": {"client": {"maxBackoff": 1, "maxMaxAttempts": 60}},
        "log": {"level": "warn", "stdout": True, "file": {"rootPath": ""}},
    }


def _etcd(folder: Path) -> dict[str, Any]:
    # Unix sockets in the data folder: no other user can reach them, and no port is used.
    client, peer = "unix://client.sock:0", "unix://peer.sock:0"
    return {
        "name": "default",
        "data-dir": str(folder / "etcd"),
        "listen-client-urls": client,
        "advertise-client-urls": client,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"default={peer}",
        # A single node: it need not wait for others before it leads.
        "heartbeat-interval": 50,
        "election-timeout": 250,
        "log-level": "warn",
        "log-outputs": ["stdout"],
    }
