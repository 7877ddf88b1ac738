from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from models.bundle import MANIFEST, PREPROCESS, TEXTUAL, TORCH_CONFIG, TORCH_WEIGHTS, VISUAL, file_digest, load_bundle
from models.engines.canary import tokenizer_of
from models.engines.opening import open_engine
from models.engines.ort import OrtEngine
from models.making.hub import fetch
from models.making.pull import pull_bundle
from models.making.sealing import seal
from models.making.verifying import verify
from proto.errors import Broken, Denied, Invalid, Transient, Unknown
from tests.models.hub import REPOSITORY, REVISION, LocalHub, local_hub
from tests.models.toy import toy_bundle, toy_folder


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[LocalHub]:
    with local_hub(toy_folder(tmp_path / "published")) as running:
        yield running


def _pull(hub: LocalHub, target: Path) -> None:
    pull_bundle(REPOSITORY, target, say=lambda _: None, endpoint=hub.address)


def test_a_published_model_becomes_a_sealed_bundle(hub: LocalHub, tmp_path: Path) -> None:
    _pull(hub, tmp_path / "bundles" / "toy")
    bundle = load_bundle(tmp_path / "bundles" / "toy")
    assert (bundle.name, bundle.licence, bundle.dimension) == ("toy", "mit", 16)
    assert bundle.manifest.provenance[0] == f"the hub's {REPOSITORY}, revision {REVISION}"
    assert any(file_digest(hub.folder / VISUAL) in line for line in bundle.manifest.provenance)
    assert verify(bundle.folder) == []
    assert [path.name for path in (tmp_path / "bundles").iterdir()] == ["toy"]


def test_a_bundle_of_ours_is_taken_with_its_own_manifest(tmp_path: Path) -> None:
    published = toy_bundle(tmp_path / "published")
    with local_hub(published.folder) as hub:
        _pull(hub, tmp_path / "toy")
    assert load_bundle(tmp_path / "toy").manifest == published.manifest


def test_weights_for_torch_that_a_manifest_names_come_along(tmp_path: Path) -> None:
    folder = toy_bundle(tmp_path / "published").folder
    (folder / TORCH_CONFIG).parent.mkdir()
    (folder / TORCH_CONFIG).write_text("{}")
    (folder / TORCH_WEIGHTS).write_bytes(b"weights")
    (folder / MANIFEST).unlink()
    published = seal(folder, name="toy", licence="none", provenance=["made in a test"])
    with local_hub(folder) as hub:
        _pull(hub, tmp_path / "toy")
    assert load_bundle(tmp_path / "toy").manifest == published.manifest
    assert (tmp_path / "toy" / TORCH_WEIGHTS).read_bytes() == b"weights"


def test_a_tower_for_one_item_at_a_time_takes_many_and_answers_the_same(tmp_path: Path) -> None:
    with local_hub(toy_folder(tmp_path / "published", batch=1)) as hub:
        _pull(hub, tmp_path / "toy")
    bundle = load_bundle(tmp_path / "toy")
    engine = open_engine(bundle)
    published = OrtEngine(tmp_path / "published" / VISUAL, tmp_path / "published" / TEXTUAL, threads=1)
    pictures = np.random.default_rng(0).normal(size=(5, 3, 32, 32)).astype(np.float32)
    one_by_one = np.concatenate([published.embed_images(picture[None]) for picture in pictures])
    assert np.allclose(engine.embed_images(pictures), one_by_one, atol=1e-5)
    tokenizer = tokenizer_of(bundle)
    ids, mask = tokenizer.padded([tokenizer("a red truck"), tokenizer("two dogs"), tokenizer("the gate")])
    one_by_one = np.concatenate([published.embed_texts(ids[row : row + 1], mask[row : row + 1]) for row in range(3)])
    assert np.allclose(engine.embed_texts(ids, mask), one_by_one, atol=1e-5)


def test_an_interrupted_fetch_goes_on_where_it_stopped(hub: LocalHub, tmp_path: Path) -> None:
    block = 1024 * 1024
    (hub.folder / VISUAL).write_bytes(os.urandom(5 * block))
    hub.cut_after[VISUAL] = 2 * block + 1000
    with pytest.raises(Transient, match=r"stopped answering|failed"):
        fetch(REPOSITORY, [VISUAL], tmp_path / "got", endpoint=hub.address)
    fetched = fetch(REPOSITORY, [VISUAL], tmp_path / "got", endpoint=hub.address)
    assert fetched.digests == {VISUAL: file_digest(hub.folder / VISUAL)}
    assert file_digest(tmp_path / "got" / VISUAL) == file_digest(hub.folder / VISUAL)
    assert hub.sent[VISUAL] == 5 * block + 1000  # only the block that was broken off came twice


@pytest.mark.parametrize("path", [VISUAL, PREPROCESS])
def test_a_file_with_a_wrong_checksum_is_refused_and_removed(hub: LocalHub, tmp_path: Path, path: str) -> None:
    right = (hub.folder / path).read_bytes()
    hub.other_content[path] = right[:-1] + bytes([right[-1] ^ 1])
    with pytest.raises(Broken, match="checksum"):
        _pull(hub, tmp_path / "toy")
    assert not (tmp_path / "toy").exists()
    hub.other_content.clear()
    _pull(hub, tmp_path / "toy")
    assert load_bundle(tmp_path / "toy").dimension == 16


def test_only_files_of_a_bundle_are_asked_for(hub: LocalHub, tmp_path: Path) -> None:
    for stray in ("pytorch_model.bin", "visual/model.onnx.data", "run.py"):
        (hub.folder / stray).write_bytes(b"\x80\x04.")
    _pull(hub, tmp_path / "toy")
    assert not [path for path in hub.asked if path.endswith((".bin", ".data", ".py"))]


@pytest.mark.parametrize("path", ["model.pt", "weights.bin", "../config.json", "/etc/passwd.json"])
def test_a_pickle_or_a_path_that_leads_out_is_never_fetched(path: str, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="is not fetched"):
        fetch(REPOSITORY, [path], tmp_path, endpoint="http://127.0.0.1:9")


def test_a_model_with_weights_in_other_files_is_refused(hub: LocalHub, tmp_path: Path) -> None:
    import onnx

    model = onnx.load(hub.folder / VISUAL)
    weight = model.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = onnx.TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="model.onnx.data")
    (hub.folder / VISUAL).write_bytes(model.SerializeToString())
    with pytest.raises(Broken, match="keeps weights in other files"):
        _pull(hub, tmp_path / "toy")
    assert not (tmp_path / "toy").exists()


def test_no_way_out_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(Transient, match="cannot be reached") as caught:
        fetch(REPOSITORY, [VISUAL], tmp_path, endpoint="http://127.0.0.1:9")
    assert "HF_ENDPOINT" in caught.value.todo


@pytest.mark.parametrize(("status", "kind"), [(404, Unknown), (403, Denied), (500, Transient)])
def test_what_the_hub_answers_has_a_name(hub: LocalHub, tmp_path: Path, status: int, kind: type[Exception]) -> None:
    hub.status = status
    with pytest.raises(kind):
        fetch(REPOSITORY, [VISUAL], tmp_path / "got", endpoint=hub.address)


def test_a_repository_that_is_no_bundle_says_what_it_lacks(hub: LocalHub, tmp_path: Path) -> None:
    (hub.folder / TEXTUAL).unlink()
    with pytest.raises(Unknown, match=TEXTUAL):
        _pull(hub, tmp_path / "toy")


def test_a_licence_that_nobody_stated_is_not_invented(hub: LocalHub, tmp_path: Path) -> None:
    hub.licence = None
    _pull(hub, tmp_path / "toy")
    assert "not stated" in load_bundle(tmp_path / "toy").licence


def test_the_hubs_address_is_taken_from_the_environment_and_nothing_is_told(hub: LocalHub, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from models.making.pull import pull_bundle\n"
        f"pull_bundle({REPOSITORY!r}, Path(sys.argv[1]), say=print)\n"
    )
    environment = {**os.environ, "HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "home")}
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", code, str(tmp_path / "toy")]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "toy" / MANIFEST).read_text())["name"] == "toy"
    assert not [path for path in hub.asked if "telemetry" in path]
    assert not [agent for agent in hub.agents if "torch" in agent]
