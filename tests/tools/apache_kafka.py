"""A real Apache Kafka: one node, KRaft, on this machine only. Needs Java 17 or later, and Maven for the first time."""

from __future__ import annotations

import base64
import os
import re
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from watchword.stack import ready
from watchword.stack.parts import Launch, Part
from watchword.stack.ports import Port

VERSION = "4.1.1"
OLDEST_JAVA = 17
_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies"
_FETCH_S = 300
_POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>watchword.tests</groupId><artifactId>kafka</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId><version>2.24.3</version>
    </dependency>
  </dependencies>
</project>
"""
_LOGGING = """status = error
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{ISO8601} %p %c: %m%n
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
"""


class NoKafkaHere(Exception):
    """This machine cannot run Apache Kafka; the message says what is missing."""


def cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "watchword" / f"kafka-{VERSION}"


def java() -> str:
    """The path of a Java that is new enough."""
    program = shutil.which("java")
    if program is None:
        raise NoKafkaHere("java is not installed")
    told = subprocess.run([program, "-version"], capture_output=True, text=True, check=False).stderr
    version = re.search(r'version "(\d+)', told)
    if version is None or int(version[1]) < OLDEST_JAVA:
        raise NoKafkaHere(f"java is older than {OLDEST_JAVA}")
    return program


def jars(folder: Path | None = None, say: Callable[[str], None] = print) -> Path:
    """The folder with the server's jars, fetched once through Maven; whole or not there at all."""
    folder = folder or cache_folder()
    if folder.exists():
        return folder
    maven = shutil.which("mvn")
    if maven is None:
        raise NoKafkaHere("mvn is not installed")
    say(f"fetching Apache Kafka {VERSION} through Maven (once; 43 MB)")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".kafka-") as scratch:
        fetched = Path(scratch, "jars")
        Path(scratch, "pom.xml").write_text(_POM)
        command = [maven, "-B", "-q", _COPY, f"-DoutputDirectory={fetched}", "-DincludeScope=runtime"]
        # What Maven already has needs no network.
        if any(_succeeds([*command, *offline], Path(scratch)) for offline in (["-o"], [])):
            try:
                fetched.rename(folder)
            except OSError:
                if not folder.exists():  # somebody else was first
                    raise
            return folder
    raise NoKafkaHere("Maven cannot fetch it (no network?)")


def apache_kafka_part(port: Port, folder: Path, jars: Path, *, heap_mb: int = 256) -> Part:
    """The server; everything it keeps lies in `folder`, and it finds it again at the next start."""
    controller = Port(host=port.host)
    runtime = java()

    def plan() -> Launch:
        folder.mkdir(parents=True, exist_ok=True)
        config = folder / "server.properties"
        port.settle()
        controller.settle()
        config.write_text(_configuration(port, controller, folder / "log"))
        logging = folder / "log4j2.properties"
        logging.write_text(_LOGGING)
        jvm: tuple[str, ...] = (
            runtime,
            f"-Xmx{heap_mb}m",
            "-Xms64m",
            "-XX:+UseSerialGC",
            f"-Dlog4j2.configurationFile={logging}",
        )
        jvm += ("-cp", f"{jars}/*")
        if not (folder / "log" / "meta.properties").exists():
            # Never a leading dash, which would read as an option.
            cluster = base64.urlsafe_b64encode(b"\0" + secrets.token_bytes(15)).decode().rstrip("=")
            command = [*jvm, "kafka.tools.StorageTool", "format", "--cluster-id", cluster, "--config", str(config)]
            formatted = subprocess.run(command, capture_output=True, text=True, check=False)
            assert formatted.returncode == 0, f"Apache Kafka's storage cannot be made:\n{formatted.stderr}"
        return Launch(argv=(*jvm, "kafka.Kafka", str(config)), cwd=folder)

    return Part(
        "Apache Kafka", lambda: port.address, lambda: ready.broker(port.address), plan, deadline_s=180, grace_s=20
    )


def _configuration(port: Port, controller: Port, data: Path) -> str:
    settings = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "listeners": f"PLAINTEXT://{port.listen},CONTROLLER://{controller.listen}",
        "advertised.listeners": f"PLAINTEXT://{port.listen}",
        "controller.listener.names": "CONTROLLER",
        "controller.quorum.voters": f"1@{controller.listen}",
        "log.dirs": str(data),
        "auto.create.topics.enable": "false",
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        # A group of one or two members, so that nobody is waited for.
        "group.initial.rebalance.delay.ms": "0",
        # A broker that was killed is forgotten soon, so that its next start is not kept waiting.
        "broker.heartbeat.interval.ms": "500",
        "broker.session.timeout.ms": "2000",
        # Drills let a killed worker lose its partitions sooner than the default of 6 s allows.
        "group.min.session.timeout.ms": "1000",
        # Small buffers for a small heap.
        "log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024),
        "log.cleaner.threads": "1",
        "num.network.threads": "2",
        "num.io.threads": "2",
    }
    return "".join(f"{name}={value}\n" for name, value in settings.items())


def _succeeds(command: list[str], folder: Path) -> bool:
    try:
        ran = subprocess.run(command, cwd=folder, capture_output=True, timeout=_FETCH_S, check=False)
    except subprocess.TimeoutExpired:
        return False
    return ran.returncode == 0
