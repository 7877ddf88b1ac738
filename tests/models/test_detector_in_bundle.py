from __future__ import annotations

import dataclasses
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.bundle import CALIBRATION, DETECTOR, DETECTOR_CONFIG, DETECTOR_WORDS, MANIFEST, Bundle, load_bundle
from models.detector import detector_picture
from models.engines.opening import open_engine
from models.engines.pace import bench
from models.making.objects import COCO_KINDS
from models.making.verifying import verify
from proto.errors import Broken
from proto.types import KIND
from tests.models.detectors import add_toy_detector, toy_config
from tests.models.parts import frames
from tests.models.toy import toy_bundle

CALIBRATED = {"version": 1, "features": ["z_camera", "e_value"], "weights": [1.5, -0.5], "bias": 0.1, "threshold": 0.5}


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return toy_bundle(tmp_path / "toy", add=add_toy_detector)


def _calibrate(content: bytes, folder: Path) -> None:
    (folder / CALIBRATION).write_bytes(content)


def test_a_sealed_bundle_with_a_detector_is_sound_and_opens_with_it(bundle: Bundle) -> None:
    assert verify(bundle.folder) == []
    engine = open_engine(bundle, threads=2)
    assert engine.abilities.detects == 2
    engine.close()


def test_an_engine_finds_the_objects_of_each_picture_in_order(bundle: Bundle) -> None:
    assert bundle.detector is not None
    light, dark = np.full((64, 64, 3), 90, np.uint8), np.full((64, 64, 3), 165, np.uint8)
    light[:8, :8], dark[56:, 56:] = 255, 0
    engine = open_engine(bundle, threads=2)
    found = engine.detect([detector_picture(pixels, bundle.detector.config) for pixels in (light, dark, light)])
    engine.close()
    kinds = [{one.kind for one in objects if one.score > 0.95} for objects in found]
    assert kinds == [{"light"}, {"dark"}, {"light"}]
    assert found[0] == found[2]


def test_a_bundle_without_a_detector_opens_an_engine_that_has_none(tmp_path: Path) -> None:
    engine = open_engine(toy_bundle(tmp_path / "toy"))
    assert engine.abilities.detects == 0
    with pytest.raises(Broken, match="no detector") as met:
        engine.detect([])
    engine.close()
    assert met.value.todo


@pytest.mark.parametrize("path", [DETECTOR, DETECTOR_CONFIG, DETECTOR_WORDS])
def test_a_detector_with_a_wrong_hash_never_serves(bundle: Bundle, path: str) -> None:
    with (bundle.folder / path).open("ab") as file:
        file.write(b" ")
    with pytest.raises(Broken, match="is not the file its manifest names"):
        load_bundle(bundle.folder)


def test_a_detector_that_finds_other_objects_than_were_recorded_never_serves(bundle: Bundle) -> None:
    canary = bundle.manifest.canary
    turned = [one.model_copy(update={"kind": "dark" if one.kind == "light" else "light"}) for one in canary.objects]
    manifest = bundle.manifest.model_copy(update={"canary": canary.model_copy(update={"objects": turned})})
    with pytest.raises(Broken, match="the detector misses") as met:
        open_engine(dataclasses.replace(bundle, manifest=manifest))
    assert met.value.todo


def _without(folder: Path, path: str) -> None:
    (folder / path).unlink()
    manifest = json.loads((folder / MANIFEST).read_text())
    del manifest["files"][path]
    (folder / MANIFEST).write_text(json.dumps(manifest))


@pytest.mark.parametrize("path", [DETECTOR, DETECTOR_CONFIG, DETECTOR_WORDS])
def test_a_detector_without_one_of_its_files_is_broken(bundle: Bundle, path: str) -> None:
    _without(bundle.folder, path)
    with pytest.raises(Broken, match=f"has no {path}"):
        load_bundle(bundle.folder)


def test_a_detector_without_recorded_objects_is_broken(bundle: Bundle) -> None:
    manifest = json.loads((bundle.folder / MANIFEST).read_text())
    manifest["canary"]["objects"] = []
    (bundle.folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(Broken, match="records nothing"):
        load_bundle(bundle.folder)


def _space(bundle: Bundle, **changes: Any) -> str:
    """The space of this bundle with another configuration of its detector."""
    assert bundle.detector is not None
    other = dataclasses.replace(bundle.detector, config=toy_config(**changes))
    return dataclasses.replace(bundle, detector=other).space.id


@pytest.mark.parametrize("changes", [{"threshold": 0.8}, {"margin": 0.2}, {"word_share": 0.5}, {"overlap": 0.9}])
def test_the_space_is_another_when_objects_would_get_other_vectors(bundle: Bundle, changes: dict[str, Any]) -> None:
    assert _space(bundle, **changes) != _space(bundle)


def test_the_space_is_the_same_whatever_a_detection_costs(bundle: Bundle) -> None:
    assert _space(bundle, cost=9.0) == _space(bundle) == bundle.space.id


@pytest.mark.parametrize("path", [DETECTOR, DETECTOR_WORDS])
def test_the_space_is_another_with_other_weights_or_words(bundle: Bundle, path: str) -> None:
    manifest = bundle.manifest.model_copy(update={"files": bundle.manifest.files | {path: "0" * 64}})
    assert dataclasses.replace(bundle, manifest=manifest).space.id != bundle.space.id


def test_a_bundle_with_a_detector_has_another_space_than_one_without(bundle: Bundle) -> None:
    assert dataclasses.replace(bundle, detector=None).space.id != bundle.space.id


def test_a_bundle_without_a_detector_keeps_the_space_it_had_before_there_were_any(tmp_path: Path) -> None:
    bundle = toy_bundle(tmp_path / "toy")
    sources = {"tower": "0" * 64}
    pinned = bundle.manifest.model_copy(
        update={"sources": sources, "files": bundle.manifest.files | {"textual/tokenizer.json": "1" * 64}}
    )
    assert dataclasses.replace(bundle, manifest=pinned).space.id == "01a1b73d87d66d9d"


def test_a_calibration_is_given_as_it_is_and_changes_no_space(tmp_path: Path) -> None:
    words = json.dumps(CALIBRATED)
    bundle = toy_bundle(tmp_path / "toy", add=partial(_calibrate, words.encode()))
    assert bundle.calibration == words
    assert verify(bundle.folder) == []
    assert bundle.space.id == dataclasses.replace(bundle, calibration="").space.id


def test_a_bundle_that_was_not_calibrated_has_none(bundle: Bundle) -> None:
    assert bundle.calibration == ""


@pytest.mark.parametrize(
    "content",
    [
        b"[]",
        b"{",
        json.dumps(CALIBRATED | {"version": 2}).encode(),
        json.dumps(CALIBRATED | {"weights": [1.0]}).encode(),
        json.dumps(CALIBRATED | {"bias": float("nan")}).encode(),
        json.dumps(CALIBRATED | {"trained_on": "x" * 20_000}).encode(),
    ],
)
def test_a_calibration_that_means_nothing_or_is_too_large_is_broken(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(Broken, match=CALIBRATION) as met:
        toy_bundle(tmp_path / "toy", add=partial(_calibrate, content))
    assert met.value.todo


def test_the_speed_of_the_detector_is_measured_too(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.engines.pace._SECONDS_EACH", 0.0)
    assert [pace.batch for pace in bench(bundle, threads=2) if pace.tower == "objects"] == [1, 2]


@pytest.mark.long
def test_the_built_in_bundle_knows_the_kinds_of_coco(builtin: Bundle) -> None:
    assert builtin.detector is not None
    assert builtin.detector.config.kinds == COCO_KINDS
    assert len(COCO_KINDS) == 80
    assert all(KIND.fullmatch(kind) for kind in COCO_KINDS)
    assert {"person", "traffic light", "toothbrush"} <= set(COCO_KINDS)


@pytest.mark.long
@pytest.mark.parametrize(
    ("clip", "kinds"), [("bikes", {"person", "car", "bicycle"}), ("carphone_pristine", {"person"})]
)
def test_the_built_in_bundle_finds_what_real_clips_show(builtin: Bundle, clip: str, kinds: set[str]) -> None:
    assert builtin.detector is not None
    config = builtin.detector.config
    engine = open_engine(builtin)
    found = engine.detect([detector_picture(pixels, config) for pixels in frames(clip, every=5)])
    engine.close()
    assert kinds <= {one.kind for objects in found for one in objects}
    assert all(one.box.is_sound() and one.score >= config.threshold for objects in found for one in objects)


@pytest.mark.long
def test_the_driver_of_the_car_is_found_where_he_sits(builtin: Bundle) -> None:
    assert builtin.detector is not None
    engine = open_engine(builtin)
    (found,) = engine.detect([detector_picture(frames("carphone_pristine")[0], builtin.detector.config)])
    engine.close()
    best = found[0]
    assert best.kind == "person"
    assert best.score > 0.7
    assert (best.box.left, best.box.top, best.box.right, best.box.bottom) == pytest.approx((0.17, 0.1, 1, 1), abs=0.05)
