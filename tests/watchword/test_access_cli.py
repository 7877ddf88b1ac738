from __future__ import annotations

import json
from pathlib import Path

import pytest

from catalog.audit import FolderSink
from tests.watchword.terminal import Cli


def test_a_token_is_made_shown_once_listed_and_revoked(cli: Cli) -> None:
    cli("camera", "add", "gate", "rtsp://127.0.0.1:9/live", "--unchecked")
    assert "no tokens yet" in cli("token", "list").out
    made = cli("token", "create", "kim", "--camera", "gate", "--expires", "30d")
    assert "viewer, gate" in made.out
    secret = made.out.splitlines()[-1]
    listed = cli("token", "list")
    assert "counts until" in listed.out and "never" in listed.out
    assert secret[-43:] not in listed.out
    (row,) = json.loads(cli("token", "list", "--json").out)
    assert (row["name"], row["cameras"], row["counts"], row["used_ms"]) == ("kim", ["gate"], True, None)
    assert cli("token", "revoke", "kim").code == 0
    assert "revoked" in cli("token", "list").out
    assert cli("token", "revoke", "kim").code == 6


def test_a_token_can_be_for_groups(cli: Cli) -> None:
    cli("camera", "add", "gate", "rtsp://127.0.0.1:9/live", "--unchecked", "--group", "yard")
    assert "viewer, group yard" in cli("token", "create", "kim", "--group", "yard").out
    assert "viewer, gate, group yard" in cli("token", "create", "lee", "-g", "yard", "-c", "gate").out
    rows = json.loads(cli("token", "list", "--json").out)
    assert [(row["cameras"], row["groups"]) for row in rows] == [([], ["yard"]), (["gate"], ["yard"])]
    assert "no camera is in a group 'yadr': known here: yard" in cli("token", "create", "max", "-g", "yadr").err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("create", "kim", "--camera", "gaet"), "no camera is named 'gaet'"),
        (("create", "kim", "--expires", "soon"), "write 12h or 30d"),
        (("create", "kim", "--expires", "0d"), "write 12h or 30d"),
        (("create", "../kim"), "cannot be a token's name"),
        (("revoke", "kim"), "no token is named 'kim'"),
    ],
)
def test_what_cannot_be_done_says_why(cli: Cli, words: tuple[str, ...], says: str) -> None:
    ended = cli("token", *words)
    assert ended.code in (2, 6)
    assert says in ended.err


def test_the_audit_is_checked(cli: Cli, tmp_path: Path) -> None:
    assert "no audit" in cli("audit", "verify").err
    folder = tmp_path / "data" / "audit"
    sink = FolderSink(folder, 10**9)
    sink.write([{"what": "search", "who": "kim"}, {"what": "cameras", "who": "kim"}])
    sink.close()
    good = cli("audit", "verify")
    assert (good.code, "lines 1 to 2 follow each other" in good.out) == (0, True)
    assert cli("audit", "verify", "--head", "f" * 64).code == 9
    (path,) = folder.glob("*.jsonl")
    path.write_text(path.read_text().replace("kim", "lee"))
    bad = cli("audit", "verify")
    assert (bad.code, "it was changed" in bad.out) == (9, True)
