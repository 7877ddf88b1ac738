"""TLS over real sockets, with certificates made here."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest

from proto.calling import open_channel
from proto.errors import Broken, Invalid, Transient
from proto.serving import GrpcServer
from proto.tls import Certificate, ClientTls, ServerTls, server_context
from tests.tools.certificates import Root
from watchword.settings import read_settings
from watchword.stack.ready import health


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return Root(tmp_path)


@asynccontextmanager
async def serving(tls: ServerTls) -> AsyncIterator[str]:
    server = GrpcServer("the service", "watchword.v1.Query", most_calls=1)
    await server.start("127.0.0.1:0", tls)
    await server._set_health(ready=True)
    try:
        yield server.address
    finally:
        await server.stop(0)


async def answers(address: str, tls: ClientTls) -> bool:
    """Whether a client with these settings gets an answer."""
    async with open_channel(address, tls=tls) as channel:
        while (state := channel.get_state(try_to_connect=True)) is not grpc.ChannelConnectivity.READY:
            if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
                return False
            await channel.wait_for_state_change(state)
    try:
        # With TLS 1.3 a client without a certificate learns of its refusal only now.
        await health(address, tls)
    except Transient:
        return False
    return True


async def test_calls_are_encrypted_and_the_server_proves_its_name(root: Root, tmp_path: Path) -> None:
    certificate, key = root.sign("query.example.org")
    stranger = Root(tmp_path, "stranger")
    async with serving(ServerTls(certificate=certificate, key=key)) as address:
        assert await answers(address, ClientTls(ca=str(root.file)))
        assert await answers(address, ClientTls(ca=str(root.file), server_name="query.example.org"))
        refused = await asyncio.gather(
            answers(address, ClientTls(ca=str(root.file), server_name="other.example.org")),
            answers(address, ClientTls(ca=str(stranger.file))),
            answers(address, ClientTls()),
        )
        assert list(refused) == [False, False, False]


async def test_a_caller_without_a_certificate_of_the_root_is_refused(root: Root, tmp_path: Path) -> None:
    certificate, key = root.sign("encoder")
    own, own_key = root.sign("stream")
    theirs, their_key = Root(tmp_path, "stranger").sign("intruder")
    ca = str(root.file)
    async with serving(ServerTls(certificate=certificate, key=key, client_ca=ca)) as address:
        assert await answers(address, ClientTls(ca=ca, client_certificate=own, client_key=own_key))
        refused = await asyncio.gather(
            answers(address, ClientTls(ca=ca)),
            answers(address, ClientTls(ca=ca, client_certificate=theirs, client_key=their_key)),
        )
        assert list(refused) == [False, False]


async def test_new_connections_are_shown_a_new_certificate(root: Root, tmp_path: Path) -> None:
    certificate, key = root.sign("query", file="server")
    other = Root(tmp_path, "other")
    async with serving(ServerTls(certificate=certificate, key=key)) as address:
        assert await answers(address, ClientTls(ca=str(root.file)))
        other.sign("query", file="server")
        assert await answers(address, ClientTls(ca=str(other.file)))


async def shown(address: tuple[str, int], root: Root, own: tuple[str, str] | None = None) -> str | None:
    """The first name in the certificate that an HTTP server shows; None when there is no connection."""
    context = ssl.create_default_context(cafile=str(root.file))
    if own:
        context.load_cert_chain(*own)
    try:
        reader, writer = await asyncio.open_connection(*address, ssl=context)
        writer.write(b"x\n")
        said = await reader.readline()
        names = writer.get_extra_info("peercert")["subjectAltName"]
        writer.close()
    except (OSError, ssl.SSLError):
        return None
    return str(names[0][1]) if said else None


async def test_an_http_server_shows_new_files_and_asks_by_a_new_root(root: Root, tmp_path: Path) -> None:
    certificate, key = root.sign("old", file="server")
    client_ca = tmp_path / "client-ca.pem"
    client_ca.write_bytes(root.file.read_bytes())
    own = root.sign("caller")
    context = server_context(ServerTls(certificate=certificate, key=key, client_ca=str(client_ca)))

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        writer.close()

    async with await asyncio.start_server(echo, "127.0.0.1", 0, ssl=context) as server:
        address = server.sockets[0].getsockname()[:2]
        assert await shown(address, root, own) == "old"
        assert await shown(address, root) is None
        root.sign("new", file="server")
        assert await shown(address, root, own) == "new"
        client_ca.write_bytes(Root(tmp_path, "stranger").file.read_bytes())
        assert await shown(address, root, own) is None


def test_files_that_do_not_fit_leave_the_certificate_from_before(root: Root) -> None:
    names = root.sign("server")
    certificate = Certificate(ServerTls(certificate=names[0], key=names[1]))
    before = certificate.latest()
    other = root.sign("other")
    Path(names[1]).write_bytes(Path(other[1]).read_bytes())
    os.utime(names[1], ns=(1, 1))
    assert certificate.latest() is before
    Path(names[0]).write_bytes(Path(other[0]).read_bytes())
    os.utime(names[0], ns=(1, 1))
    assert certificate.latest() is not before
    Path(names[0]).unlink()
    assert certificate.latest().certificate == Path(other[0]).read_bytes()


def test_what_cannot_be_used_is_refused_with_what_to_do(root: Root, tmp_path: Path) -> None:
    certificate, key = root.sign("server")
    nonsense = tmp_path / "nonsense"
    nonsense.write_text("nonsense")
    with pytest.raises(Broken, match="cannot be read"):
        Certificate(ServerTls(certificate="/nowhere", key=key))
    with pytest.raises(Broken, match="no PEM file"):
        Certificate(ServerTls(certificate=str(nonsense), key=key))
    with pytest.raises(Broken, match="cannot be used for TLS"):
        Certificate(ServerTls(certificate=certificate, key=root.sign("other")[1]))
    for half in (
        {"query.certificate": "x"},
        {"gateway.key": "x"},
        {"encoder.client_ca": "x"},
        {"query.client_key": "x"},
    ):
        with pytest.raises(Invalid):
            read_settings(half)


def test_a_server_with_a_certificate_may_listen_elsewhere() -> None:
    with pytest.raises(Invalid, match="without TLS"):
        read_settings({"query.listen": "0.0.0.0:8700"})
    served = {"query.listen": "0.0.0.0:8700", "query.certificate": "c.pem", "query.key": "k.pem"}
    assert read_settings(served).query.key == "k.pem"
    said = {"query.listen": "0.0.0.0:8700", "access.open_to": "holders of a token, without TLS"}
    assert read_settings(said).access.open_to == "holders of a token, without TLS"
