"""Locust asks the query service: an open loop, with the mix of questions of a house. See loadtests/load.py.

locust -f loadtests/locustfile.py --headless --host HOST:PORT [--csv load] [--html report.html]
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
import grpc
from grpc.experimental import gevent as grpc_gevent
from locust import LoadTestShape, User, constant, events, task

from loadtests.load import Course, Zipf, draw, told, verdict
from proto.rpc import CHANNEL_OPTIONS
from proto.v1 import query_pb2, query_pb2_grpc

grpc_gevent.init_gevent()

DEADLINE_S = 5.0
WHO = ("a person", "a man in a suit", "a cyclist", "a dog", "a rabbit", "a red car", "a lorry", "a child")
DOES = ("at the gate", "in a meadow", "on a road", "in a car", "near a tree", "in the rain", "at night", "running")
HOW = ("", "seen from behind", "far away", "close up", "with a bag", "next to another one")
COURSE = Course()


class House:
    """What one stack is asked. Answers give what later questions are made of."""

    def __init__(self, address: str) -> None:
        self._stub = query_pb2_grpc.QueryStub(grpc.insecure_channel(address, options=CHANNEL_OPTIONS))
        self._words = Zipf(len(WHO) * len(DOES) * len(HOW), 1.1)
        self._cameras = [one.name for one in self._stub.Cameras(query_pb2.CamerasRequest(), timeout=30).cameras]
        self._moments = deque[str](maxlen=200)
        self._pictures = deque[bytes](maxlen=20)
        kinds: dict[str, tuple[float, Callable[[], Any]]] = {
            "words": (0.55, lambda: self._search(text=self._phrase())),
            "words, one camera": (0.10, lambda: self._search(text=self._phrase(), cameras=[self._camera()])),
            "words, last minutes": (0.08, lambda: self._search(text=self._phrase(), start_ms=self._lately())),
            "words, in a row": (0.04, lambda: self._search(text=self._phrase(), order=query_pb2.ORDER_TIME, limit=50)),
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
        return reply

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


class Asker(User):
    """Questions at random times, one a second on average, whether earlier ones were answered or not."""

    wait_time = constant(0)
    house: House | None = None

    def on_start(self) -> None:
        self._due_s = time.monotonic()

    @task
    def question(self) -> None:
        self._due_s += random.expovariate(1.0)
        gevent.sleep(max(0.0, self._due_s - time.monotonic()))
        gevent.spawn(_ask, self.environment, self.house, self._due_s)


def _ask(environment: Any, house: House, due_s: float) -> None:
    COURSE.due(due_s, time.monotonic())
    kind, ask = house.draw()
    reply, error = None, None
    try:
        reply = ask()
    except grpc.RpcError as problem:
        error = problem
        COURSE.failed(due_s)
    else:
        COURSE.answered(due_s, time.monotonic())
    environment.events.request.fire(
        request_type="gRPC",
        name=kind,
        response_time=(time.monotonic() - due_s) * 1000,
        response_length=reply.ByteSize() if reply is not None else 0,
        exception=error,
    )


class UpToTheKnee(LoadTestShape):
    """The course of loadtests/load.py. So many users ask so many questions a second."""

    _cpu_s = 0.0

    def tick(self) -> tuple[int, float] | None:
        before, now_s, cpu_s = COURSE.current, time.monotonic(), time.process_time()
        if before is not None and now_s < before.ends_s + 1.0:
            before.cpu_s += cpu_s - self._cpu_s
        self._cpu_s = cpu_s
        rate = COURSE.rate(now_s)
        return None if rate is None else (rate, rate)


def _arguments(parser: Any) -> None:
    parser.add_argument("--knee-png", type=Path, default=None, help="a picture of goodput and p99 by the asked rate")


def _meet(environment: Any, **_: Any) -> None:
    Asker.house = House(environment.host)


def _report(environment: Any, **_: Any) -> None:
    print(told(COURSE))
    if environment.parsed_options.knee_png:
        draw(COURSE, environment.parsed_options.knee_png)
    environment.process_exit_code = verdict(COURSE)


events.init_command_line_parser.add_listener(_arguments)  # type: ignore[no-untyped-call]  # Locust ships no types
events.test_start.add_listener(_meet)  # type: ignore[no-untyped-call]  # Locust ships no types
events.quitting.add_listener(_report)  # type: ignore[no-untyped-call]  # Locust ships no types
