from __future__ import annotations

import dataclasses
import functools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.bundle import TORCH_CONFIG, TORCH_WEIGHTS, Bundle, load_bundle
from models.engines.opening import open_engine
from models.making.sealing import seal
from proto.errors import Broken
from tests.models.small import CONFIGS, export
from tests.models.toy import toy_bundle

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return export(tmp_path_factory.mktemp("exports"), CONFIGS["clip"])


def _changed(bundle: Bundle, folder: Path, **model: Any) -> Bundle:
    """The bundle with some of its torch configuration changed, sealed again."""
    shutil.copytree(bundle.folder, folder)
    described = json.loads((folder / TORCH_CONFIG).read_text())
    described["model_cfg"].update(model)
    (folder / TORCH_CONFIG).write_text(json.dumps(described))
    return seal(folder, name="changed", licence="none", provenance=["made in a test"])


@pytest.mark.parametrize(("asked", "got"), [("fp32", "float32"), ("bf16", "bfloat16"), ("fp16", "float32")])
def test_on_a_cpu_it_computes_in_fp32_unless_it_is_asked_for_bf16(bundle: Bundle, asked: Any, got: str) -> None:
    engine = open_engine(bundle, engine="torch", precision=asked)
    assert engine.name == f"torch/cpu/{got}"
    engine.close()


def test_int8_is_not_for_torch(bundle: Bundle) -> None:
    with pytest.raises(Broken, match="does not compute in int8") as met:
        open_engine(bundle, engine="torch", precision="int8")
    assert "bf16" in met.value.todo


def test_a_bundle_without_weights_for_torch_says_how_to_export_them(tmp_path: Path) -> None:
    with pytest.raises(Broken, match="no weights for torch") as met:
        open_engine(toy_bundle(tmp_path / "toy"), engine="torch")
    assert "models export` it with --torch" in met.value.todo


def test_weights_for_torch_that_were_changed_do_not_load(bundle: Bundle, tmp_path: Path) -> None:
    copy = shutil.copytree(bundle.folder, tmp_path / "copy")
    with (copy / TORCH_WEIGHTS).open("ab") as file:
        file.write(b"\0")
    with pytest.raises(Broken, match="is not the file its manifest names"):
        load_bundle(copy)


def test_weights_of_another_training_do_not_pass_the_canary(bundle: Bundle, tmp_path: Path) -> None:
    other = export(tmp_path, CONFIGS["clip"], seed=8)
    copy = shutil.copytree(bundle.folder, tmp_path / "copy")
    shutil.copyfile(other.folder / TORCH_WEIGHTS, copy / TORCH_WEIGHTS)
    mixed = seal(copy, name="mixed", licence="none", provenance=["made in a test"])
    assert mixed.space == bundle.space
    with pytest.raises(Broken, match="other vectors than were recorded"):
        open_engine(mixed, engine="torch")


def test_weights_of_another_model_are_refused(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(Broken, match="open_clip cannot build"):
        open_engine(_changed(bundle, tmp_path / "copy", embed_dim=16), engine="torch")


def test_a_text_tower_that_only_a_hub_describes_is_refused_without_asking_it(bundle: Bundle, tmp_path: Path) -> None:
    changed = _changed(bundle, tmp_path / "copy", text_cfg={"hf_model_name": "owner/tower", "context_length": 77})
    with pytest.raises(Broken, match=r"torch/text/config\.json is missing"):
        open_engine(changed, engine="torch")


def test_a_picture_tower_that_only_a_hub_describes_is_refused_without_asking_it(bundle: Bundle, tmp_path: Path) -> None:
    changed = _changed(bundle, tmp_path / "copy", vision_cfg={"timm_model_name": "hf-hub:owner/tower"})
    with pytest.raises(Broken, match="described on a hub only"):
        open_engine(changed, engine="torch")


def test_auto_leaves_torch_out_where_there_is_no_gpu_and_says_why(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with caplog.at_level("INFO", "watchword.models"):
        engine = open_engine(bundle, engine="auto")
    assert engine.name.startswith("onnxruntime")
    assert "torch: there is no GPU for it, and on a CPU onnxruntime is the faster" in caplog.text
    engine.close()


def test_auto_asks_torch_before_onnxruntime_where_there_is_a_gpu(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("models.engines.torch_engine.cuda_devices", lambda: 1)
    monkeypatch.setattr("models.engines.torch_engine._device", lambda number: torch.device("cpu"))
    engine = open_engine(bundle, engine="auto", precision="fp32")
    assert engine.name == "torch/cpu/float32"
    engine.close()


def test_a_gpu_that_is_not_there_is_named(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.engines.torch_engine.cuda_devices", lambda: 2)
    with pytest.raises(Broken, match="there is no GPU 2 here, they end at 1"):
        open_engine(bundle, engine="torch", device=2)


def test_compiled_towers_give_the_same_vectors(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    # The towers are traced as ever; only the minutes of writing machine code are left out.
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    plain, compiled = (open_engine(bundle, engine="torch", compiled=compiled) for compiled in (False, True))
    assert compiled.name == "torch/cpu/float32/compiled"
    for count in (1, 2, 3):
        pictures = np.random.default_rng(count).integers(0, 256, (count, 3, 64, 64), np.uint8)
        assert np.allclose(compiled.embed_images(pictures), plain.embed_images(pictures), atol=1e-5)
    plain.close()
    compiled.close()


def test_nothing_is_left_of_open_clips_chatter(bundle: Bundle, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG"):
        open_engine(bundle, engine="torch").close()
    assert [record.message for record in caplog.records if record.name == "root"] == []


def test_the_canary_holds_for_torch_as_for_every_engine(bundle: Bundle) -> None:
    canary = bundle.manifest.canary.model_copy(update={"pictures": bundle.manifest.canary.pictures[::-1]})
    turned = dataclasses.replace(bundle, manifest=bundle.manifest.model_copy(update={"canary": canary}))
    with pytest.raises(Broken, match="pictures other vectors"):
        open_engine(turned, engine="torch", precision="bf16")
