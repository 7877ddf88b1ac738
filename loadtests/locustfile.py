"""Locust asks the query service: an open loop, with the mix of questions of a house. See loadtests/load.py.

    locust -f loadtests/locustfile.py --headless --host HOST:PORT [--course spike --knee 40] [--html report.html]

Several machines: start this with `--master --expect-workers N`, and `locust -f loadtests/locustfile.py --worker
--master-host HOST --host HOST:PORT` N times. The master leads the course and makes the report; clocks must agree.
"""

from __future__ import annotations

import csv
import random
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
import grpc
import psutil
from grpc.experimental import gevent as grpc_gevent
from locust import LoadTestShape, User, constant, events, task
from locust.runners import WorkerRunner
from locust.stats import PERCENTILES_TO_REPORT, StatsCSV

from loadtests.course import PROMISED_S, Course, Zipf, shape_of
from loadtests.course_report import draw, exit_code, told, write_csv
from proto.rpc import CHANNEL_OPTIONS, service_config
from proto.v1 import query_pb2, query_pb2_grpc

grpc_gevent.init_gevent()

DEADLINE_S = 5.0
AROUND_MS = 300_000
WHO = ("a person", "a man in a suit", "a cyclist", "a dog", "a rabbit", "a red car", "a lorry", "a child")
DOES = ("at the gate", "in a meadow", "on a road", "in a car", "near a tree", "in the rain", "at night", "running")
HOW = ("", "seen from behind", "far away", "close up", "with a bag", "next to another one")

Outcome = tuple[float, float, float | None]
"""When a question was due, begun and answered; None for one that failed."""


class House:
    """What one stack is asked. Answers give what later questions are made of.

    Questions that are refused are repeated within their deadline, as Watchword's own client does.
    """

    def __init__(self, address: str) -> None:
        channel = grpc.insecure_channel(
            address, options=[*CHANNEL_OPTIONS, service_config(repeats_refused=True, spread=False)]
        )
        self._stub = query_pb2_grpc.QueryStub(channel)
        self._words = Zipf(len(WHO) * len(DOES) * len(HOW), 1.1)
        self._cameras = [one.name for one in self._stub.Cameras(query_pb2.CamerasRequest(), timeout=30).cameras]
        self._moments = deque[str](maxlen=200)
        self._pictures = deque[bytes](maxlen=20)
        self._follow_ups = deque[dict[str, Any]](maxlen=20)
        kinds: dict[str, tuple[float, Callable[[], Any]]] = {
            "words": (0.47, lambda: self._search(text=self._phrase())),
            "words, one camera": (0.08, lambda: self._search(text=self._phrase(), cameras=[self._camera()])),
            "words, last minutes": (0.08, lambda: self._search(text=self._phrase(), start_ms=self._lately())),
            "words, in a row": (0.04, lambda: self._search(text=self._phrase(), order=query_pb2.ORDER_TIME, limit=50)),
            "follow-up": (0.10, self._follow_up),
            "thumbnail": (0.15, self._thumbnail),
            "like this moment": (0.05, self._like),
            "by picture": (0.03, self._by_picture),
        }
        self._kinds = [(name, ask) for name, (_, ask) in kinds.items()]
        self._weights = [weight for weight, _ in kinds.values()]

    def draw(self) -> tuple[str, Callable[[], Any]]:
        """A question: its kind, and what asks it."""
        (chosen,) = random.choices(self._kinds, self._weights)
        return chosen

    def _search(self, **question: Any) -> Any:
        reply = self._stub.Search(query_pb2.SearchRequest(**{"limit": 10, **question}), timeout=DEADLINE_S)
        self._moments.extend(hit.moment_id for hit in reply.hits[:2])
        if "text" in question and "cameras" not in question and reply.hits:
            self._follow_ups.append({"text": question["text"], **_there(reply.hits[0])})
        return reply

    def _follow_up(self) -> Any:
        """The same words, about the camera and the time around of an answer's best hit."""
        return self._search(**(self._follow_ups.popleft() if self._follow_ups else {"text": self._phrase()}))

    def _thumbnail(self) -> Any:
        if not self._moments:
            return self._search(text=self._phrase())
        reply = self._stub.Thumbnail(
            query_pb2.ThumbnailRequest(moment_id=random.choice(self._moments)), timeout=DEADLINE_S
        )
        self._pictures.append(reply.jpeg)
        return reply

    def _like(self) -> Any:
        return self._search(moment_id=random.choice(self._moments)) if self._moments else self._search(text=WHO[0])

    def _by_picture(self) -> Any:
        return self._search(image=random.choice(self._pictures)) if self._pictures else self._thumbnail()

    def _phrase(self) -> str:
        place, how = divmod(self._words.draw(), len(HOW))
        who, does = divmod(place, len(DOES))
        return f"{WHO[who]} {DOES[does]} {HOW[how]}".strip()

    def _camera(self) -> str:
        return random.choice(self._cameras)

    def _lately(self) -> int:
        return int((time.time() - random.choice((60, 300, 3600))) * 1000)


def _there(hit: query_pb2.Hit) -> dict[str, Any]:
    start_ms = max(1, hit.start_ms - AROUND_MS)
    return {"cameras": [hit.camera], "start_ms": start_ms, "end_ms": hit.end_ms + AROUND_MS}


class Account:
    """Where outcomes go: into the course; on a worker machine to the master first."""

    def __init__(self) -> None:
        self.course: Course | None = None
        self._unsent: list[Outcome] = []

    def asked(self, outcome: Outcome) -> None:
        if self.course is None:
            self._unsent.append(outcome)
        else:
            self._count(self.course, outcome)

    def report(self, data: dict[str, Any], **_: Any) -> None:
        """Locust sends `data` to the master."""
        data["outcomes"], self._unsent = self._unsent, []

    def reported(self, data: dict[str, Any], **_: Any) -> None:
        """Locust got `data` from a worker machine."""
        for outcome in data.get("outcomes", ()):
            self.asked(tuple(outcome))

    def _count(self, course: Course, outcome: Outcome) -> None:
        due_s, begun_s, answered_s = outcome
        course.due(due_s, begun_s)
        if answered_s is None:
            course.failed(due_s)
        else:
            course.answered(due_s, answered_s)


ACCOUNT = Account()


class Asker(User):
    """Questions at random times, one a second on average, whether earlier ones were answered or not."""

    wait_time = constant(0)
    house: House | None = None

    def on_start(self) -> None:
        self._due_s = time.time()

    @task
    def question(self) -> None:
        self._due_s += random.expovariate(1.0)
        gevent.sleep(max(0.0, self._due_s - time.time()))
        gevent.spawn(_ask, self.environment, self.house, self._due_s)


def _ask(environment: Any, house: House, due_s: float) -> None:
    begun_s = time.time()
    kind, ask = house.draw()
    reply, error = None, None
    try:
        reply = ask()
    except grpc.RpcError as problem:
        error = problem
    ended_s = time.time()
    ACCOUNT.asked((due_s, begun_s, None if error else ended_s))
    environment.events.request.fire(
        request_type="gRPC",
        name=kind,
        response_time=(ended_s - due_s) * 1000,
        response_length=reply.ByteSize() if reply is not None else 0,
        exception=_Failed(error.code().name) if error else None,
    )


class _Failed(Exception):
    """The status of a call that failed: Locust's report counts equal ones."""


class Processors:
    """Processor time of processes, with what they started, between two looks."""

    def __init__(self, pids: dict[str, int]) -> None:
        self._pids = pids
        self._spent: dict[str, float] = {}

    def since(self) -> dict[str, float]:
        """Seconds since the last look, by name."""
        now = {name: _spent(pid) for name, pid in self._pids.items()} | {"Locust": time.process_time()}
        grown = {name: max(0.0, spent - self._spent.get(name, spent)) for name, spent in now.items()}
        self._spent = now
        return grown


def _spent(pid: int) -> float:
    total = 0.0
    try:
        process = psutil.Process(pid)
        for one in (process, *process.children(recursive=True)):
            times = one.cpu_times()
            total += times.user + times.system
    except psutil.NoSuchProcess:
        return total
    return total


class Along(LoadTestShape):
    """Follows the course. So many users ask so many questions a second."""

    _looked_s = 0.0
    _processors: Processors | None = None
    _cameras_run = True

    def tick(self) -> tuple[int, float] | None:
        course, now_s = ACCOUNT.course, time.time()
        assert course is not None and self.runner is not None, "Locust calls this on the one that leads"
        options: Any = self.runner.environment.parsed_options
        if self._processors is None:
            self._processors = Processors({name: int(pid) for name, _, pid in map(_parted, options.process)})
        spent = self._processors.since()
        course.spent(self._looked_s, now_s, spent)
        self._looked_s = now_s
        rate = course.rate(now_s)
        if options.cameras_file and course.cameras != self._cameras_run:
            self._cameras_run = course.cameras
            options.cameras_file.write_text("run" if course.cameras else "stop")
        return None if rate is None else (rate, rate)


def _parted(text: str) -> tuple[str, str, str]:
    return text.partition("=")


def _arguments(parser: Any) -> None:
    parser.add_argument("--course", choices=("knee", "spike", "soak"), default="knee", help="what is asked when")
    parser.add_argument("--knee", type=int, default=None, help="questions a second at the knee; none: found by a ramp")
    parser.add_argument("--minutes", type=float, default=10.0, help="how long a soak lasts")
    parser.add_argument("--promised", type=float, default=PROMISED_S, help="seconds in which an answer is good")
    parser.add_argument("--out", type=Path, default=None, help="folder for phases.csv, questions.csv and load.png")
    parser.add_argument("--cameras-file", type=Path, help="file that gets `stop` and `run` when cameras are to do so")
    parser.add_argument("--process", action="append", default=[], help="NAME=PID of a process whose time is told")


def _began(environment: Any, runner: Any, **_: Any) -> None:
    options = environment.parsed_options
    if not isinstance(runner, WorkerRunner):
        ACCOUNT.course = Course(shape_of(options.course, options.minutes), options.knee, options.promised)
    try:
        Asker.house = House(environment.host)
    except grpc.RpcError as error:  # Locust would go on
        sys.exit(f"no query service answers at {environment.host} ({error.details()})")


def _report(environment: Any, **_: Any) -> None:
    course, out = ACCOUNT.course, environment.parsed_options.out
    if course is None or not course.phases:
        return
    print(told(course))
    if out:
        write_csv(course, out / "phases.csv")
        with (out / "questions.csv").open("w", newline="") as file:
            StatsCSV(environment, PERCENTILES_TO_REPORT).requests_csv(csv.writer(file))
        draw(course, out / "load.png")
    environment.process_exit_code = exit_code(course)


for event, listener in (
    (events.init_command_line_parser, _arguments),
    (events.init, _began),
    (events.report_to_master, ACCOUNT.report),
    (events.worker_report, ACCOUNT.reported),
    (events.quitting, _report),
):
    event.add_listener(listener)  # type: ignore[no-untyped-call]  # Locust ships no types
