"""Silence is told apart from an answer that says no."""

from __future__ import annotations

import socket

import pytest

from proto.errors import Transient
from proto.serving import GrpcServer
from watchword.ops import ops_endpoint
from watchword.settings import OpsSettings
from watchword.stack import ready
from watchword.stack.ready import NotServing
from watchword.stage import no_cameras


async def test_a_service_that_says_it_does_not_serve_has_answered() -> None:
    server = GrpcServer("the service", "watchword.v1.Query", most_calls=1)
    await server.start("127.0.0.1:0")
    with pytest.raises(NotServing, match="is there but does not serve now"):
        await ready.health(server.address)
    server.set_ready(True)
    await ready.health(server.address)
    await server.stop(0)


async def test_a_process_that_says_what_it_waits_for_has_answered() -> None:
    async with ops_endpoint(OpsSettings(), lambda: "waits for its partitions", no_cameras) as address:
        with pytest.raises(NotServing, match="waits for its partitions"):
            await ready.page(address)


@pytest.mark.parametrize("ask", [ready.health, ready.page], ids=["health", "page"])
async def test_a_connection_that_is_refused_is_silence(ask: ready.Ask) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        address = f"127.0.0.1:{gone.getsockname()[1]}"
    with pytest.raises(Transient, match=address) as silence:
        await ask(address)
    assert not isinstance(silence.value, NotServing)
