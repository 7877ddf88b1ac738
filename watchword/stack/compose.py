"""Composes the stack: parts with an address in the settings are used, the others are started."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from gateway.settings import GatewaySettings
from proto.errors import Invalid
from proto.section import Section
from query.settings import QuerySettings
from watchword.settings import PREFIX, Settings
from watchword.stack import ready
from watchword.stack.binaries import Say
from watchword.stack.parts import Launch, Part, broker_part, milvus_part, redis_part
from watchword.stack.ports import Port
from watchword.stack.state import Addresses
from workers.settings import EncoderSettings

OPS_PORT = 8710
OWN_SHARD = "embedded"
"""The name of the stack's own Milvus among the shards."""
OPS_PROCESSES = ("worker", "stream", "camera", "query", "gateway", "former")
PROCESS_GRACE_S = 5.0
"""Our own processes finish their work within four seconds."""
EMBEDDED_SESSION_S = 6.0
"""With the embedded broker a new group member waits for half of it."""
WORKER_DEADLINE_S = 180.0
"""The first start of an encoder worker assembles the built-in bundle."""
_ONE_BLAS_THREAD = {"OPENBLAS_NUM_THREADS": "1"}
"""numpy's products are small here. On a machine that the encoder keeps busy, a second thread makes judging the hits of
an answer cost ten times as much processor time: it spins until it is given a core."""


@dataclass(frozen=True)
class _Ports:
    broker: Port
    milvus: Port
    redis: Port
    encoder: Port
    former: Port
    query: Port
    gateway: Port
    ops: Mapping[str, Port]


class Stack:
    """The parts that the settings ask for, and their addresses once they run."""

    def __init__(self, settings: Settings, say: Say) -> None:
        _check_tls(settings)
        self._settings = settings
        self._say = say
        first_ops = settings.ops.port or OPS_PORT
        self._ports = _Ports(
            broker=Port(9092),
            milvus=Port(19530),
            redis=Port(6379),
            encoder=_listening(settings.encoder, "encoder.listen", needed=not settings.encoder.address),
            former=Port(8704),
            query=_listening(settings.query, "query.listen"),
            gateway=_listening(settings.gateway, "gateway.listen"),
            ops={
                name: Port(first_ops + place, host=settings.ops.host)
                for place, name in enumerate([*OPS_PROCESSES, *camera_parts(settings)[1:]])
            },
        )

    def addresses(self) -> Addresses:
        """The current addresses. An embedded part's port is known once it was started."""
        given, ports = self._settings, self._ports
        ops = dict(ports.ops)
        if given.encoder.address:
            del ops["worker"]
        if not self._runs_former:
            del ops["former"]
        return Addresses(
            broker=given.kafka.brokers or ports.broker.address,
            milvus=given.milvus.endpoints or (f"http://{ports.milvus.address}",),
            redis=given.redis.url.get_secret_value() or f"redis://{ports.redis.address}/0",
            encoder=given.encoder.address or ports.encoder.address,
            query=ports.query.address,
            gateway=ports.gateway.address,
            ops={name: port.address for name, port in ops.items()},
        )

    @property
    def _runs_former(self) -> bool:
        """Whether it has a worker for the bundle before."""
        return bool(self._settings.encoder.former_bundle and not self._settings.encoder.former_address)

    def parts(self) -> list[Part]:
        """Every part, with dependencies first."""
        return [
            self._broker(),
            self._milvus(),
            self._redis(),
            self._worker(),
            *([self._process("former")] if self._runs_former else []),
            self._process("stream", "broker", "milvus", "worker"),
            *(self._process(name, "broker", "worker") for name in camera_parts(self._settings)),
            self._process("query", "milvus", "redis", "worker"),
            self._process("gateway", "query"),
        ]

    def _broker(self) -> Part:
        if given := self._settings.kafka.brokers:
            return Part("broker", lambda: given, lambda: ready.broker(given))
        return broker_part(self._ports.broker, self._settings.data_dir)

    def _milvus(self) -> Part:
        settings = self._settings.milvus
        if settings.endpoints:
            return Part("milvus", lambda: ", ".join(settings.endpoints), lambda: ready.shards(settings))
        return milvus_part(self._ports.milvus, self._settings.data_dir / "milvus", self._settings.cache_dir, self._say)

    def _redis(self) -> Part:
        if given := self._settings.redis.url.get_secret_value():
            return Part("redis", lambda: given, lambda: ready.redis(given))
        return redis_part(self._ports.redis, self._settings.data_dir / "redis")

    def _worker(self) -> Part:
        if given := self._settings.encoder.address:
            return Part("worker", lambda: given, lambda: ready.encoders(given, self._settings.encoder))
        return self._process("worker")

    def _process(self, name: str, *needs: str) -> Part:
        """One of our own processes: `watchword run NAME`, with its settings in the environment. Of several camera
        processes each has a name of its own here."""
        ports = self._ports
        tls = self._settings.query if name == "query" else self._settings.encoder
        serving = {"worker": ports.encoder, "former": ports.former, "query": ports.query, "gateway": ports.gateway}.get(
            name
        )

        program = "worker" if name == "former" else name.partition("-")[0]

        def plan() -> Launch:
            ports.ops[name].settle()
            if serving is not None:
                serving.settle()
            return Launch(
                argv=(sys.executable, "-m", "watchword", "run", program),
                cwd=Path.cwd(),
                env=self._environment(name),
            )

        async def asked() -> None:
            if serving is not None and name != "gateway":
                await ready.health(serving.address, tls)
            else:
                await ready.page(ports.ops[name].address)

        return Part(
            name,
            lambda: (serving or ports.ops[name]).address,
            asked,
            plan,
            needs=needs,
            deadline_s=WORKER_DEADLINE_S if name in ("worker", "former") else 60.0,
            grace_s=PROCESS_GRACE_S,
        )

    def _environment(self, name: str) -> dict[str, str]:
        """The effective settings as environment variables, with every address filled in."""
        at = self.addresses()
        told: dict[str, Any] = dict(_leaves(self._settings))
        told |= {
            "DATA_DIR": self._settings.data_dir.absolute(),
            "CACHE_DIR": self._settings.cache_dir.absolute(),
            "KAFKA__BROKERS": at.broker,
            # By name: its own Milvus may have another port at each start.
            "MILVUS__ENDPOINTS": self._settings.milvus.endpoints or tuple(f"{OWN_SHARD}={one}" for one in at.milvus),
            "REDIS__URL": at.redis,
            "ENCODER__ADDRESS": at.encoder,
            "ENCODER__LISTEN": self._ports.encoder.listen,
            "QUERY__ADDRESS": at.query,
            "QUERY__LISTEN": self._ports.query.listen,
            "GATEWAY__LISTEN": self._ports.gateway.listen,
            "OPS__PORT": self._ports.ops[name].number,
        }
        if self._runs_former:
            told["ENCODER__FORMER_ADDRESS"] = self._ports.former.address
        if name == "former":
            told |= {
                "ENCODER__BUNDLE": self._settings.encoder.former_bundle,
                "ENCODER__LISTEN": self._ports.former.listen,
            }
        if not self._settings.kafka.brokers and "session_s" not in self._settings.kafka.model_fields_set:
            told["KAFKA__SESSION_S"] = EMBEDDED_SESSION_S
        return {**_ONE_BLAS_THREAD, **{f"{PREFIX}{key}": _written(value) for key, value in told.items()}}


def camera_parts(settings: Settings) -> list[str]:
    """The names of the camera processes: camera, camera-2, …"""
    return ["camera", *(f"camera-{number}" for number in range(2, settings.camera.processes + 1))]


def _check_tls(settings: Settings) -> None:
    """Raise Invalid when a server would have TLS and the stack's own clients could not call it."""
    servers: dict[str, QuerySettings | EncoderSettings] = {"query": settings.query, "encoder": settings.encoder}
    for name, section in servers.items():
        if section.certificate and not section.ca:
            raise Invalid(
                f"{name}.certificate is set, and {name}.ca is not: the processes of this stack could not call it",
                todo=f"set {name}.ca to the PEM file of the root that signed it, or to system",
            )


def _leaves(section: Section | Settings, above: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key in type(section).model_fields:
        value = getattr(section, key)
        name = f"{above}{key.upper()}"
        found += _leaves(value, f"{name}__") if isinstance(value, Section) else [(name, value)]
    return found


def _written(value: Any) -> str:
    match value:
        case SecretStr():
            return value.get_secret_value()
        case tuple() | list():
            return json.dumps(list(value))
        case bool():
            return str(value).lower()
        case _:
            return str(value)


def _listening(section: EncoderSettings | QuerySettings | GatewaySettings, what: str, *, needed: bool = True) -> Port:
    """A server's port. One named in the settings is fixed; if taken, it is refused before anything is started."""
    host, _, number = section.listen.rpartition(":")
    fixed = "listen" in section.model_fields_set
    port = Port(int(number), fixed=fixed, what=what, host=host)
    if fixed and needed:
        port.settle()
    return port
