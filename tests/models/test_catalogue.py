from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from models.bundle import MANIFEST, TEXTUAL, TOKENIZER, VISUAL, file_digest
from models.catalogue import find_bundle, list_bundles
from models.engines.pace import bench
from models.making.verifying import verify
from proto.errors import Unknown
from tests.models.toy import toy_bundle


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return toy_bundle(tmp_path / "toy").folder


def _kinds(folder: Path) -> list[tuple[str, str]]:
    return [(finding.kind, finding.path) for finding in verify(folder)]


def _resealed(folder: Path, path: str, change: Callable[[onnx.ModelProto], None]) -> None:
    """Change a tower and let the manifest name the changed file: only looking into it can tell."""
    model = onnx.load(folder / path)
    change(model)
    (folder / path).write_bytes(model.SerializeToString())
    _rename_in_manifest(folder, {path: file_digest(folder / path)})


def _rename_in_manifest(folder: Path, files: dict[str, str]) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"] |= files
    (folder / MANIFEST).write_text(json.dumps(manifest))


def test_a_sound_bundle_has_no_findings(folder: Path) -> None:
    assert verify(folder) == []


def test_every_damaged_file_is_named(folder: Path) -> None:
    for path in (VISUAL, TOKENIZER):
        content = bytearray((folder / path).read_bytes())
        content[len(content) // 2] ^= 1
        (folder / path).write_bytes(content)
    (folder / TEXTUAL).unlink()
    assert {("hash", VISUAL), ("hash", TOKENIZER), ("missing", TEXTUAL)} <= set(_kinds(folder))


@pytest.mark.parametrize("path", ["../outside.json", "/etc/hostname", "visual/../../outside.json", "a\\b"])
def test_a_path_that_could_lead_out_is_found(folder: Path, path: str) -> None:
    (folder.parent / "outside.json").write_text("{}")
    _rename_in_manifest(folder, {path: "0" * 64})
    assert _kinds(folder) == [("path", path)]


def test_a_link_that_leads_out_is_found(folder: Path) -> None:
    moved = folder.parent / "moved.onnx"
    (folder / VISUAL).rename(moved)
    (folder / VISUAL).symlink_to(moved)
    assert ("path", VISUAL) in _kinds(folder)


@pytest.mark.parametrize("name", ["weights.pt", "notes.json", "visual/extra.txt"])
def test_a_pickle_is_found_whatever_its_name(folder: Path, name: str) -> None:
    (folder / name).write_bytes(pickle.dumps({"weights": [1.0]}))
    assert _kinds(folder) == [("pickle", name)]


def test_a_torch_archive_is_found_whatever_its_name(folder: Path) -> None:
    import zipfile

    with zipfile.ZipFile(folder / "notes.json", "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02.")
    assert _kinds(folder) == [("pickle", "notes.json")]


def test_a_file_that_nobody_named_is_found(folder: Path) -> None:
    (folder / "visual" / "weights.data").write_bytes(b"numbers")
    assert _kinds(folder) == [("extra", "visual/weights.data")]


def test_weights_in_another_file_are_found(folder: Path) -> None:
    def move_out(model: onnx.ModelProto) -> None:
        weight = model.graph.initializer[0]
        weight.ClearField("raw_data")
        weight.data_location = onnx.TensorProto.EXTERNAL
        weight.external_data.add(key="location", value="../../../etc/passwd")

    _resealed(folder, VISUAL, move_out)
    assert _kinds(folder) == [("external", VISUAL)]


@pytest.mark.parametrize(("domain", "kind"), [("evil.example", "Shell"), ("", "NoSuchOperator")])
def test_an_operator_that_is_not_known_is_found(folder: Path, domain: str, kind: str) -> None:
    def call_it(model: onnx.ModelProto) -> None:
        model.graph.node.append(helper.make_node(kind, ["raw"], ["more"], domain=domain))

    _resealed(folder, VISUAL, call_it)
    assert _kinds(folder) == [("operator", VISUAL)]


def test_an_operator_that_a_branch_hides_is_found(folder: Path) -> None:
    def hide_it(model: onnx.ModelProto) -> None:
        body = helper.make_graph([helper.make_node("Shell", [], ["x"], domain="evil.example")], "branch", [], [])
        model.graph.node.append(helper.make_node("If", ["raw"], ["more"], then_branch=body, else_branch=body))

    _resealed(folder, VISUAL, hide_it)
    assert ("operator", VISUAL) in _kinds(folder)


def test_what_is_no_model_is_found(folder: Path) -> None:
    (folder / VISUAL).write_bytes(b"\xff" * 64)
    _rename_in_manifest(folder, {VISUAL: file_digest(folder / VISUAL)})
    assert _kinds(folder) == [("invalid", VISUAL)]


def test_a_tower_that_answers_otherwise_is_found(folder: Path) -> None:
    def turn(model: onnx.ModelProto) -> None:
        weight = next(weight for weight in model.graph.initializer if weight.name == "w")
        turned = onnx.numpy_helper.to_array(weight)[:, ::-1].copy()
        weight.CopyFrom(onnx.numpy_helper.from_array(turned, "w"))

    _resealed(folder, VISUAL, turn)
    assert _kinds(folder) == [("canary", MANIFEST)]


@pytest.mark.parametrize("content", [b"", b"{}", b"[" * 3000, b'{"name": 1}'])
def test_a_manifest_that_says_nothing_is_found(folder: Path, content: bytes) -> None:
    (folder / MANIFEST).write_bytes(content)
    assert set(_kinds(folder)) == {("manifest", MANIFEST)}


def test_the_list_shows_broken_bundles_with_their_reason(tmp_path: Path) -> None:
    toy_bundle(tmp_path / "a" / "sound")
    broken = toy_bundle(tmp_path / "b" / "broken").folder
    (broken / VISUAL).write_bytes(b"")
    sound, other = list_bundles([tmp_path / "a", tmp_path / "b", tmp_path / "none"])
    assert (sound.folder.name, sound.problem) == ("sound", "")
    assert sound.bundle is not None
    assert other.bundle is None
    assert VISUAL in other.problem


def test_a_bundle_is_found_by_name_and_by_path(tmp_path: Path) -> None:
    folder = toy_bundle(tmp_path / "mine").folder
    assert find_bundle("mine", [tmp_path]) == folder
    assert find_bundle(str(folder), []) == folder
    with pytest.raises(Unknown, match="no bundle 'other'"):
        find_bundle("other", [tmp_path])


def test_the_bench_times_each_batch_and_the_texts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from models.bundle import load_bundle

    monkeypatch.setattr("models.engines.pace._SECONDS_EACH", 0.0)
    paces = list(bench(load_bundle(folder), threads=1))
    assert [(pace.tower, pace.batch) for pace in paces] == [
        ("image", 1),
        ("image", 4),
        ("image", 8),
        ("image", 16),
        ("text", 1),
    ]
    assert all(np.isfinite(pace.per_second) and pace.per_second > 0 for pace in paces)
