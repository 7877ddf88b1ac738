"""An export holds what is there and nothing that is gone, comes about whole or not at all, and shows every change."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cameras.remux import Fragment
from cameras.segments import Segments
from cameras.settings import RecordingSettings
from catalog.coverage import Gap, Reason
from catalog.recordings import Recordings
from life import evidence
from life.evidence import From, Wanted, export, gathered, verified
from life.signing import Signer
from proto.errors import Broken, Invalid, Transient, Unknown
from proto.life import Rules, Stretch
from proto.types import Recording
from tests.cameras.filming import film, numbers, tapped
from tests.contracts.moments import MINUTE, NOON, moment, region
from tests.life.test_receipts import Keys
from tests.life.twins import House

TIMES = Stretch("gate", NOON, NOON + 10_000)
KEYS = Keys()


class Covered:
    def gaps(self, cameras: frozenset[str] | None, start_ms: int | None, end_ms: int | None) -> list[Gap]:
        return [Gap("gate", Reason.AWAY, NOON + 8_000, NOON + 9_000)]

    def looked_until(self, cameras: frozenset[str] | None = None) -> dict[str, int]:
        return {"gate": NOON + 12_000}


class Case:
    """A house with three moments and ten seconds of video, and what is exported of it."""

    def __init__(self, folder: Path, fragments: list[Fragment]) -> None:
        self.house = House()
        self.fragments = fragments
        self.folder = folder
        self.out = folder / "out"
        self.moments = [moment("gate", NOON + n * 3000, regions=[region(n, at_ms=NOON + n * 3000)]) for n in range(3)]

    async def fill(self) -> Case:
        for one in (*self.moments, moment("gate", NOON + MINUTE), moment("yard", NOON)):
            await self.house.write(one)
        writer = Segments(self.folder / "recordings", RecordingSettings(segment_s=3, keep_free_bytes=0))
        writer.limits = {"gate": Recording(30, 10**9)}
        for fragment in self.fragments:
            writer.write(fragment, NOON)
        writer.close()
        return self

    async def exported(
        self, times: Stretch = TIMES, then: Callable[[], None] = lambda: None, **changes: Any
    ) -> dict[str, Any]:
        house = self.house
        recordings = Recordings(self.folder / "recordings")
        at = From(house.rows, house.pictures, Covered(), recordings, house.life.rules, lambda: house.now_ms, 3_600_000)
        asked = {"asked_by": {"user": "ann", "machine": "box"}, "reason": "case 12", "software": "watchword 1"}
        told: dict[str, Any] = {"moment": "", "masked": None, "clips": True, "masks": "none", **changes}
        wanted = Wanted(times, asked=asked, **told)
        found = await gathered(at, wanted)
        then()
        return export(at, wanted, found, Signer(KEYS), self.out, lambda _: None)

    def moments_out(self) -> list[dict[str, Any]]:
        told: list[dict[str, Any]] = json.loads((self.out / "moments.json").read_text())
        return told


@pytest.fixture(scope="module")
def fragments(tmp_path_factory: pytest.TempPathFactory) -> list[Fragment]:
    return tapped([film(tmp_path_factory.mktemp("film") / "a.ts", 10)], start_ms=NOON)


@pytest.fixture
async def case(tmp_path: Path, fragments: list[Fragment]) -> Case:
    return await Case(tmp_path, fragments).fill()


async def test_an_export_has_video_pictures_moments_coverage_and_who_asked(case: Case) -> None:
    manifest = await case.exported()
    assert [one["id"] for one in case.moments_out()] == [one.id for one in case.moments]
    (clip,) = [one for one in manifest["files"] if one["what"] == "clip"]
    assert numbers(case.out / clip["name"])[:3] == [0, 1, 2]
    assert len([one for one in manifest["files"] if one["what"] == "picture"]) == 6
    coverage = json.loads((case.out / "coverage.json").read_text())
    assert coverage["gaps"] == [{"start_ms": NOON + 8_000, "end_ms": NOON + 9_000, "reason": "away", "frames": 0}]
    assert (manifest["asked_by"]["user"], manifest["reason"]) == ("ann", "case 12")
    assert verified(case.out) == (manifest, Signer(KEYS).installation, [])


async def test_what_was_erased_is_left_out_though_it_is_still_stored(case: Case) -> None:
    case.house.life.erase(Stretch("gate", NOON + 3_000, NOON + 5_000), NOON)
    manifest = await case.exported()
    assert [one["id"] for one in case.moments_out()] == [case.moments[0].id, case.moments[2].id]
    (clip,) = [one for one in manifest["files"] if one["what"] == "clip"]
    assert not set(range(30, 50)) & set(numbers(case.out / clip["name"]))
    coverage = json.loads((case.out / "coverage.json").read_text())
    assert [one["erasure"] for one in coverage["erased"]] == [1]
    assert [one["reason"] for one in coverage["without_video"]] == ["not recorded"]


async def test_an_export_during_which_something_is_erased_is_given_up_and_leaves_nothing(case: Case) -> None:
    def erase() -> None:
        case.house.life.erase(Stretch("gate", NOON + 3_000, NOON + 4_000), NOON)

    before = sorted(case.folder.iterdir())
    with pytest.raises(Transient, match="was erased or became too old"):
        await case.exported(then=erase)
    assert sorted(case.folder.iterdir()) == before


async def test_one_moment_alone_is_exported_with_its_video(case: Case) -> None:
    one = case.moments[1]
    await case.exported(Stretch("gate", one.start_ms, one.end_ms + 1), moment=one.id)
    assert [told["id"] for told in case.moments_out()] == [one.id]
    case.house.life.erase(Stretch("gate", NOON, NOON + 20_000), NOON)
    with pytest.raises(Unknown, match="there is no moment"):
        await case.exported(Stretch("gate", one.start_ms, one.end_ms + 1), moment=one.id)


async def test_pictures_are_masked_and_video_without_masks_is_left_out(case: Case) -> None:
    manifest = await case.exported(masked=lambda jpeg: (b"blank", True), clips=False, masks="1 area")
    assert {one["what"] for one in manifest["files"]} == {"picture", "moments", "coverage"}
    assert (case.out / f"pictures/{case.moments[0].id}.jpg").read_bytes() == b"blank"
    assert case.moments_out()[0]["pictures"][0]["masked_at_export"] is True
    assert json.loads((case.out / "coverage.json").read_text())["without_video"][0]["reason"] == "masks"


@pytest.mark.parametrize("free", [0, 1000])
async def test_without_room_nothing_is_begun(case: Case, free: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "free_bytes", lambda _: free)
    with pytest.raises(Broken, match=f"{free:,} are free"):
        await case.exported()
    assert not case.out.exists()


async def test_nothing_is_replaced_and_nothing_is_exported_of_a_time_without_anything(case: Case) -> None:
    with pytest.raises(Unknown, match="nothing of gate is stored"):
        await case.exported(Stretch("gate", 1, 2))
    case.out.mkdir()
    with pytest.raises(Invalid, match="is there already"):
        await case.exported()
    assert list(case.out.iterdir()) == []


async def test_a_store_that_is_away_half_way_leaves_nothing(case: Case) -> None:
    def away() -> None:
        case.house.fails_in = 0

    before = sorted(case.folder.iterdir())
    with pytest.raises(Transient, match="a store is away"):
        await case.exported(then=away)
    assert sorted(case.folder.iterdir()) == before


async def test_every_change_of_an_export_is_named(case: Case) -> None:
    manifest = await case.exported()
    picture = next(one["name"] for one in manifest["files"] if one["what"] == "picture")
    (case.out / "coverage.json").unlink()
    (case.out / "more.txt").write_text("more")
    (case.out / picture).write_bytes(b"jpeh")
    (case.out / "link").symlink_to("/etc/passwd")
    differs = "\n".join(verified(case.out)[2])
    assert [name in differs for name in ("coverage.json", "more.txt", picture, "link")] == [True] * 4
    assert len(differs.splitlines()) == 4
    (case.out / "manifest.json").write_text(json.dumps({**manifest, "from_ms": 1}))
    with pytest.raises(Invalid, match="was changed after it was signed"):
        verified(case.out)


async def test_a_zip_is_the_same_and_a_damaged_one_is_refused(case: Case) -> None:
    case.out = case.folder / "out.zip"
    manifest = await case.exported()
    assert verified(case.out) == (manifest, Signer(KEYS).installation, [])
    with zipfile.ZipFile(case.out, "a") as packed:
        packed.writestr("../outside", "x")
    assert verified(case.out)[2] == ["../outside: it does not belong to the export"]
    whole = case.out.read_bytes()
    place = whole.index(b"ftyp") + 200
    case.out.write_bytes(whole[:place] + b"\0\1\2\3" + whole[place + 4 :])
    assert verified(case.out)[2][0].startswith("clips/1-")
    case.out.write_bytes(whole[:-30])
    with pytest.raises(Invalid, match="no zip that can be read"):
        verified(case.out)


@pytest.mark.parametrize("told", [[], {"files": 3}, {"files": [{"name": "x"}]}, {"files": [{"name": 1, "bytes": "x"}]}])
def test_a_manifest_that_makes_no_sense_is_refused_whoever_signed_it(tmp_path: Path, told: Any) -> None:
    signed = Signer(Keys()).signed(evidence.EVIDENCE, told) if isinstance(told, dict) else told
    (tmp_path / "manifest.json").write_text(json.dumps(signed))
    with pytest.raises(Invalid):
        verified(tmp_path)


async def test_a_hold_keeps_what_is_too_old(case: Case) -> None:
    case.house.life.change(days={"gate": 1.0})
    case.house.now_ms = NOON + 2 * 86_400_000
    with pytest.raises(Unknown):
        await case.exported()
    case.house.life.hold(TIMES)
    assert isinstance(case.house.life.rules(), Rules)
    await case.exported()
    assert len(case.moments_out()) == 3
