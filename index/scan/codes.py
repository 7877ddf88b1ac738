"""Vectors as 4-bit product codes, and the scan of them: the one module that knows faiss.

One inverted list that holds everything: of faiss' fast scans only those of lists take a selection of rows.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from index.scan.trouble import Unusable
from proto.errors import Broken
from proto.types import Vector, Vectors

# It tells of each processor's instructions that it tries.
logging.getLogger("faiss.loader").setLevel(logging.WARNING)

try:
    import faiss as _faiss
except ImportError:  # an extra: whoever keeps moments in Milvus needs none of it
    _faiss = None  # type: ignore[assignment]

faiss: Any = _faiss
"""Its own types lack what it adds in Python."""

_BITS = 4
_EACH = 2
"""Numbers of a vector that become one code. With four, a tenth of the right answers to questions in words is lost."""
_MOST_ROUNDS = 12
SAMPLE = 16_384
"""So many vectors the codes are learned from."""


def check_installed() -> None:
    """Raise Broken when faiss is not there."""
    if faiss is None:
        raise Broken("faiss is not installed", todo="pip install 'watchword[faiss]', or name a Milvus")


class Codes:
    """Codes of vectors, numbered in the order in which they were added."""

    def __init__(self, index: Any) -> None:
        self._index = index

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @classmethod
    def learned(cls, sample: Vectors) -> Codes:
        """Empty ones, for vectors like these."""
        faiss.omp_set_num_threads(1)
        dimension = sample.shape[1]
        index = faiss.IndexIVFPQFastScan(
            faiss.IndexFlatIP(dimension),
            dimension,
            1,
            dimension // _EACH if dimension % _EACH == 0 else dimension,
            _BITS,
            faiss.METRIC_INNER_PRODUCT,
        )
        index.by_residual = False
        index.pq.cp.niter = _MOST_ROUNDS
        index.pq.cp.min_points_per_centroid = 1  # whether few are enough is seen when the codes are checked
        index.train(np.ascontiguousarray(sample))
        return cls(index)

    def add(self, vectors: Vectors) -> None:
        """Add the codes of these."""
        faiss.omp_set_num_threads(1)
        self._index.add(np.ascontiguousarray(vectors))

    def nearest(self, question: Vector, count: int, among: NDArray[np.bool_] | None) -> NDArray[np.int64]:
        """About the `count` nearest vectors, of those marked in `among` (None: of all)."""
        faiss.omp_set_num_threads(1)  # counts for this thread only; buckets are searched side by side
        ask = np.ascontiguousarray(question[None], np.float32)
        try:
            found = self._scan(ask, count, among)
        except RuntimeError as error:
            raise Unusable(
                f"the codes cannot be scanned ({error})", todo="delete their folder: they are made anew"
            ) from error
        places: NDArray[np.int64] = found[0][found[0] >= 0]
        return places

    def _scan(self, ask: Vectors, count: int, among: NDArray[np.bool_] | None) -> Any:
        if among is None:
            _, found = self._index.search(ask, count)
        else:
            chosen = faiss.IDSelectorBitmap(np.packbits(among, bitorder="little"))
            _, found = self._index.search(ask, count, params=faiss.SearchParametersIVF(sel=chosen))
        return found

    def save(self, path: Path) -> None:
        """Write them to a file."""
        try:
            faiss.write_index(self._index, str(path))
        except RuntimeError as error:
            raise Unusable(f"codes could not be written to {path} ({error})", todo="free some disk") from error

    @classmethod
    def read(cls, path: Path) -> Codes:
        """Those of a file. Raises Unusable."""
        check_installed()
        try:
            index = faiss.read_index(str(path))
        except RuntimeError as error:
            raise Unusable(f"{path} has no codes ({error})", todo="they are made anew") from error
        if not isinstance(index, faiss.IndexIVFPQFastScan):
            raise Unusable(f"{path} has codes of another kind", todo="they are made anew")
        return cls(index)
