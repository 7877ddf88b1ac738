"""What a process writes into its log: lines for people, or one JSON object a line for programs."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from types import TracebackType
from typing import Literal

import click

from proto.errors import WatchwordError
from proto.scrub import scrubbed
from proto.section import Section
from proto.tracing import trace_id

_QUIET = ("aiokafka", "alembic", "faust", "mode", "sqlalchemy.pool", "stream.app")
"""They log a lot at INFO, and repeat at ERROR what is translated and reported by us."""
_OWN = "watchword"


class LogSettings(Section):
    """The log of `watchword run`, on standard error."""

    format: Literal["text", "json"] = "text"
    """text: lines for people. json: one object a line, with time, level, logger, process and message, and where there
    is one trace_id, error (its class), todo and traceback."""
    level: Literal["debug", "info", "warning", "error"] = "info"
    """What is less important than this is left out."""


class TextLines(logging.Formatter):
    """Lines for people. The id of the trace that is going on stands at the end."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name that logging gives
        said, trace = super().formatMessage(record), trace_id()
        return f"{said} trace={trace}" if trace else said

    def format(self, record: logging.LogRecord) -> str:
        return scrubbed(super().format(record))


class JsonLines(logging.Formatter):
    """One JSON object a line, whatever the message contains."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        told = {
            "time": _instant(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": self._process,
            "message": scrubbed(_message(record)),
        }
        if trace := trace_id():
            told["trace_id"] = trace
        if (error := _error(record)) is not None:
            told["error"] = type(error).__name__
            if isinstance(error, WatchwordError) and error.todo:
                told["todo"] = scrubbed(error.todo)
        if record.exc_info and record.exc_info[0] is not None:
            told["traceback"] = scrubbed(self.formatException(record.exc_info))
        if record.stack_info:
            told["stack"] = scrubbed(self.formatStack(record.stack_info))
        # ASCII: a lone surrogate, as in the name of a file, could not be written otherwise.
        return json.dumps(told)


def log_to_stderr(settings: LogSettings, process: str) -> None:
    """Log as the settings say, from now on. Errors that end the process are logged too when the log is JSON."""
    as_json = settings.format == "json"
    _to_stderr(settings.level.upper(), JsonLines(process) if as_json else TextLines())
    if as_json:
        sys.excepthook = _excepthook
        logging.captureWarnings(capture=True)


def warn_on_stderr() -> None:
    """For commands that people look at: warnings, as text."""
    _to_stderr("WARNING", TextLines())


def say_error(error: WatchwordError) -> None:
    """The last words of a command that failed: a line for people, or in the log if that is JSON."""
    if any(isinstance(handler.formatter, JsonLines) for handler in logging.getLogger().handlers):
        logging.getLogger(f"{_OWN}.process").critical("%s", error)
    else:
        click.echo(f"watchword: {error}", err=True)


def as_text(line: str) -> str:
    """A line of a log as people read it, whatever its format."""
    if not line.startswith("{"):
        return line
    try:
        told = json.loads(line)
        parts = [told["time"], told["level"].upper(), told["logger"], told["message"], *_last(told.get("traceback"))]
        return " ".join(" ".join(parts).split())
    except (ValueError, KeyError, TypeError, AttributeError):
        return line


def _last(traceback: str | None) -> Iterator[str]:
    """The error at the end of a traceback."""
    if traceback:
        yield f"({traceback.strip().splitlines()[-1]})"


def _to_stderr(level: str, formatter: logging.Formatter) -> None:
    for vendor in _QUIET:
        logging.getLogger(vendor).setLevel(logging.CRITICAL)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(level="INFO" if level == "DEBUG" else level, handlers=[handler])
    logging.getLogger(_OWN).setLevel(level)  # vendors' DEBUG says nothing of ours


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # wrong arguments: what was to be said must not be lost, nor the line
        return f"{record.msg} {record.args}"


def _error(record: logging.LogRecord) -> BaseException | None:
    """The error that the record is about: the one that is handled, or one that it names."""
    if record.exc_info and record.exc_info[1] is not None:
        return record.exc_info[1]
    named = record.args if isinstance(record.args, tuple) else ()
    return next((one for one in named if isinstance(one, BaseException)), None)


def _instant(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _excepthook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    logging.getLogger(f"{_OWN}.process").critical("unforeseen: %r", error, exc_info=(kind, error, trace))
