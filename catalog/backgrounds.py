"""Background samples: what the vectors of a camera's moments usually look like, so that a score can be judged.

They are sampled from what cameras saw. Nothing that people search has a part in them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from sqlalchemy import Row, delete, select

from catalog.store import Catalog
from catalog.tables import BACKGROUNDS
from proto.errors import Broken, Invalid
from proto.life import Gone
from proto.types import Vectors, start_of

MOST_SAMPLES = 32
"""Moments sampled of one camera."""
POOL_CAMERAS = 200
"""Cameras in the pool that stands for all of them."""
_NAMED_AT_ONCE = 500
_STORED = np.dtype("<f2")
"""Half the bytes; it moves a cosine by less than 0.001."""


@dataclass(frozen=True, slots=True, eq=False)
class Background:
    """A sample of one camera's moments."""

    camera: str
    view: int
    """`Frame.view` it was sampled under. A new view starts it anew."""
    samples: tuple[Vectors, ...]
    """Of each moment the vectors of its rows, the whole picture's first: (rows, dimension)."""
    moments: tuple[str, ...] = ()
    """The ids of these moments, in the same order; empty when they are not known."""


class Backgrounds:
    """The background of every camera, by space. Methods block; `put` is durable."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def put(self, space: str, background: Background) -> None:
        """Replace the camera's background. Raises Invalid when it cannot be one."""
        row = {"space": space, **_row(background)}
        with self._catalog.writing() as connection:
            self._catalog.put(connection, BACKGROUNDS, [row])

    def get(self, space: str, cameras: frozenset[str] | None = None) -> list[Background]:
        """Those of these cameras, by name; unknown ones are left out. None: the pool.

        The pool is at most POOL_CAMERAS, evenly chosen among all: the same ones until cameras come or go.
        """
        at = BACKGROUNDS.c
        rows: list[Row[Any]] = []
        with self._catalog.reading() as connection:
            if cameras is None:
                known = connection.scalars(select(at.camera).where(at.space == space).order_by(at.camera)).all()
                chosen = _evenly(known)
            else:
                chosen = sorted(cameras)
            for first in range(0, len(chosen), _NAMED_AT_ONCE):
                some = chosen[first : first + _NAMED_AT_ONCE]
                wanted = select(BACKGROUNDS).where(at.space == space, at.camera.in_(some)).order_by(at.camera)
                rows += connection.execute(wanted)
        return [_background(row) for row in rows]

    def forget_gone(self, gone: Gone, *, count_only: bool = False) -> int:
        """Remove the samples whose moments may be gone; how many they were."""
        at = BACKGROUNDS.c
        with self._catalog.reading() as connection:
            known = connection.execute(select(at.space, at.camera, at.moments)).all()
        removed = 0
        for space, camera, moments in known:
            names = json.loads(moments)
            going = {name for name in names if gone.may_be_of(camera, start_of(name))}
            # Of samples whose moments are not known nobody can say that they are of another time.
            unknown = not names and any(one.stretch.camera == camera for one in gone.erased)
            removed += len(going) + unknown
            if (going or unknown) and not count_only:
                self._drop(space, camera, going)
        return removed

    def _drop(self, space: str, camera: str, going: set[str]) -> None:
        at = BACKGROUNDS.c
        here = (at.space == space) & (at.camera == camera)
        with self._catalog.writing() as connection:
            row = connection.execute(select(BACKGROUNDS).where(here).with_for_update()).first()
            if row is None:
                return
            one = _background(row)
            kept = [(m, rows) for m, rows in zip(one.moments, one.samples, strict=False) if m not in going]
            left = Background(camera, one.view, tuple(rows for _, rows in kept), tuple(m for m, _ in kept))
            if left.moments:
                self._catalog.put(connection, BACKGROUNDS, [{"space": space, **_row(left)}])
            else:
                connection.execute(delete(BACKGROUNDS).where(here))

    def forget(self, space: str | None, camera: str) -> None:
        """Drop the camera's background, in every space when `space` is None."""
        at = BACKGROUNDS.c
        which = delete(BACKGROUNDS).where(at.camera == camera)
        with self._catalog.writing() as connection:
            connection.execute(which if space is None else which.where(at.space == space))


def _evenly(names: Iterable[str]) -> list[str]:
    ordered = list(names)
    most = min(len(ordered), POOL_CAMERAS)
    return [ordered[number * len(ordered) // most] for number in range(most)]


def _row(background: Background) -> dict[str, Any]:
    samples, moments = background.samples, background.moments
    if len(samples) > MOST_SAMPLES or (moments and len(moments) != len(samples)):
        raise Invalid(
            f"a background of {len(samples)} samples, {len(moments)} moments of {background.camera}",
            todo=f"give at most {MOST_SAMPLES} samples, and as many moments or none",
        )
    if len({sample.shape[1:] for sample in samples}) > 1 or any(sample.ndim != 2 for sample in samples):
        raise Invalid(
            f"a background of {background.camera} with vectors of several dimensions", todo="give one space's"
        )
    stacked = np.concatenate(samples) if samples else np.zeros((0, 0), np.float32)
    return {
        "camera": background.camera,
        "view": background.view,
        "dimension": stacked.shape[1],
        "lengths": json.dumps([len(sample) for sample in samples]),
        "moments": json.dumps(moments),
        "vectors": stacked.astype(_STORED).tobytes(),
    }


def _background(row: Row[Any]) -> Background:
    try:
        ends = np.cumsum([0, *json.loads(row.lengths)])
        stacked = np.frombuffer(row.vectors, _STORED).astype(np.float32).reshape(int(ends[-1]), row.dimension)
        moments = tuple(json.loads(row.moments))
    except (ValueError, TypeError) as error:
        raise Broken(
            f"the background of {row.camera} cannot be read ({error})",
            todo="stop Watchword and move the catalog away; backgrounds are sampled anew",
        ) from error
    # Rounding changed the lengths a little.
    stacked /= np.maximum(np.linalg.norm(stacked, axis=1, keepdims=True), 1e-6)
    samples = tuple(stacked[first:last] for first, last in pairwise(ends))
    return Background(row.camera, row.view, samples, moments)
