"""A real Prometheus beside a load test: on loopback, with its data in the test's folder. It ends with the test.

It runs the rules that are shipped, at the pace of deploy/compose/prometheus.yml, and scrapes each process by its
address, with the label `process` that Compose's file gives.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from proto.errors import Broken, Transient
from tests.tools.servers import Server
from watchword.stack.parts import Launch, Part
from watchword.stack.ports import Port

DEPLOY = Path(__file__).resolve().parents[1] / "deploy"
RULES = DEPLOY / "prometheus" / "watchword.rules.yml"
_ASK_S = 30.0


def configuration(targets: Mapping[str, str]) -> dict[str, Any]:
    """The shipped configuration, with these HOST:PORT by process in place of what Compose's names resolve to."""
    shipped: dict[str, Any] = yaml.safe_load((DEPLOY / "compose" / "prometheus.yml").read_text())
    (job,) = shipped["scrape_configs"]
    told = [{"targets": [address], "labels": {"process": process}} for process, address in sorted(targets.items())]
    return shipped | {
        "rule_files": [str(RULES)],
        "scrape_configs": [{"job_name": job["job_name"], "static_configs": told}],
    }


class Prometheus:
    """A running Prometheus."""

    def __init__(self, address: str, session: aiohttp.ClientSession) -> None:
        self._url = f"http://{address}"
        self._session = session

    async def series(self, query: str, end_s: float, length_s: float, step_s: float = 15.0) -> int:
        """How many series this query draws over a span of time. Series of nothing but NaN draw nothing.

        Raises Broken, with what Prometheus says, when the query is wrong.
        """
        return len(await self.lines(query, end_s, length_s, step_s))

    async def lines(
        self, query: str, end_s: float, length_s: float, step_s: float = 15.0
    ) -> list[tuple[dict[str, str], list[tuple[float, float]]]]:
        """The labels of each of these series, and its finite values with their times."""
        asked = {"query": query, "start": end_s - length_s, "end": end_s, "step": step_s}
        found = await self._ask("/api/v1/query_range", asked)
        every = (
            (one["metric"], [(at_s, float(value)) for at_s, value in one["values"] if math.isfinite(float(value))])
            for one in found["result"]
        )
        return [(labels, values) for labels, values in every if values]

    async def firing(self) -> set[str]:
        """The alerts that fire now."""
        found = await self._ask("/api/v1/alerts", {})
        return {one["labels"]["alertname"] for one in found["alerts"] if one["state"] == "firing"}

    async def _ask(self, path: str, asked: Mapping[str, Any]) -> Any:
        async with self._session.get(f"{self._url}{path}", params=dict(asked)) as reply:
            said = await reply.json()
        if said["status"] != "success":
            raise Broken(f"{asked}: {said['error']}", todo="correct the query")
        return said["data"]


@asynccontextmanager
async def prometheus(folder: Path, targets: Mapping[str, str]) -> AsyncIterator[Prometheus]:
    """One that scrapes these addresses inside the block."""
    program = shutil.which("prometheus")
    if program is None:
        raise Broken("prometheus is not installed", todo="apt-get install prometheus")
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "prometheus.yml"
    config.write_text(yaml.safe_dump(configuration(targets)))
    port = Port()

    def plan() -> Launch:
        options = {
            "config.file": config,
            "storage.tsdb.path": folder / "data",
            "web.listen-address": f"127.0.0.1:{port.settle()}",
            "log.level": "warn",
        }
        return Launch(argv=(program, *(f"--{name}={value}" for name, value in options.items())), cwd=folder)

    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_ASK_S)) as session:

        async def ready() -> None:
            try:
                async with session.get(f"http://{port.address}/-/ready") as reply:
                    if reply.status != 200:
                        raise Transient("not ready yet")
            except (aiohttp.ClientError, TimeoutError) as error:
                raise Transient(f"it does not answer ({error})") from error

        server = Server(Part("prometheus", lambda: port.address, ready, plan), folder / "prometheus.log")
        try:
            await server.start()
            yield Prometheus(port.address, session)
        finally:
            server.end()
