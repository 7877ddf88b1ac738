"""When a bucket gets codes, and how: they are learned, checked against exact search, and only then used."""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from index.places import Bucket
from index.scan.bases import clear_bases, save_base
from index.scan.bucket import BucketRows
from index.scan.codes import SAMPLE, Codes
from index.scan.masks import Numbers
from index.scan.trouble import Missing
from index.scan.vectors import VectorFile
from index.scan.view import Base, View
from proto.errors import WatchwordError
from proto.types import SpaceInfo, Vector, Vectors

log = logging.getLogger("watchword.index")

LEAST_ROWS = 2_000
"""A bucket that is over gets codes when it has so many rows without; fewer are quickly compared one by one."""
LEAST_CODED = 256
"""Fewer rows are compared one by one, even if there were more before."""
_GROWING_ROWS = 32_768
"""The same for a bucket that still grows: each time all of its codes are made anew."""
_HOUR_MS = 3_600_000
RECALL = 0.99
"""Codes that find a smaller share of the ten nearest rows to questions in words are not used."""
_SURE = 0.995
_DEPTHS = (100, 200, 400, 800, 1_600, 3_200)
_NEAREST = 10
_MOST_QUESTIONS = 128
_AT_ONCE = 8_192
_NICE = 10
_AGAIN_S = 60.0
"""A bucket that still is due, since codes could not be written, is tried again after this."""


def is_due(bucket: Bucket, view: View, now_ms: int, least_rows: int = LEAST_ROWS) -> bool:
    """Whether codes should be made of the bucket's rows."""
    coded, later = len(view.base.told), len(view.tail)
    if now_ms < bucket.end_ms + _HOUR_MS:
        return later >= max(_GROWING_ROWS, coded // 2)
    if later >= max(least_rows, coded // 10):
        return True
    lost = coded - int(np.count_nonzero(view.counts)) if coded else 0
    # Codes of rows that were removed are of pictures that should be gone.
    return lost > 0 and (lost > coded // 10 or now_ms > view.base.made_ms + _HOUR_MS)


class Stopped(Exception):
    """The process ends."""


class Builder:
    """Makes the codes of one bucket at a time, in a thread that gives way to others."""

    def __init__(self, questions: Path) -> None:
        """`questions` is the file of vectors of questions in words; while it is missing nothing is made."""
        self._questions = questions
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._begun: dict[Path, float] = {}

    def may_begin(self, folder: Path) -> bool:
        """Whether nothing is under way, this bucket was not tried just now, and there is something to check with."""
        return (
            (self._thread is None or not self._thread.is_alive())
            and time.monotonic() >= self._begun.get(folder, -_AGAIN_S) + _AGAIN_S
            and self._questions.is_file()
        )

    def begin(self, folder: Path, space: SpaceInfo, timeout_s: float, now_ms: int) -> None:
        """Make the codes of this bucket, unless another process does so."""

        def work() -> None:
            with suppress(OSError, AttributeError):
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
            try:
                build(folder, space, self._questions, timeout_s, now_ms, self._stop.is_set)
            except Stopped:
                return
            except WatchwordError as error:
                log.warning("no codes were made in %s: %s", folder, error)
            except Exception:
                log.exception("no codes were made in %s", folder)

        self._begun[folder] = time.monotonic()
        # A daemon: a process need not wait for it. What it made half is made anew.
        self._thread = threading.Thread(target=work, name="codes", daemon=True)
        self._thread.start()

    def stop(self, wait_s: float) -> None:
        """Have it end soon."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(wait_s)


def build(
    folder: Path,
    space: SpaceInfo,
    questions: Path,
    timeout_s: float,
    now_ms: int,
    stopped: Callable[[], bool] = lambda: False,
) -> Base | None:
    """Make codes of all rows of the bucket and have them used. None when another process is at it."""
    try:
        lock = (folder / "building").open("w")
    except FileNotFoundError as error:
        raise Missing(f"{folder} is not there", todo="try again") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
        rows = BucketRows(folder, space, timeout_s, scans=False)
        try:
            return _build(folder, rows, _read_questions(questions, space), now_ms, stopped)
        finally:
            rows.close()


def _build(folder: Path, rows: BucketRows, questions: Vectors, now_ms: int, stopped: Callable[[], bool]) -> Base:
    view = rows.view()
    if view.stamp == view.codes:
        # Codes of the same rows, made anew: they need another stamp, else nobody would read them.
        rows.advance()
        view = rows.view()
    told = view.everything()
    codes, depth, recall = None, 0, 0.0
    if len(told) >= LEAST_CODED:
        codes = _coded(rows.vectors, told.slot, view.stamp, stopped)
        depth, recall = depth_for(codes, rows.vectors, told.slot, questions, stopped)
    base = Base(view.stamp, told, codes if depth else None, depth, now_ms)
    save_base(folder, base)
    rows.install(base.stamp)
    clear_bases(folder, base.stamp)
    if depth:
        words = "%s has codes of %d rows: the best %d of a scan have %.4f of the nearest to %d questions"
        log.info(words, folder, len(told), depth, recall, len(questions))
    elif codes is not None:
        words = "%s stays exact: codes of its %d rows find only %.4f of the nearest to %d questions"
        log.warning(words, folder, len(told), recall, len(questions))
    return base


def _coded(vectors: VectorFile, slots: Numbers, seed: int, stopped: Callable[[], bool]) -> Codes:
    chosen = np.random.default_rng(seed).choice(len(slots), min(SAMPLE, len(slots)), replace=False)
    codes = Codes.learned(vectors.of(slots[np.sort(chosen)]))
    for first in range(0, len(slots), _AT_ONCE):
        if stopped():
            raise Stopped
        codes.add(vectors.of(slots[first : first + _AT_ONCE]))
    return codes


def _read_questions(path: Path, space: SpaceInfo) -> Vectors:
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise Missing(f"the questions in {path} cannot be read ({error})", todo="delete the file") from error
    if found.ndim != 2 or found.shape[1] != space.dimension or not len(found):
        raise Missing(f"the questions in {path} have the shape {found.shape}", todo="delete the file")
    return np.ascontiguousarray(found[:_MOST_QUESTIONS], np.float32)


def depth_for(
    codes: Codes,
    vectors: VectorFile,
    slots: Numbers,
    questions: Vectors,
    stopped: Callable[[], bool] = lambda: False,
) -> tuple[int, float]:
    """How many of the best by the codes must be compared exactly, and which share of the nearest rows is found so.

    The same is asked of a random tenth of the rows, as a filter would. A depth of 0: no depth finds enough.
    """
    tenth = np.random.default_rng(len(slots)).random(len(slots)) < 0.1
    among: dict[str, NDArray[np.bool_] | None] = {"all": None, "a tenth": tenth}
    least = {name: _least_scores(vectors, slots, questions, mask, stopped) for name, mask in among.items()}
    recall = 0.0
    for depth in _DEPTHS:
        found = []
        for name, mask in among.items():
            for question, needed in zip(questions, least[name], strict=True):
                if stopped():
                    raise Stopped
                places = np.sort(codes.nearest(question, min(depth, len(slots)), mask))
                scores = vectors.scores(slots[places], question)
                found.append(np.count_nonzero(scores >= needed - 1e-6) / _NEAREST)
        recall = float(np.minimum(found, 1.0).mean())
        if recall >= _SURE or depth >= len(slots):
            return depth, recall
    return (_DEPTHS[-1] if recall >= RECALL else 0), recall


def _least_scores(
    vectors: VectorFile,
    slots: Numbers,
    questions: Vectors,
    mask: NDArray[np.bool_] | None,
    stopped: Callable[[], bool],
) -> Vector:
    """The score of the tenth nearest row to each question, exactly."""
    some = slots if mask is None else slots[mask]
    best = np.full((len(questions), _NEAREST), -1.0, np.float32)
    for first in range(0, len(some), _AT_ONCE):
        if stopped():
            raise Stopped
        scores = questions @ vectors.of(some[first : first + _AT_ONCE]).T
        both = np.concatenate([best, scores], axis=1)
        best = np.partition(both, both.shape[1] - _NEAREST, axis=1)[:, -_NEAREST:]
    least: Vector = best.min(axis=1)
    return least
