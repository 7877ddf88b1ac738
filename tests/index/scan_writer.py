"""A process that stores moments in a folder and tells of each batch that was acknowledged. It forks its writers, since
starting Python for each kill takes a second.

    python -m tests.index.scan_writer FOLDER

Reads lines `WRITER ROUND` and answers with the process id of a new writer; lines `stored WRITER ROUND BATCH` follow.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from index.places import bucket_of
from index.scan.bucket import BucketRows
from index.scan.building import build
from index.scan.folders import make_folder
from index.scan.trouble import Missing
from proto.types import Moment
from tests.contracts.moments import NOON, SPACE, moment, region, unit

BATCH = 20
BUCKET = bucket_of(NOON, 24)


def folder_in(root: Path) -> Path:
    return root / SPACE.id / f"24h_{BUCKET.number}"


def batch(writer: str, turn: int, number: int) -> list[Moment]:
    """What a writer stores: each of its batches tells the moments of the one before again."""
    return [
        moment(
            f"cam-{writer}-{turn}",
            NOON + place,
            vector=unit(number * 1000 + place),
            frames=number + 1,
            regions=[region(number * 1000 + place, at_ms=NOON + place)],
        )
        for place in range(number, number + BATCH)
    ]


def stored(writer: str, turn: int, batches: int) -> dict[str, Moment]:
    """The moments after so many batches."""
    return {one.id: one for number in range(batches) for one in batch(writer, turn, number)}


def write(root: Path, writer: str, turn: int) -> None:
    """Store batches until killed. One writer also makes codes all the time."""
    rows: BucketRows | None = None
    parent = os.getppid()
    for number in range(100_000):
        if os.getppid() != parent:
            return
        while True:
            try:
                make_folder(folder_in(root), SPACE.dimension)
                rows = rows or BucketRows(folder_in(root), SPACE, 30.0)
                rows.store(batch(writer, turn, number))
                break
            except Missing:
                rows = None
        os.write(1, f"stored {writer} {turn} {number}\n".encode())
        if writer == "builder" and number % 3 == 2:
            build(folder_in(root), SPACE, root / "questions.npy", 30.0, NOON)


def orders() -> Iterator[tuple[str, int]]:
    for line in sys.stdin:
        writer, turn = line.split()
        yield writer, int(turn)


def main() -> None:
    root = Path(sys.argv[1])
    np.save(root / "questions.npy", np.stack([unit(n) for n in range(20)]))
    for writer, turn in orders():
        child = os.fork()
        if child == 0:
            try:
                write(root, writer, turn)
            finally:
                os._exit(1)
        os.write(1, f"began {child}\n".encode())


if __name__ == "__main__":
    main()
