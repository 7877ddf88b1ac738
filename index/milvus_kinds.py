"""What is done for one kind of Milvus and not for another."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from index.places import former_named
from proto.errors import Broken

log = logging.getLogger("watchword.index")


class Former:
    """Tells of collections of an earlier version, once."""

    def __init__(self) -> None:
        self._told = False

    def tell(self, names: Sequence[str], endpoint: str) -> None:
        """These are all collections that there are."""
        former = sorted(filter(former_named, names))
        if former and not self._told:
            log.warning(
                "%d collections at %s have the rows of an earlier version and are not read, such as %s: drop them",
                len(former),
                endpoint,
                former[0],
            )
        self._told = True


def index_for(version: tuple[int, int]) -> dict[str, Any]:
    """The index of vectors that a server of this version gets."""
    # Unless the index is FLAT, Milvus 2.3 searches rows outside the built index through an interim index, which returns
    # fewer hits than exist, even none, for a narrow filter. milvus-lite has no HNSW.
    if version >= (2, 6):
        return {"index_type": "HNSW", "params": {"M": 16, "efConstruction": 200}}
    return {"index_type": "FLAT", "params": {}}


def is_lite(endpoint: str) -> bool:
    """Whether it names a file for milvus-lite, not a server."""
    return not re.match(r"(https?|tcp)://|unix:", endpoint)


def check_lite(endpoint: str) -> None:
    """Broken unless milvus-lite can have its file there."""
    path = Path(endpoint)
    if path.suffix != ".db":
        raise Broken(
            f"{path} is not an address of Milvus",
            todo="give http://HOST:PORT, or a file that ends in .db for milvus-lite",
        )
    if not path.parent.is_dir():
        raise Broken(f"the folder of {path} is not there", todo="make it, or set another file for milvus-lite")
