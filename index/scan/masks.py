"""Which rows pass a filter, for many rows at once. Agrees with `Filter.passes`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from index.filters import Filter
from proto.life import Gone, Stretch

Mask = NDArray[np.bool_]
Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Names:
    """What the codes of cameras and of sets of kinds stand for. Codes count from 0."""

    cameras: Sequence[str] = ()
    kinds: Sequence[frozenset[str]] = ()

    def codes(self, cameras: Iterable[str]) -> list[int]:
        """The codes of those of the cameras that are known."""
        known = {name: code for code, name in enumerate(self.cameras)}
        return [known[name] for name in cameras if name in known]


@dataclass(frozen=True, slots=True)
class Columns:
    """What filters ask of rows, one entry a row."""

    camera: Numbers
    start_ms: Numbers
    end_ms: Numbers
    kinds: Numbers


def passing(rows: Columns, names: Names, which: Filter) -> Mask:
    """Which rows pass."""
    mask = np.ones(len(rows.camera), np.bool_)
    if not len(mask):
        return mask
    if which.cameras is not None:
        asked = np.fromiter((name in which.cameras for name in names.cameras), np.bool_, len(names.cameras))
        if not asked.all():
            mask &= asked[rows.camera]
    if which.ends_from is not None and which.ends_from > rows.end_ms.min():
        mask &= rows.end_ms >= which.ends_from
    if which.starts_from is not None and which.starts_from > rows.start_ms.min():
        mask &= rows.start_ms >= which.starts_from
    if which.starts_before is not None and which.starts_before <= rows.start_ms.max():
        mask &= rows.start_ms < which.starts_before
    if which.objects:
        asked = np.fromiter((which.objects <= kinds for kinds in names.kinds), np.bool_, len(names.kinds))
        mask &= asked[rows.kinds]
    if not which.without.nothing:
        mask &= ~_gone(rows, names, which.without)
    if which.only is not None:
        mask &= _gone(rows, names, which.only)
    return mask


def _gone(rows: Columns, names: Names, gone: Gone) -> Mask:
    """Which rows are gone."""
    found = _expired(rows, names, gone)
    of = _ByCamera(rows, names, [one.stretch.camera for one in gone.erased])
    for one in gone.erased:
        for places in of.rows(one.stretch.camera):
            inside = places[_touching(rows, places, one.stretch)]
            for spared in one.unless:
                inside = inside[~_touching(rows, inside, spared)]
            found[inside] = True
    return found


def _expired(rows: Columns, names: Names, gone: Gone) -> Mask:
    if gone.ceiling_ms <= rows.start_ms.min():
        return np.zeros(len(rows.camera), np.bool_)
    if gone.own:
        before = np.fromiter(map(gone.before_of, names.cameras), np.int64, len(names.cameras))
        found: Mask = rows.start_ms < before[rows.camera]
    else:
        found = rows.start_ms < gone.before_ms
    if gone.held and found.any():
        of = _ByCamera(rows, names, [one.camera for one in gone.held])
        for one in gone.held:
            for places in of.rows(one.camera):
                found[places[_touching(rows, places, one)]] = False
    return found


def _touching(rows: Columns, places: Numbers, stretch: Stretch) -> Mask:
    touching: Mask = (rows.end_ms[places] >= stretch.start_ms) & (rows.start_ms[places] < stretch.end_ms)
    return touching


class _ByCamera:
    """The rows of some cameras, so that thousands of times, each of one camera, do not each look at every row."""

    def __init__(self, rows: Columns, names: Names, cameras: Sequence[str]) -> None:
        self._rows: Mapping[str, list[Numbers]] = {}
        codes = sorted(set(names.codes(dict.fromkeys(cameras))))
        if not codes:
            return
        some = np.zeros(len(names.cameras), np.bool_)
        some[codes] = True
        places = np.flatnonzero(some[rows.camera])
        places = places[np.argsort(rows.camera[places], kind="stable")]
        first = np.searchsorted(rows.camera[places], codes, side="left")
        last = np.searchsorted(rows.camera[places], codes, side="right")
        found = defaultdict[str, list[Numbers]](list)
        for code, begin, end in zip(codes, first, last, strict=True):
            if begin < end:
                found[names.cameras[code]].append(places[begin:end])
        self._rows = found

    def rows(self, camera: str) -> list[Numbers]:
        """The places of the camera's rows: none, or one array."""
        return self._rows.get(camera, [])
