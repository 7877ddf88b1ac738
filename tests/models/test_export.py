from __future__ import annotations

import importlib.util
import io
import json
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from PIL import Image, ImageDraw, ImageFilter
from safetensors.torch import save_file

from models.bundle import PREPROCESS, TEXTUAL, TORCH_CONFIG, TORCH_TEXT, TORCH_WEIGHTS, VISUAL, Bundle, load_bundle
from models.choices import Precision
from models.engines.canary import canary_pictures, tokenizer_of
from models.engines.opening import open_engine
from models.making.export import Source, _Textual, _Visual, build_model, export_bundle, find_source
from models.preprocess import Preprocessor
from models.tokens import TextTokenizer
from proto.errors import Broken, Invalid
from tests.models.small import CONFIGS, register_small_towers, write_sentencepiece, write_source, write_wordpiece

pytestmark = pytest.mark.long

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import open_clip
    from open_clip.tokenizer import SimpleTokenizer
    from open_clip.utils import to_2tuple

KINDS = list(CONFIGS)
TEXTS = [
    "a red truck",
    "A   Red\tTRUCK\n at the   gate!!",
    "don't they're I'll we've I'm you'd it's",
    "café naïve Ångström",
    "cafe\u0301",
    "ΟΔΟΣ ΣΟΦΟΣ",
    "İstanbul straße",
    "🚒🔥 fire engine 👩‍👩‍👧‍👦",
    "“curly” ‘quotes’ it’s",
    "ＦＵＬＬ ｗｉｄｔｈ",
    "ﬁne ﬂag",
    "&amp;lt;b&gt; &quot;x&quot; &#39;y&#39; &#x27;z&#X27; &eacute; &amp;amp;",
    "AT&T R&D a &not b",
    "<b>bold</b>",
    "3.14159 100,000",
    "word " * 200,
    "こんにちは 世界 中文 العربية שלום",
    "snake_case_word",
    "x\u200by\u00a0z",
    "foo@bar.com http://x.y/z?a=1&b=2",
    "\ufeffmark",
    "²½¼ ① Ⅷ",
]
needs_transformers = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None, reason="transformers, the reference here, is not installed"
)


@pytest.fixture(scope="module", autouse=True)
def _small_towers() -> None:
    register_small_towers()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[Source, Bundle]]]:
    """Each kind of model, exported once."""
    folder = tmp_path_factory.mktemp("exports")
    words = write_sentencepiece(folder / "words")
    bundles: dict[str, tuple[Source, Bundle]] = {}
    siglip = CONFIGS["siglip2"]
    named = {**siglip, "text_cfg": {**siglip["text_cfg"], "hf_tokenizer_name": str(words)}}
    for kind, config in {**CONFIGS, "siglip2": named}.items():
        source = _settled(write_source(folder / "sources" / kind, config))
        bundles[kind] = (source, _export(source, folder / kind, with_torch=True))
    yield bundles


def _no_hub(repository: str, paths: list[str], folder: Path) -> None:
    raise AssertionError(f"asked the hub for {repository}")


def _source(folder: Path, *, seed: int | None = None, weights: str | None = None) -> Source:
    return find_source(str(folder), weights=weights, seed=seed, cache=folder, fetch=_no_hub)


def _settled(folder: Path) -> Source:
    """Random weights whose batch norms have seen pictures, so that the vectors say something about the picture."""
    model: Any = build_model(_source(folder, seed=7))
    side = max(to_2tuple(model.visual.image_size))
    norms = [part for part in model.visual.modules() if isinstance(part, torch.nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.momentum = None
        norm.train()
    with torch.no_grad():
        for seed in range(4):
            steps = torch.randn((16, 3, side, side), generator=torch.Generator().manual_seed(seed))
            model.visual(steps.cumsum(3).cumsum(2) / 30)
    save_file({name: values.clone() for name, values in model.state_dict().items()}, folder / "weights.safetensors")
    return _source(folder)


def _export(source: Source, target: Path, *, with_torch: bool = False) -> Bundle:
    said: list[str] = []
    return export_bundle(
        source, target, licence="none", cache=target.parent, fetch=_no_hub, say=said.append, with_torch=with_torch
    )


def _pictures(bundle: Bundle, count: int) -> torch.Tensor:
    return torch.rand((count, 3, *bundle.preprocess.size), generator=torch.Generator().manual_seed(3)) * 2 - 1


def _scene(width: int, height: int) -> Image.Image:
    """A picture with edges and gradients."""
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([x * 200 // width, y * 200 // height, 90 + 80 * np.sin((x + y) * 9 / width)], axis=2)
    image = Image.fromarray(pixels.astype(np.uint8))
    ImageDraw.Draw(image).ellipse((width // 4, height // 4, width // 2, height // 2), fill=(230, 40, 30))
    return image.filter(ImageFilter.GaussianBlur(2))  # no lens draws an edge of one pixel


@pytest.mark.parametrize("kind", KINDS)
def test_both_towers_answer_as_open_clip_does_at_any_batch(kind: str, made: dict[str, tuple[Source, Bundle]]) -> None:
    source, bundle = made[kind]
    model, engine = build_model(source), open_engine(bundle)
    for count in (1, 3, 5):
        pictures = _pictures(bundle, count)
        ids = torch.randint(1, 190, (count, bundle.text_window), generator=torch.Generator().manual_seed(count))
        with torch.no_grad():
            images, texts = _Visual(model)(pictures).numpy(), _Textual(model)(ids).numpy()
        mask = np.ones_like(ids.numpy())
        assert (engine.embed_images(pictures.numpy()) * images).sum(axis=1).min() >= 0.9999
        assert (engine.embed_texts(ids.numpy(), mask) * texts).sum(axis=1).min() >= 0.9999
    engine.close()


@pytest.mark.parametrize(("precision", "least"), [("fp32", 0.9999), ("bf16", 0.99)])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_that_is_exported_opens_in_torch_and_gives_the_same_vectors(
    kind: str, precision: Precision, least: float, made: dict[str, tuple[Source, Bundle]]
) -> None:
    bundle = made[kind][1]
    engines = [open_engine(bundle), open_engine(bundle, engine="torch", precision=precision)]
    ids = np.random.default_rng(1).integers(1, 190, (3, bundle.text_window))
    images = [engine.embed_images(canary_pictures(bundle.preprocess, engine.abilities.numbers)) for engine in engines]
    texts = [engine.embed_texts(ids, np.ones_like(ids)) for engine in engines]
    assert np.sum(images[0] * images[1], axis=1).min() >= least
    assert np.sum(texts[0] * texts[1], axis=1).min() >= least
    assert np.allclose(np.linalg.norm([*images[1], *texts[1]], axis=1), 1, atol=1e-5)
    for engine in engines:
        engine.close()


def test_the_space_is_the_same_with_and_without_weights_for_torch(tmp_path: Path) -> None:
    source = _source(write_source(tmp_path / "model", CONFIGS["clip"]), seed=7)
    plain, more = _export(source, tmp_path / "plain"), _export(source, tmp_path / "more", with_torch=True)
    assert plain.space == more.space
    assert plain.torch is None
    assert more.manifest.files.keys() - plain.manifest.files.keys() == {TORCH_CONFIG, TORCH_WEIGHTS}


@pytest.mark.parametrize("kind", KINDS)
def test_a_jpeg_becomes_the_vector_that_open_clip_gives_it(kind: str, made: dict[str, tuple[Source, Bundle]]) -> None:
    source, bundle = made[kind]
    model, engine = build_model(source), open_engine(bundle)
    config = open_clip.get_model_preprocess_cfg(model)
    transform = open_clip.transform.image_transform_v2(open_clip.transform.PreprocessCfg(**config), is_train=False)
    prepare = Preprocessor(bundle.preprocess, max_bytes=2**20, max_pixels=10**7)
    for size in ((640, 480), (97, 211)):
        file = io.BytesIO()
        _scene(*size).save(file, "JPEG", quality=90)
        with torch.no_grad():
            wanted = _Visual(model)(transform(Image.open(file))[None]).numpy()[0]
        found = engine.embed_images(prepare(file.getvalue())[None])[0]
        assert float(found @ wanted) >= 0.999
    engine.close()


def test_towers_are_single_files_that_end_in_unit_vectors(made: dict[str, tuple[Source, Bundle]]) -> None:
    import onnxruntime

    for _, bundle in made.values():
        session = onnxruntime.InferenceSession(bundle.visual, providers=["CPUExecutionProvider"])
        (raw,) = session.run(None, {"image": _pictures(bundle, 2).numpy()})
        assert np.allclose(np.linalg.norm(raw, axis=1), 1, atol=1e-5)
        for tower in (VISUAL, TEXTUAL):
            model = onnx.load(bundle.folder / tower, load_external_data=False)
            assert [entry.version for entry in model.opset_import] == [17]
            assert not [weight for weight in model.graph.initializer if weight.external_data]


def test_preprocessing_is_written_as_open_clip_says_it(tmp_path: Path) -> None:
    given = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.5, 0.5], "interpolation": "bilinear", "resize_mode": "squash"}
    source = _source(write_source(tmp_path / "model", CONFIGS["clip"], given), seed=1)
    bundle = _export(source, tmp_path / "bundle")
    assert json.loads((bundle.folder / PREPROCESS).read_text()) == {
        "size": [64, 64],
        "mode": "RGB",
        "fill_color": 0,
        **given,
    }


@pytest.mark.parametrize("text", TEXTS)
def test_clip_texts_become_the_same_tokens(text: str, made: dict[str, tuple[Source, Bundle]]) -> None:
    tokenizer = tokenizer_of(made["clip"][1])
    ids, _ = tokenizer.padded([tokenizer(text)])
    assert ids.tolist() == SimpleTokenizer(context_length=77)([text]).tolist()


@needs_transformers
@pytest.mark.parametrize("clean", ["canonicalize", "whitespace", "lower"])
@pytest.mark.parametrize("kind", ["sentencepiece", "wordpiece"])
def test_published_tokenizers_give_the_same_tokens(kind: str, clean: str, tmp_path: Path) -> None:
    from models.making.vocabulary import published_tokenizer

    folder = {"sentencepiece": write_sentencepiece, "wordpiece": write_wordpiece}[kind](tmp_path / "words")
    strip = kind == "wordpiece"
    options = {"clean": clean, "strip_sep_token": strip}
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    config = {"context_length": 24, "hf_tokenizer_name": str(folder), "tokenizer_kwargs": options}
    made = tmp_path / "tokenizer.json"
    published_tokenizer((folder / "tokenizer.json").read_bytes(), settings, config).save(str(made))
    ours = TextTokenizer(made, window=24, fixed=True)
    theirs = open_clip.tokenizer.HFTokenizer(str(folder), context_length=24, clean=clean, strip_sep_token=strip)
    for text in TEXTS:
        ids, _ = ours.padded([ours(text)])
        assert ids.tolist() == theirs([text]).tolist(), text


@needs_transformers
def test_a_multilingual_text_tower_answers_as_open_clip_does(tmp_path: Path) -> None:
    tower = write_wordpiece(tmp_path / "xlmr")
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    places = {"vocab_size": 200, "max_position_embeddings": 80, "pad_token_id": 0, "type_vocab_size": 1}
    (tower / "config.json").write_text(json.dumps({"model_type": "xlm-roberta", **sizes, **places}))
    text = {
        "hf_model_name": str(tower),
        "hf_tokenizer_name": str(tower),
        "hf_pooler_type": "mean_pooler",
        "context_length": 32,
    }
    config = {"embed_dim": 32, "vision_cfg": CONFIGS["clip"]["vision_cfg"], "text_cfg": {**text, "hf_proj_type": "mlp"}}
    source = _source(write_source(tmp_path / "model", config), seed=2)
    bundle = _export(source, tmp_path / "bundle", with_torch=True)
    reference = build_model(source)
    shutil.rmtree(tower)  # neither engine needs what the export needed
    tokenizer, engine, torch_engine = tokenizer_of(bundle), open_engine(bundle), open_engine(bundle, engine="torch")
    ids, mask = tokenizer.padded([tokenizer("a red truck"), tokenizer("the café's front door is open")])
    with torch.no_grad():
        wanted = _Textual(reference)(torch.from_numpy(ids)).numpy()
    for opened in (engine, torch_engine):
        assert (opened.embed_texts(ids, mask) * wanted).sum(axis=1).min() >= 0.9999
        opened.close()
    assert str(tmp_path) not in (bundle.folder / TORCH_TEXT).read_text()


def test_the_same_seed_gives_the_same_space(tmp_path: Path) -> None:
    folder = write_source(tmp_path / "model", CONFIGS["clip"])
    first, again, other = (
        _export(_source(folder, seed=seed), tmp_path / name)
        for seed, name in ((7, "first"), (7, "again"), (8, "other"))
    )
    assert first.space == again.space != other.space


def test_weights_are_read_from_a_safetensors_file(tmp_path: Path) -> None:
    folder = write_source(tmp_path / "model", CONFIGS["clip"])
    model = build_model(_source(folder, seed=11))
    save_file(
        {name: values.contiguous() for name, values in model.state_dict().items()}, folder / "weights.safetensors"
    )
    found, drawn = _export(_source(folder), tmp_path / "found"), _export(_source(folder, seed=11), tmp_path / "drawn")
    assert found.manifest.canary == drawn.manifest.canary


@pytest.mark.parametrize("name", ["weights.pt", "weights.bin", "weights.pth", "weights.npz"])
def test_a_pickle_is_refused_before_it_is_opened(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"\x80\x04.")
    folder = write_source(tmp_path / "model", CONFIGS["clip"])
    with pytest.raises(Invalid, match="may run a program"):
        _source(folder, weights=str(tmp_path / name))


def test_weights_published_as_a_pickle_only_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_clip, "get_pretrained_cfg", lambda model, tag: {"url": "https://host/weights.pt"})
    with pytest.raises(Invalid, match="pickle only"):
        find_source("ViT-B-32", weights="some-tag", seed=None, cache=tmp_path, fetch=_no_hub)


def test_a_tag_is_fetched_as_safetensors_and_nothing_else(tmp_path: Path) -> None:
    asked: list[Any] = []
    tag = "laion2b_s34b_b79k"
    source = find_source("ViT-B-32", weights=tag, seed=None, cache=tmp_path, fetch=lambda *call: asked.append(call))
    assert [(repository, paths) for repository, paths, _ in asked] == [
        ("laion/CLIP-ViT-B-32-laion2B-s34B-b79K", ["open_clip_model.safetensors"])
    ]
    assert source.weights is not None
    assert source.weights.name == "open_clip_model.safetensors"


def test_an_unknown_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="no model 'ViT-Z'"):
        find_source("ViT-Z", weights=None, seed=1, cache=tmp_path, fetch=_no_hub)


def test_weights_of_another_model_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    folder = write_source(tmp_path / "model", CONFIGS["clip"])
    save_file({"logit_scale": torch.zeros(1)}, folder / "weights.safetensors")
    with pytest.raises(Broken, match="open_clip cannot build"):
        _export(_source(folder), tmp_path / "bundles" / "mine")
    assert not list((tmp_path / "bundles").glob("*")) if (tmp_path / "bundles").exists() else True


def test_a_tower_that_one_file_cannot_hold_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.making.export._MOST_BYTES", 1000)
    source = _source(write_source(tmp_path / "model", CONFIGS["clip"]), seed=1)
    with pytest.raises(Invalid, match="more than one ONNX file can hold"):
        _export(source, tmp_path / "bundles" / "mine")
    assert list((tmp_path / "bundles").iterdir()) == []


def test_an_export_never_writes_over_what_is_there(made: dict[str, tuple[Source, Bundle]]) -> None:
    source, bundle = made["clip"]
    with pytest.raises(Invalid, match="already there"):
        _export(source, bundle.folder)
    assert load_bundle(bundle.folder).space == bundle.space
