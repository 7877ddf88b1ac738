"""Limits, holds and erasures from the command line, without servers."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from catalog.life import Life
from proto.life import DEFAULT, MOST_DAYS
from tests.watchword.terminal import Cli, refused
from watchword.catalogs import open_catalog
from watchword.settings import Settings


@pytest.fixture(autouse=True)
def cameras(cli: Cli) -> None:
    cli("camera", "add", "gate", "rtsp://127.0.0.1:9/live", "--unchecked")


def days(folder: Path) -> dict[str, float]:
    with open_catalog(Settings(data_dir=folder / "data")) as catalog:
        return dict(Life(catalog).rules().days)


def test_limits_are_set_shown_and_cleared(cli: Cli, tmp_path: Path) -> None:
    assert cli("retention", "show").out == "all cameras: kept for ever\n"
    assert cli("retention", "set", "--default", "30").out == "cameras without a limit of their own: kept 30 days\n"
    assert cli("retention", "set", "gate", "12h").out == "gate: kept 12 hours\n"
    assert days(tmp_path) == {DEFAULT: 30.0, "gate": 0.5}
    shown = cli("retention", "show")
    assert shown.out == "all cameras: kept 30 days\ngate: kept 12 hours\n"
    assert json.loads(cli("retention", "show", "--json").out)["cameras"] == {"gate": 0.5}
    assert cli("retention", "set", "gate", "forever").out == "gate: kept for ever\n"
    assert days(tmp_path)["gate"] == MOST_DAYS
    cli("retention", "clear", "gate")
    cli("retention", "clear", "--default")
    assert days(tmp_path) == {}


def test_limits_in_bytes_are_set_shown_and_cleared(cli: Cli, tmp_path: Path) -> None:
    each = cli("retention", "set", "--default", "30", "--default-bytes", "20GB")
    assert each.out == "cameras without a limit of their own: kept 30 days, within 20 GB\n"
    assert cli("retention", "set", "gate", "--bytes", "500MB").out == "gate: kept within 500 MB\n"
    assert cli("retention", "show").out == "all cameras: kept 30 days, within 20 GB\ngate: kept within 500 MB\n"
    told = json.loads(cli("retention", "show", "--json").out)
    assert (told["default_bytes"], told["cameras_bytes"], told["floors_ms"]) == (20 * 10**9, {"gate": 5 * 10**8}, {})
    assert cli("retention", "set", "gate", "7", "--bytes", "any").out == "gate: kept 7 days, whatever it takes\n"
    with open_catalog(Settings(data_dir=tmp_path / "data")) as catalog:
        Life(catalog).raise_floors({"gate": 1_767_268_800_000})
    assert "gate: begins at 2026-01-01" in cli("retention", "show").out
    cli("retention", "clear", "gate")
    cli("retention", "clear", "--default")
    assert cli("retention", "show").out.startswith("all cameras: kept for ever\ngate: begins at")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("retention", "set", "gate", "0"), "a retention of 0 days cannot be kept"),
        (("retention", "set", "--default", "-3"), "a retention of -3 days cannot be kept"),
        (("retention", "set", "gate", "10m"), "cannot be kept"),
        (("retention", "set", "gate", "soon"), "is no length of time"),
        (("retention", "set", "gate"), "whose limit is not clear"),
        (("retention", "set", "gate", "3", "--default", "3"), "whose limit is not clear"),
        (("retention", "set", "gate", "--default-bytes", "1GB"), "whose limit is not clear"),
        (("retention", "set", "--bytes", "1GB"), "whose limit is not clear"),
        (("retention", "set", "gate", "--bytes", "0"), "cannot be kept within 0 bytes"),
        (("retention", "set", "gate", "--bytes", "5MB"), "give 10MB or more"),
        (("retention", "set", "gate", "--bytes", "-5GB"), "is no size"),
        (("retention", "set", "gate", "--bytes", "much"), "is no size"),
        (("retention", "clear"), "whose limit is not clear"),
        (("retention", "clear", "gate"), "gate has no limit of its own"),
        (("retention", "set", "gaet", "3"), "no camera is named 'gaet'"),
        (("hold", "add", "gaet", "--reason", "x"), "no camera is named 'gaet'"),
        (("hold", "add", "gate", "--reason", "x", "--from", "1h", "--to", "2h"), "does not end after it begins"),
        (("hold", "remove", "9"), "no hold 9 is in force"),
        (("erase",), "what to erase is not clear"),
        (("erase", "--camera", "gate", "--moment", "0" * 32), "what to erase is not clear"),
        (("erase", "--camera", "gaet"), "no camera is named 'gaet'"),
        (("erase", "--camera", "gate", "--from", "1h", "--to", "2h"), "does not end after it begins"),
        (("erase", "--camera", "gate", "--to", "2990-01-01T00:00"), "ends in the future"),
        (("erase", "--camera", "gate", "--dry-run"), "no stack runs"),
        (("erase", "--receipt", "9"), "there is no erasure 9"),
        (("erase", "--verify", "nothing.json"), "cannot be read"),
        (("index", "status"), "no stack runs"),
        (("export",), "what to export is not clear"),
        (("export", "gate"), "what to export is not clear"),
        (("export", "gate", "--from", "1h", "--moment", "0" * 32), "what to export is not clear"),
        (("export", "gate", "--from", "1h", "--key", "x"), "what to export is not clear"),
        (("export", "gaet", "--from", "1h"), "no camera is named 'gaet'"),
        (("export", "gate", "--from", "1h", "--to", "2990-01-01T00:00"), "ends in the future"),
        (("export", "gate", "--from", "1h"), "no stack runs"),
        (("--set", "retention.signing_key=abc", "export", "--show-key"), "is no Ed25519 key"),
        (("export", "--verify", "nowhere"), "is no folder and no zip"),
        (("export", "--verify", "."), "has no manifest.json"),
    ],
)
def test_what_cannot_be_is_one_line(cli: Cli, words: tuple[str, ...], says: str) -> None:
    assert says in refused(cli(*words))


def test_holds_are_placed_listed_and_lifted(cli: Cli) -> None:
    assert cli("hold", "list").out == "no holds\n"
    placed = cli("hold", "add", "gate", "--from", "2026-01-01T00:00", "--reason", "case 12")
    assert placed.out.startswith("hold 1: gate")
    assert "case 12" in cli("hold", "list").out
    assert "case 12" in cli("retention", "show").out
    (one,) = json.loads(cli("hold", "list", "--json").out)
    assert (one["hold"], one["camera"], one["reason"]) == (1, "gate", "case 12")
    assert cli("hold", "remove", "1").out == "hold 1 is lifted\n"
    assert cli("hold", "list").out == "no holds\n"


def test_an_erasure_is_in_force_also_when_nothing_can_be_counted_and_its_receipt_says_so(
    cli: Cli, tmp_path: Path
) -> None:
    said = cli("erase", "--camera", "gate", "--to", "1h", "--reason", "asked", "--yes")
    assert "erasure 1 is in force" in said.out
    assert "cannot be counted now" in said.err
    assert "until the stack is stopped" in said.out
    assert "being carried out: asked" in cli("erase", "--list").out
    cli("hold", "add", "gate", "--reason", "late")
    file = tmp_path / "receipt.json"
    assert "not carried out everywhere yet" in cli("erase", "--receipt", "1", "-o", str(file)).out
    receipt = json.loads(file.read_text())
    assert receipt["asked"]["reason"] == "asked"
    assert (receipt["carried_out"], receipt["held"]) == (None, [])
    file.write_text(json.dumps({**receipt, "number": 2}))
    assert "was changed after it was signed" in refused(cli("erase", "--verify", str(file)))


def test_an_export_that_fails_leaves_its_hold_and_is_noted(cli: Cli, tmp_path: Path) -> None:
    failed = cli("export", "gate", "--from", "1h", "--hold", "case 12")
    assert (failed.code != 0, "hold 1: gate" in failed.out) == (True, True)
    assert "case 12" in cli("hold", "list").out
    (file,) = (tmp_path / "data/audit").glob("*.jsonl")
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(one["outcome"], one["camera"]) for one in lines] == [("begun", "gate"), ("transient", "gate")]


def test_exports_and_receipts_are_signed_with_the_key_that_is_given(cli: Cli) -> None:
    key = base64.b64encode(bytes(range(32))).decode()
    shown = cli("--set", f"retention.signing_key={key}", "export", "--show-key").out
    assert shown == "A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=\n"
    assert key not in cli("--set", f"retention.signing_key={key}", "config").out


def test_the_clock_is_trusted_when_a_person_says_so(cli: Cli, tmp_path: Path) -> None:
    cli("retention", "set", "--default", "30")
    assert "nothing is removed for its age now" in cli("retention", "show").err
    assert cli("retention", "trust-clock", "--yes").out == "the clock is trusted\n"
    assert cli("retention", "show").err == ""
