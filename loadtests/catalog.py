"""Times of the catalog with many cameras: declaring gaps, keeping marks, and reading both for an answer.

    python -m loadtests.catalog [--cameras 10000] [--days 30]

The file holds one gap per camera and day before the first timed call. Prints the median of 20 calls.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from catalog.coverage import Coverage, Gap, Looked, Reason
from catalog.leases import Leases
from catalog.store import Catalog, sqlite_url
from proto.types import Camera
from query.coverage import AskedTime, told

BEGIN_MS = 1_767_225_600_000
DAY_MS, HOUR_MS = 86_400_000, 3_600_000
LOG = "a" * 32
CALLS = 20


def main() -> None:
    parser = argparse.ArgumentParser(description="The catalog with many cameras.")
    parser.add_argument("--cameras", type=int, default=10_000)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--folder", type=Path, default=None, help="where to make the file; default: a temporary folder")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
        catalog = Catalog(sqlite_url(Path(folder) / "catalog.db"))
        catalog.open()
        measure(catalog, chosen.cameras, chosen.days)
        catalog.close()


def measure(catalog: Catalog, cameras: int, days: int) -> None:
    coverage, leases = Coverage(catalog), Leases(catalog)
    for day in range(days):
        starts = ((number, BEGIN_MS + day * DAY_MS + number * DAY_MS // cameras) for number in range(cameras))
        coverage.declare(
            [Gap(f"cam-{number}", Reason.AWAY, at, at + 5000 * (1 + number % 50)) for number, at in starts]
        )
    print(f"{cameras:,} cameras, {cameras * days:,} gaps of {days} days")
    now_ms = BEGIN_MS + days * DAY_MS
    marks = [Looked(f"cam-{number}", now_ms - number, LOG, number % 64, number) for number in range(cameras)]
    known = [Camera(f"cam-{number}", f"rtsp://camera-{number}") for number in range(cameras)]
    middle = BEGIN_MS + days // 2 * DAY_MS
    shed = iter(range(10**9))

    def declare() -> None:
        first = next(shed)
        coverage.declare([Gap(f"cam-{one}", Reason.SHED, now_ms, now_ms, 8, LOG, 0, first, first) for one in range(16)])

    show("declare 16 gaps", declare)
    show("keep every camera's mark", lambda: coverage.looked(marks, {(LOG, part): (0, now_ms) for part in range(64)}))
    show("read every camera's mark", coverage.marks)
    show("read marks for an answer", coverage.looked_until)
    show("gaps of one hour", lambda: coverage.gaps(None, middle, middle + HOUR_MS))
    show("gaps of the last hour", lambda: coverage.gaps(None, now_ms - HOUR_MS, None))
    show("gaps of one camera", lambda: coverage.gaps(frozenset({"cam-7"}), None, None))
    show("gaps of all time", lambda: coverage.gaps(None, None, None))
    looked, asked = coverage.looked_until(), AskedTime(now_ms - HOUR_MS, None, now_ms)
    gaps = coverage.gaps(None, asked.start_ms, None)
    show("compute one answer", lambda: told(asked, known, looked, {}, gaps, 30_000))
    show("take a lease", lambda: leases.take("cam-7", "a", now_ms, 10_000))


def show(what: str, call: Callable[[], object]) -> None:
    took = []
    for _ in range(CALLS):
        begun = time.perf_counter()
        call()
        took.append(time.perf_counter() - begun)
    print(f"{what:<26} {statistics.median(took) * 1000:8.2f} ms   slowest {max(took) * 1000:8.2f} ms")


if __name__ == "__main__":
    main()
