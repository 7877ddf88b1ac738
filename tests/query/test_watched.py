from __future__ import annotations

from typing import Any

from query.watched import QUIET_S, LiveWatches

NOW = 1_767_268_800_000
CALL: dict[str, Any] = {"who": "wall", "token": "t1", "role": "viewer", "from": "here", "outcome": "ok"}
SEARCH = {**CALL, "what": "search", "text": "a picture", "start_ms": NOW - 600_000, "hits": 3, "sees": ["gate"]}
CAMERAS = {**CALL, "what": "cameras", "hits": 2}


def watched(*calls: tuple[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """The lines of these calls, a call each two seconds, and of the end."""
    lines: list[dict[str, Any]] = []
    watches = LiveWatches(lambda entry: lines.append(dict(entry)))
    for number, (mark, entry) in enumerate(calls):
        if not watches.took(mark, entry, 2.0 * number, NOW):
            lines.append(entry)
    watches.end_quiet(2.0 * (len(calls) - 1) + QUIET_S - 1)
    assert len(watches) > 0
    watches.end_quiet(2.0 * (len(calls) - 1) + QUIET_S)
    assert len(watches) == 0
    return lines


def test_a_watch_is_one_line_when_it_begins_and_one_when_it_ends() -> None:
    calls = [(f"a/{number}", one) for number in range(50) for one in (CAMERAS, SEARCH)]
    begins, ends = watched(*calls)
    assert (begins["what"], begins["who"], begins["from"]) == ("watch", "wall", "here")
    assert ends == {**CALL, "what": "watch ended", "text": "a picture", "seconds": 198} | {
        "events": 49,
        "calls": 100,
        "sees": ["gate"],
    }


def test_other_questions_under_the_mark_are_noted_as_they_are() -> None:
    other = {**SEARCH, "text": "a man with a dog"}
    old = {**SEARCH, "start_ms": NOW - 86_400_000}
    past = {**SEARCH, "end_ms": NOW}
    picture = {**CALL, "what": "picture", "moment": "m"}
    lines = watched(("a/1", SEARCH), ("a/2", other), ("a/2", old), ("a/2", past), ("a/2", picture), ("a/x", SEARCH))
    assert lines[1:5] == [other, old, past, picture]
    assert lines[-1]["calls"] == 2


def test_a_failure_is_noted_once_while_it_lasts() -> None:
    failed = {**SEARCH, "outcome": "transient"}
    lines = watched(("a/1", SEARCH), ("a/1", failed), ("a/1", failed), ("a/1", SEARCH), ("a/1", SEARCH))
    assert [line["outcome"] for line in lines] == ["ok", "transient", "ok", "ok"]
    assert [line["what"] for line in lines] == ["watch", "search", "search", "watch ended"]


def test_watches_of_other_callers_are_their_own_and_their_number_is_bounded() -> None:
    lines = watched(("a/1", SEARCH), ("a/1", {**SEARCH, "who": "hall"}))
    assert [(line["who"], line["what"]) for line in lines[:2]] == [("wall", "watch"), ("hall", "watch")]
    watches = LiveWatches(lambda _: None)
    taken = [watches.took(f"{number}/1", SEARCH, 0.0, NOW) for number in range(1001)]
    assert taken.count(False) == 1
