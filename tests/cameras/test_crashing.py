"""A camera whose decoder crashes its process."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import select, update

from cameras.black_box import BlackBox
from cameras.crashing import CALM_MS, Run, again_ms, held_back, why
from catalog.fleet import Crash
from catalog.statuses import CameraStatus, Statuses
from catalog.tables import CRASHES
from proto.types import now_ms
from tests.cameras.rig import Facts, until

NOW = 1_767_268_800_000
LONG_UP_MS = 3_600_000
LIVE = Run(settled=True, for_ms=60_000)


def test_each_crash_makes_the_pause_longer_up_to_an_hour() -> None:
    pauses = [(again_ms(Crash(count, NOW)) - NOW) // 1000 for count in (1, 2, 3, 7, 8, 1000)]
    assert pauses == [30, 60, 120, 1920, 3600, 3600]
    assert why(Crash(3, NOW), NOW + 500).endswith("decoding it, 3 times one after another; tried again in 120 s")


def test_a_camera_waits_for_its_pause_and_for_the_others() -> None:
    crashes, mine = {"bad": Crash(1, NOW)}, {"bad", "gate", "dock"}
    settled, opening = {"gate": LIVE, "dock": LIVE}, {"gate": LIVE, "dock": Run(settled=False, for_ms=1000)}
    assert held_back(mine, crashes, settled, NOW + 29_999, LONG_UP_MS) == {"bad"}
    assert held_back(mine, crashes, settled, NOW + 30_000, 5_000) == set()
    assert held_back(mine, crashes, opening, NOW + 30_000, 5_000) == {"bad"}
    assert held_back(mine, crashes, {"gate": LIVE}, NOW + 30_000, 5_000) == {"bad"}
    # One of them may never answer.
    assert held_back(mine, crashes, {"gate": LIVE}, NOW + 60_000, 60_000) == set()


def test_cameras_that_crashed_are_tried_one_after_another() -> None:
    crashes, mine = {"bad": Crash(2, NOW), "worse": Crash(1, NOW + 1)}, {"bad", "worse", "gate"}
    runs, later_ms = {"gate": LIVE}, NOW + 100_000
    assert held_back(mine, crashes, runs, later_ms, LONG_UP_MS) == {"bad"}
    assert held_back(mine, crashes, {**runs, "worse": Run(True, 29_999)}, later_ms, LONG_UP_MS) == {"bad"}
    assert held_back(mine, crashes, {**runs, "worse": Run(True, 30_000)}, later_ms, LONG_UP_MS) == set()


def test_an_old_crash_and_one_of_a_clock_that_was_set_back_say_nothing() -> None:
    assert held_back({"bad"}, {"bad": Crash(9, NOW)}, {}, NOW + CALM_MS, 0) == set()
    assert held_back({"bad"}, {"bad": Crash(9, NOW + 60_000)}, {}, NOW, 0) == set()


def test_the_box_of_a_living_process_is_left_alone_and_an_empty_one_is_swept_up(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib\nfrom cameras.black_box import BlackBox\nBlackBox(pathlib.Path(sys.argv[1])).open()\n"
        "print('open', flush=True)\ninput()"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        assert list(BlackBox(tmp_path).left_behind()) == []
        assert len(list(tmp_path.iterdir())) == 1
        process.kill()
    assert list(BlackBox(tmp_path).left_behind()) == []
    assert list(tmp_path.iterdir()) == []


@contextmanager
def camera_process(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "tests.cameras.crashing_process", str(folder)]
    with subprocess.Popen(command) as process:
        try:
            yield process
        finally:
            process.kill()


async def test_a_decoder_that_crashes_takes_the_others_along_once_and_then_waits(tmp_path: Path) -> None:
    facts = Facts(tmp_path)

    def statuses() -> dict[str, CameraStatus]:
        return Statuses(facts.catalog).all()

    def crash() -> tuple[int, int]:
        with facts.catalog.reading() as connection:
            return tuple(connection.execute(select(CRASHES.c.count, CRASHES.c.at_ms)).one())

    with camera_process(tmp_path) as first:
        await until(lambda: first.poll() is not None, "it crashes", 60)
        assert first.returncode == -signal.SIGSEGV
    began_ms = now_ms()
    with camera_process(tmp_path) as second:
        others = ("dock", "gate", "yard")

        def others_live() -> bool:
            told = statuses()
            return all(told[name].state == "live" and told[name].told_ms > began_ms for name in others)

        await until(lambda: "bad" in statuses() and statuses()["bad"].state == "failing" and others_live(), "all", 60)
        assert "the camera process crashed while decoding it; tried again in" in statuses()["bad"].why
        assert crash()[0] == 1
        assert second.poll() is None
        with facts.catalog.writing() as connection:  # as if its pause were over
            connection.execute(update(CRASHES).values(at_ms=CRASHES.c.at_ms - 30_000))
        await until(lambda: second.poll() is not None, "it is tried again", 60)
        assert second.returncode == -signal.SIGSEGV
    with camera_process(tmp_path):
        await until(lambda: crash()[0] == 2, "the second crash is known", 60)
        await until(lambda: "2 times" in statuses()["bad"].why, "its pause is longer", 60)
    facts.catalog.close()
