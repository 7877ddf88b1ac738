"""Drills: hurt a running pipeline, let it come to rest, and balance the ledger.

    python -m tests.faults.drills NAME [--full]     one of them, or `all`

The short forms are tests; the full ones are what a release must show. Exits with 1 when a ledger does not balance.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults import deaths, erasures, outages, partitions, records, upgrades
from tests.faults.cluster import NotTogether
from tests.faults.hosts import NoHostsHere
from tests.faults.house import Outcome, apache_house
from tests.tools.postgres import NoPostgresHere
from tests.tools.versitygw import NoS3Here

SOME_FRAMES = 40


@dataclass(frozen=True)
class Scenario:
    """A drill and how hard it is run."""

    run: Callable[..., Awaitable[Outcome]]
    short: dict[str, Any] = field(default_factory=dict)
    full: dict[str, Any] = field(default_factory=dict)


SCENARIOS = {
    "calm": Scenario(records.calm, {"frames": SOME_FRAMES}, {"frames": 2400}),
    "kill_at_random": Scenario(deaths.kill_at_random, {"kills": 3, "longest_s": 4.0}, {"kills": 50, "longest_s": 8.0}),
    "between_upsert_and_commit": Scenario(deaths.between_upsert_and_commit, {"times": 1}, {"times": 20}),
    "fresh_partition": Scenario(
        deaths.fresh_partition, {"frames": SOME_FRAMES, "kills": 1}, {"frames": 400, "kills": 10}
    ),
    "encoder_raises": Scenario(
        outages.encoder_raises, {"every": 5, "frames": SOME_FRAMES}, {"every": 5, "frames": 1200}
    ),
    "rebalance_storm": Scenario(deaths.rebalance_storm, {"seconds": 9}, {"seconds": 120}),
    "broker_stopped": Scenario(outages.broker_stopped, {"seconds": 4}, {"seconds": 60}),
    "broker_stopped_worker_killed": Scenario(
        outages.broker_stopped, {"seconds": 4, "then_kill": True}, {"seconds": 60, "then_kill": True}
    ),
    "milvus_stopped": Scenario(outages.milvus_stopped, {"seconds": 4}, {"seconds": 60}),
    "milvus_stopped_at_start": Scenario(outages.milvus_stopped_at_start, {"seconds": 2}, {"seconds": 60}),
    "one_milvus_stopped": Scenario(outages.one_milvus_stopped, {"seconds": 10}, {"seconds": 60}),
    "worker_frozen": Scenario(deaths.worker_frozen, {"times": 1, "seconds": 2}, {"times": 10, "seconds": 14}),
    "static_worker_frozen": Scenario(
        deaths.worker_frozen,
        {"times": 1, "seconds": 2, "static": True},
        {"times": 10, "seconds": 14, "static": True},
    ),
    "rolling_restart": Scenario(
        deaths.rolling_restart, {"rounds": 1, "workers": 2, "partitions": 16, "cameras": 20}, {"rounds": 3}
    ),
    "replayed": Scenario(records.replayed, {"times": 1, "frames": SOME_FRAMES}, {"times": 3, "frames": 1200}),
    "erased": Scenario(erasures.erased, {"frames": SOME_FRAMES}, {"frames": 1200}),
    "poison": Scenario(records.poison, {"every": 10, "frames": SOME_FRAMES}, {"every": 100, "frames": 2400}),
    "oversize": Scenario(records.oversize, {"frames": 12}, {"frames": 600}),
    "camera_clocks_step": Scenario(
        records.camera_clocks_step, {"seconds": 8, "kills": 1}, {"seconds": 180, "kills": 10}
    ),
    "worker_clock_steps": Scenario(
        records.worker_clock_steps, {"seconds": 16, "kills": 1}, {"seconds": 180, "kills": 10}
    ),
    "worker_clock_steps_fresh": Scenario(
        records.worker_clock_steps,
        {"seconds": 16, "kills": 1, "catch_up": "fresh"},
        {"seconds": 180, "kills": 10, "catch_up": "fresh"},
    ),
    "overloaded": Scenario(records.overloaded, {"seconds": 12, "kills": 1}, {"seconds": 180, "kills": 10}),
    "expired": Scenario(records.expired, {"times": 1, "frames": SOME_FRAMES}, {"times": 10, "frames": 200}),
    "expired_before_any_worker": Scenario(
        records.expired,
        {"times": 1, "frames": SOME_FRAMES, "ever_read": False},
        {"times": 10, "frames": 200, "ever_read": False},
    ),
}
CLUSTER_SCENARIOS = {
    "upgrade": Scenario(upgrades.upgrade, {"settle_s": 2.0, "each": 1}, {"settle_s": 8.0}),
}
"""Drills of all processes at once. They take minutes, so they are no tests."""

HOST_SCENARIOS = {"three_hosts": Scenario(partitions.three_hosts, {"seconds": 25.0}, {"seconds": 60.0})}
"""Drills on hosts of a test network, with servers of their own. They need root."""


async def _main(names: list[str], full: bool, folder: Path, more: dict[str, Any]) -> int:
    bad = []
    house = apache_house(folder)
    try:
        if not HOST_SCENARIOS.keys() >= set(names):
            await house.start()
        for name in names:
            scenario = (SCENARIOS | CLUSTER_SCENARIOS | HOST_SCENARIOS)[name]
            intensity = (scenario.full if full else scenario.short) | more
            print(f"== {name} {intensity}", flush=True)
            outcome = await scenario.run(folder if name in HOST_SCENARIOS else house, **intensity)
            print(outcome, flush=True)
            if not outcome.good:
                bad.append(name)
    finally:
        house.end()
    print(f"not balanced: {', '.join(bad)}" if bad else "every ledger balances")
    return 1 if bad else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=["all", *SCENARIOS, *CLUSTER_SCENARIOS, *HOST_SCENARIOS])
    parser.add_argument("--full", action="store_true", help="as hard as a release must stand")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep logs and data there")
    parser.add_argument("--from", dest="commit", help="for `upgrade`: the commit to upgrade from, and back to (HEAD~1)")
    arguments = parser.parse_args()
    # The brokers' clients tell every failed connection; here connections are meant to fail.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    names = list(SCENARIOS) if arguments.name == "all" else [arguments.name]
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        more = {"commit": arguments.commit} if arguments.commit else {}
        try:
            return asyncio.run(_main(names, arguments.full, folder, more))
        except (NotTogether, NoHostsHere, NoPostgresHere, NoS3Here) as reason:
            print(f"this drill cannot be run: {reason}", file=sys.stderr)
            return 2


if __name__ == "__main__":
    sys.exit(main())
