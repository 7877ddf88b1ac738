"""Lines of a log: one JSON object each, whatever is said; no secrets in them; and how people see them."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proto.errors import Invalid, Transient
from proto.scrub import scrubbed
from proto.tracing import TraceSettings, calling, trace_id, traced
from tests.tools.otlp import receiving
from watchword.logs import JsonLines, TextLines, as_text
from watchword.stack.logs import ChildLog

URL = "rtsp://me:pa55@cam/1?pwd=pa55"


def record(message: object, *args: Any, error: BaseException | None = None) -> logging.LogRecord:
    info = (type(error), error, error.__traceback__) if error else None
    return logging.LogRecord("watchword.cameras", logging.WARNING, __file__, 1, message, args, info)


def line(message: object, *args: Any, error: BaseException | None = None) -> dict[str, Any]:
    written = JsonLines("camera").format(record(message, *args, error=error))
    assert "\n" not in written
    assert written.isascii()
    told: dict[str, Any] = json.loads(written)
    return told


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except type(error) as met:
        return met


def test_a_line_says_when_how_bad_who_and_what() -> None:
    told = line("camera %s: %d frames", "gate", 3)
    assert told.pop("time").endswith("Z")
    assert told == {
        "level": "warning",
        "logger": "watchword.cameras",
        "process": "camera",
        "message": "camera gate: 3 frames",
    }


@settings(deadline=None)
@given(st.text(st.characters(codec=None)), st.text())
def test_any_text_is_one_line_of_json(message: str, argument: str) -> None:
    assert line("%s", message)["message"] == scrubbed(message)
    assert line(message.replace("%", "%%") + "%s", argument)["message"] == scrubbed(message + argument)


@pytest.mark.parametrize("arguments", [("three", "too", "many"), (), ({"a": 1},)])
def test_wrong_arguments_do_not_lose_the_line(arguments: tuple[Any, ...]) -> None:
    assert line("%d of %d", *arguments)["message"].startswith("%d of %d")


def test_an_error_has_its_class_its_todo_and_its_traceback() -> None:
    handled = line("it failed", error=raised(Transient("no\nbroker 門", todo="start it")))
    assert (handled["error"], handled["todo"]) == ("Transient", "start it")
    assert handled["traceback"].splitlines()[-1].startswith("broker 門")
    named = line("camera %s: %s", "gate", Invalid("it is wrong", todo="change it"))
    assert (named["error"], named["todo"], "traceback" in named) == ("Invalid", "change it", False)
    assert "error" not in line("camera %s", "gate")


def test_no_secret_is_written() -> None:
    error = raised(Transient(f"cannot open {URL}", todo=f"try {URL}"))
    for written in (
        JsonLines("camera").format(record("opening %s", URL, error=error)),
        TextLines().format(record("opening %s", URL, error=error)),
        JsonLines("camera").format(record("password=%s", "pa55")),
    ):
        assert "pa55" not in written
        assert "cam/1" in written or "password=***" in written


def test_the_trace_that_is_going_on_is_named() -> None:
    with receiving() as receiver, traced(TraceSettings(endpoint=receiver.address), "query"):
        assert "trace_id" not in line("outside")
        with calling("question", begins=True):
            assert line("inside")["trace_id"] == trace_id()
            assert TextLines().format(record("inside")).endswith(f"inside trace={trace_id()}")


PROGRAM = """
import logging, sys, warnings
from watchword.cli import main
from watchword.logs import LogSettings, log_to_stderr
log_to_stderr(LogSettings(format="json", level="warning"), "query")
logging.getLogger("watchword.query").info("too little")
logging.getLogger("watchword.query").warning("two\\nlines")
warnings.warn("a vendor warns")
try:
    main(["--set", "stream.nothing=1", "config"])
except SystemExit as ended:
    assert ended.code == 2
raise ValueError("unforeseen")
"""


@pytest.mark.long
def test_a_process_that_logs_json_writes_nothing_else_even_when_it_ends_with_an_error() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    told = [json.loads(line) for line in done.stderr.splitlines()]
    assert [one["level"] for one in told] == ["warning", "warning", "critical", "critical"]
    assert told[0]["message"] == "two\nlines"
    assert "a vendor warns" in told[1]["message"]
    assert (told[2]["error"], "which is no setting" in told[2]["message"]) == ("Invalid", True)
    assert (told[3]["error"], told[3]["traceback"].splitlines()[-1]) == ("ValueError", "ValueError: unforeseen")
    assert {one["process"] for one in told} == {"query"}


@pytest.fixture
def child(tmp_path: Path) -> Iterator[ChildLog]:
    log = ChildLog(tmp_path, "query")
    with log.opened() as descriptor, open(descriptor, "w", closefd=False, encoding="utf-8") as file:
        print(JsonLines("query").format(record("two\nlines %s", "門")), file=file)
        print(JsonLines("query").format(record("failed", error=raised(ValueError("why")))), file=file)
        print('{"rust": "panics"}', file=file)
        print("plain", file=file)
    yield log


def test_watchword_up_shows_json_lines_of_its_children_as_text(child: ChildLog) -> None:
    first, second, *others = child.last_lines(4)
    assert first.endswith("WARNING watchword.cameras two lines 門")
    assert second.endswith("WARNING watchword.cameras failed (ValueError: why)")
    assert others == ['{"rust": "panics"}', "plain"]


@settings(deadline=None)
@given(st.text())
def test_any_line_can_be_shown(text: str) -> None:
    assert as_text("{" + text)
    assert as_text(json.dumps({"time": text, "level": 3, "logger": None, "message": text}))
