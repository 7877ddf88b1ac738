"""One run: recordings are replayed as cameras until all of them were looked at, then every question is asked.

Everything goes through the query service, so that what is measured is what people get. What else a run needs of the
installation is passed in (`Replays`). A service that has the cameras already is only asked.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from evals.answers import Answered, Run, answered
from evals.dataset import Dataset, Part, Question, Video
from proto.errors import Invalid, Late, Overloaded, Transient, Unknown
from proto.types import Camera, now_ms
from proto.v1 import query_pb2

LIMIT = 20
"""Hits asked for."""
_GROUP = 8
"""So many recordings are replayed at once: the broker keeps what the encoder has not seen yet."""
_LOOK_S = 1.0
_PATIENCE_S = 180.0
_TRIES = 5
_MOST_WATERMARKS = 100

Say = Callable[[str], None]
Pause = Callable[[float], Awaitable[None]]


class Asker(Protocol):
    """The query service; query.client.QueryClient is one."""

    async def ask(self, request: query_pb2.SearchRequest) -> tuple[query_pb2.SearchReply, dict[str, str]]:
        """The reply, and the trailing metadata."""

    async def cameras(self) -> list[query_pb2.CameraInfo]:
        """Every camera that can be searched."""


class Replays(Protocol):
    """The installation in which recordings become cameras. Its methods block."""

    def add(self, camera: Camera) -> None:
        """Watch this recording from its start."""

    def ended(self, camera: str) -> int | None:
        """The captured time of the recording's end once the broker has all of it; None until then."""


class Settling:
    """Decides when every recording was looked at. Pure: it is shown the marks again and again.

    A mark is the captured time up to which a camera was looked at. The last picture of a still scene is not sent, so
    the last mark may lie before the end: marks have settled when none moved for a while.
    """

    def __init__(self, cameras: Sequence[str], settle_looks: int, patience_looks: int) -> None:
        self._cameras = tuple(cameras)
        self._settle = settle_looks
        self._patience = patience_looks
        self._marks: Mapping[str, int] = {}
        self._ended = 0
        self._still = 0

    def over(self, marks: Mapping[str, int], ended: Mapping[str, int]) -> bool:
        """Whether all is looked at. Late when nothing moved for too long although something is missing."""
        seen = {camera: marks[camera] for camera in self._cameras if camera in marks}
        moved = seen != self._marks or len(ended) != self._ended
        self._still = 0 if moved else self._still + 1
        self._marks, self._ended = seen, len(ended)
        missing = [camera for camera in self._cameras if camera not in ended or camera not in seen]
        if missing and self._still >= self._patience:
            raise Late(
                f"nothing more is looked at, and {len(missing)} recordings are not done: {', '.join(missing[:5])}",
                todo="look into the logs of the camera, stream and worker processes",
            )
        return not missing and self._still >= self._settle


async def replay(
    dataset: Dataset,
    service: Asker,
    replays: Replays,
    *,
    part: Part | None,
    settle_s: float,
    say: Say,
    pause: Pause = asyncio.sleep,
) -> None:
    """Add the recordings of the part as cameras and wait until all of them were looked at.

    `settle_s`: how long the stream may take to store what it looked at last.
    """
    videos = [video for video in dataset.videos.values() if part in (None, video.part)]
    cameras = [camera_of(video) for video in videos]
    for start in range(0, len(cameras), _GROUP):
        group = cameras[start : start + _GROUP]
        say(f"replaying {start + 1} to {start + len(group)} of {len(cameras)} recordings")
        for camera in group:
            await asyncio.to_thread(replays.add, camera)
        await _wait(service, replays, [camera.name for camera in group], 2 * _LOOK_S, pause)
    say("waiting until everything is stored")
    await _wait(service, replays, [camera.name for camera in cameras], settle_s, pause)


async def check_cameras(dataset: Dataset, service: Asker, *, part: Part | None, say: Say) -> None:
    """Check that the service knows every camera that is searched. Unknown names those that it does not know."""
    wanted = {video.name for video in dataset.videos.values() if part in (None, video.part)}
    missing = sorted(wanted - {camera.name for camera in await service.cameras()})
    if missing:
        raise Unknown(
            f"{len(missing)} recordings of the dataset are no cameras there: {', '.join(missing[:5])}",
            todo="`watchword eval cameras FOLDER` prints the commands that add them",
        )
    say("asking a service that has the cameras already; be sure that it has looked at all of them")


async def ask_questions(
    dataset: Dataset,
    service: Asker,
    about: Mapping[str, Any],
    *,
    part: Part | None,
    limit: int = LIMIT,
    say: Say,
    pause: Pause = asyncio.sleep,
) -> Run:
    """Ask every question of the part, one after another."""
    questions = [question for question in dataset.questions if part in (None, question.part)]
    begun_ms, begun = now_ms(), time.perf_counter()
    answers: dict[str, Answered] = {}
    for question in questions:
        answers[question.qid] = await _answer(service, dataset, question, limit, pause)
        if len(answers) % 50 == 0 or len(answers) == len(questions):
            say(f"asked {len(answers)} of {len(questions)} questions")
    asked = Dataset(
        dataset.folder, dataset.name, dataset.videos, tuple(questions), dataset.licence, dataset.notes, dataset.digest
    )
    told = {
        "dataset": dataset.name,
        "digest": dataset.digest,
        "folder": str(dataset.folder.absolute()),
        "part": part or "all",
        "limit": limit,
        "asked_ms": begun_ms,
        "took_s": round(time.perf_counter() - begun, 2),
        "space": ", ".join(sorted({answer.space for answer in answers.values()})),
        "partial": sum(answer.partial for answer in answers.values()),
        "cpu": cpu_name(),
    }
    return Run(asked, answers, told | dict(about))


def camera_of(video: Video) -> Camera:
    """The camera that replays a recording, as fast as it can be read. Invalid when it has no file."""
    if video.path is None:
        raise Invalid(f"{video.name} is no recording", todo="ask a service that has watched it: --address HOST:PORT")
    return Camera(video.name, str(video.path), speed=0.0, start_ms=video.start_ms)


def cpu_name(path: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's name; empty where it is not known."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


async def _wait(service: Asker, replays: Replays, names: Sequence[str], settle_s: float, pause: Pause) -> None:
    settling = Settling(names, round(settle_s / _LOOK_S), round(_PATIENCE_S / _LOOK_S))
    ended: dict[str, int] = {}
    while True:
        for name in names:
            if name not in ended and (end_ms := await asyncio.to_thread(replays.ended, name)) is not None:
                ended[name] = end_ms
        marks: dict[str, int] = {}
        for start in range(0, len(names), _MOST_WATERMARKS):
            marks |= await _marks(service, names[start : start + _MOST_WATERMARKS])
        if settling.over(marks, ended):
            return
        await pause(_LOOK_S)


async def _marks(service: Asker, names: Sequence[str]) -> dict[str, int]:
    request = query_pb2.SearchRequest(text="anything", cameras=names, limit=1)
    try:
        reply, _ = await service.ask(request)
    except (Transient, Overloaded, Late, Unknown):  # busy, or it has not seen the new cameras yet
        return {}
    return {mark.camera: mark.looked_ms for mark in reply.coverage.watermarks}


async def _answer(service: Asker, dataset: Dataset, question: Question, limit: int, pause: Pause) -> Answered:
    request = query_pb2.SearchRequest(text=question.query, cameras=dataset.searched(question), limit=limit)
    for left in reversed(range(_TRIES)):
        begun = time.perf_counter()
        try:
            reply, trailing = await service.ask(request)
        except (Transient, Overloaded, Late):
            if not left:
                raise
            await pause(_LOOK_S)
        else:
            return answered(question.qid, reply, trailing, (time.perf_counter() - begun) * 1000)
    raise AssertionError("the last try returns or raises")
