"""How many questions a second can be answered? An open loop of Locust against the embedded stack, while cameras run.

    python -m loadtests.load [--shape knee|spike|soak] [--out FOLDER] [--set KEY=VALUE] [--keep FOLDER]    (`make load`)

Questions arrive at random times, whether earlier ones were answered or not, and a latency counts from the time at
which its question was due. A question is answered well when its answer comes within query.promised_s, which is what
users are promised; where other programs keep the machine busy promise more: `--set query.promised_s=2`. A phase in
which Locust began less than 99 % of the questions in time is invalid. What is asked when: loadtests/course.py. `--knee
N` saves the ramp; a soak lasts `--minutes`.

FOLDER gets phases.csv, questions.csv (by kind of question), load.png, and Locust's own report.html. Exits with 1 when a
goal is not reached. Against another stack: `locust -f loadtests/locustfile.py --headless --host HOST:PORT`.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import psutil

from catalog.cameras import CameraRegistry
from loadtests.rig import Running, parser, run, running, say, settings_in
from proto.types import Camera
from tests.clips import CLIPS
from watchword.catalogs import open_registry
from watchword.settings import Settings

PARTS = ("broker", "milvus", "redis", "worker", "stream", "camera", "query")


async def load(asked: argparse.Namespace, folder: Path) -> int:
    """The embedded stack with the clips as cameras, and Locust beside it."""
    more = dict(one.split("=", 1) for one in asked.set)
    settings = settings_in(folder / "data", {"cache_dir": Path.home() / ".cache" / "watchword", **more})
    asked.out.mkdir(parents=True, exist_ok=True)
    async with AsyncExitStack() as closing:
        registry = closing.enter_context(open_registry(settings))
        registry.add_missing(Camera(name, str(clip), loop=True) for name, clip in CLIPS.items())
        stack = await closing.enter_async_context(running(settings, folder / "logs", *PARTS))
        say(f"everything runs with {len(CLIPS)} cameras; Locust begins in {asked.fill:.0f} s")
        await asyncio.sleep(asked.fill)
        before = _memory(stack)
        told = folder / "cameras"
        locust = await asyncio.create_subprocess_exec(*_command(asked, settings, stack, told))
        switching = asyncio.create_task(_switch(registry, told))
        try:
            code = await locust.wait()
        finally:
            switching.cancel()
            if locust.returncode is None:
                locust.kill()
        ended = stack.ended
        grown = ", ".join(f"{name} {mb:.0f} -> {_memory(stack)[name]:.0f}" for name, mb in before.items())
        print(f"memory in MB before and after: {grown}")
    if ended:
        print(f"ended by themselves: {', '.join(ended)}")
    return 1 if ended else code


def _command(asked: argparse.Namespace, settings: Settings, stack: Running, told: Path) -> list[str]:
    options = {
        "host": stack.addresses.query,
        "course": asked.shape,
        "minutes": asked.minutes,
        "promised": settings.query.promised_s,
        "out": asked.out,
        "html": asked.out / "report.html",
        "cameras-file": told,
        "loglevel": "WARNING",
        **({"knee": asked.knee} if asked.knee else {}),
    }
    words = [f"--{name}={value}" for name, value in options.items()]
    words += [f"--process={name}={stack.servers[name].pid}" for name in PARTS]
    script = str(Path(__file__).with_name("locustfile.py"))
    return [sys.executable, "-m", "locust", "-f", script, "--headless", "--only-summary", *words]


async def _switch(registry: CameraRegistry, told: Path) -> None:
    """Have every camera watched, or none, as Locust tells in this file."""
    run = True
    while True:
        await asyncio.sleep(0.2)
        if (told.exists() and told.read_text() == "stop") == run:
            run = not run
            for camera in registry.all():
                if run:
                    registry.add(replace(camera, watching=True))
                else:
                    registry.remove(camera.name)


def _memory(stack: Running) -> dict[str, float]:
    """Resident megabytes of the parts that answer questions."""
    found = {}
    for name in ("query", "worker", "milvus"):
        if stack.servers[name].alive:
            whole = psutil.Process(stack.servers[name].pid)
            found[name] = sum(one.memory_info().rss for one in (whole, *whole.children(recursive=True))) / 1e6
    return found


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("--shape", choices=("knee", "spike", "soak"), default="knee", help="what is asked when")
    arguments.add_argument("--knee", type=int, default=None, help="questions a second at the knee, if it is known")
    arguments.add_argument("--minutes", type=float, default=10.0, help="how long a soak lasts")
    arguments.add_argument("--out", type=Path, default=Path("build") / "load", help="where the reports go")
    arguments.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="another setting")
    arguments.add_argument("--fill", type=float, default=15.0, help="seconds in which cameras fill the index first")
    sys.exit(run(load, arguments.parse_args()))
