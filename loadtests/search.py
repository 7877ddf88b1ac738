"""Search latency, as a client sees it.

    python -m loadtests.search [--data-dir FOLDER] [--calls 50]

Queries a running stack, one call after another, in two arms that take turns: new words, which must be embedded, and
known words, whose vector is in the cache.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
import uuid

import numpy as np

from proto.errors import WatchwordError
from query.client import QueryClient
from watchword.settings import read_settings
from watchword.stack import query_address


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir")
    parser.add_argument("--calls", type=int, default=50)
    arguments = parser.parse_args()
    settings = read_settings({"data_dir": arguments.data_dir} if arguments.data_dir else {})
    taken: dict[str, list[float]] = {"new words": [], "known words": []}
    hits = 0
    async with QueryClient(query_address(settings), settings.query.timeout_s) as client:
        await client.search(text="a person riding a bicycle")
        for _ in range(arguments.calls):
            for arm, words in (
                ("new words", f"a person riding a bicycle {uuid.uuid4().hex[:8]}"),
                ("known words", "a person riding a bicycle"),
            ):
                begun = time.perf_counter()
                reply = await client.search(text=words)
                taken[arm].append((time.perf_counter() - begun) * 1000)
                hits += len(reply.hits)
    for arm, times in taken.items():
        p50, p99 = np.percentile(times, [50, 99])
        print(f"{arm:12} {len(times)} calls: p50 {p50:.1f} ms, p99 {p99:.1f} ms")
    return 0 if hits else 1


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(main()))
    except WatchwordError as error:
        sys.exit(str(error))
