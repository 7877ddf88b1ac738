"""Colours: which a text names, and which a picture shows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.bundle import COLOURS as COLOURS_FILE
from models.bundle import Bundle
from models.colours import ColourWords
from models.detector import Detector
from models.engines.canary import canary_texts, tokenizer_of
from models.engines.engine import Engine
from models.engines.opening import open_engine
from models.making.colours import COLOUR_WORDS, COLOURS
from models.preprocess import Pixels, fitted
from models.tokens import TextTokenizer
from proto.errors import Broken
from proto.types import Vector, Vectors
from tests.models.detectors import toy_config

ROAD = (112, 112, 116)
PAINTS = {
    "black": (22, 22, 24),
    "white": (238, 238, 236),
    "red": (190, 24, 28),
    "orange": (236, 122, 24),
    "yellow": (236, 204, 40),
    "green": (36, 132, 52),
    "blue": (40, 80, 180),
    "turquoise": (36, 168, 164),
    "purple": (112, 52, 156),
    "pink": (232, 128, 172),
    "brown": (104, 62, 32),
}


@pytest.fixture(scope="module")
def words() -> ColourWords:
    return ColourWords(COLOUR_WORDS)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("a red truck at the gate", "red"),
        ("RED, white... and blue!", "white red blue"),
        ("a woman in a long grey cardigan", "grey"),
        ("ein Arbeiter mit gelbem Helm und oranger Weste", "orange yellow"),
        ("ein Mann im dunkelblauen Mantel", "blue"),
        ("ein dunkelblaues Auto", "blue"),
        ("una bicicleta turquesa", "turquoise"),
        ("eine Frau mit langen schwarzen Haaren", "black"),
        ("un hombre con camisa roja y pantalón corto blanco", "white red"),
        ("une voiture verte", "green"),
        ("um carro vermelho", "red"),
        ("una macchina gialla", "yellow"),
        ("een witte bestelwagen", "white"),
        ("чёрная машина у ворот", "black"),
        ("красного цвета", "red"),
        ("czerwony samochód", "red"),
        ("niebieskie drzwi", "blue"),
        ("kırmızı bir araba", "red"),
        ("سيارة حمراء", "red"),
        ("السيارة البيضاء", "white"),
        ("一辆蓝色的汽车", "blue"),
        ("戴黄色安全帽、穿橙色背心的工人", "orange yellow"),
        ("赤い車", "red"),
        ("黒いスーツの男性", "black"),
        ("검은 옷을 입은 남자", "black"),
        ("빨간색 트럭", "red"),
        ("ชายในชุดสูทสีดำ", "black"),
        ("kırmızılı kadın", "red"),
        ("niebieskiego samochodu", "blue"),
        ("szarego kota", "grey"),
        ("dois carros brancos", "white"),
        # No colours.
        ("a truck", ""),
        ("somebody bored reads", ""),
        ("blackboard, whiteboard, redirect", ""),
        ("白天的街道", ""),
        ("一个青年在红绿灯前", ""),
        ("Rotor, Weißwein, Grünanlage", ""),
        ("белка на дереве", ""),
        ("verdad", ""),
        ("a branch on the road, branches", ""),
        ("голуби на площади", ""),
        ("sarılan iki kişi", ""),
        ("赤ちゃんを抱いた人", ""),
        ("黑夜里的棕榈树", ""),
    ],
)
def test_a_text_names_colours_in_any_language(words: ColourWords, text: str, named: str) -> None:
    assert [words.names[number] for number in words(text)] == sorted(named.split(), key=words.names.index)


def test_words_and_pictures_number_the_colours_alike(words: ColourWords) -> None:
    assert words.names == COLOURS


@pytest.mark.parametrize(
    "content", ["", "{}", '{"ignored": [], "colours": {}}', '{"ignored": [], "colours": {"red": 1}}']
)
def test_a_damaged_list_of_words_never_serves(tmp_path: Path, content: str) -> None:
    file = tmp_path / "colours.json"
    file.write_text(content)

    with pytest.raises(Broken) as met:
        ColourWords(file)

    assert met.value.todo


def test_an_object_has_the_colours_of_its_crop_however_sure_the_detector_is() -> None:
    config = toy_config(colours=2)
    detector = Detector(Path("none"), config, np.array([[1, 0, 0, 0], [0, 1, 0, 0]], np.float32))
    crop = np.array([0.0, 0.954, 0.3, 0.0], np.float32)

    for score in (0.0, 0.5, 1.0):
        vector = detector.vector(config.kinds[0], score, crop)
        assert vector[2:] == pytest.approx([0.3, 0.0])
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-3)


@pytest.fixture(scope="module")
def engine(builtin: Bundle) -> Engine:
    return open_engine(builtin)


def texts(engine: Engine, builtin: Bundle, *asked: str) -> Vectors:
    return engine.embed_texts(*canary_texts(tokenizer_of(builtin), list(asked)))


def pictures(engine: Engine, builtin: Bundle, *shown: Pixels) -> Vectors:
    taken = np.empty((len(shown), 3, *builtin.preprocess.size), np.float32)
    for pixels, out in zip(shown, taken, strict=True):
        fitted(pixels, builtin.preprocess, out)
    return engine.embed_images(taken)


def thing(paint: tuple[int, int, int], height: int = 200, width: int = 160, light: float = 1.0) -> Pixels:
    """A ball of this paint on a road, with noise, as a crop shows it."""
    y, x = np.mgrid[:height, :width]
    ball = ((y - height / 2) / (0.36 * height)) ** 2 + ((x - width / 2) / (0.36 * width)) ** 2 < 1
    pixels = np.where(ball[:, :, None], np.array(paint), np.array(ROAD)).astype(np.float64) * light
    noise = np.random.default_rng(1).normal(0, 4, pixels.shape)
    return np.clip(pixels + noise, 0, 255).astype(np.uint8)


def shown(vector: Vector) -> dict[str, float]:
    numbers = vector[-len(COLOURS) :]
    return {name: float(number) for name, number in zip(COLOURS, numbers, strict=True) if number > 0.05}


@pytest.mark.long
@pytest.mark.parametrize("light", [1.0, 0.7])
def test_a_crop_shows_the_colour_of_the_thing_in_its_middle(builtin: Bundle, engine: Engine, light: float) -> None:
    vectors = pictures(engine, builtin, *(thing(paint, light=light) for paint in PAINTS.values()))

    for name, vector in zip(PAINTS, vectors, strict=True):
        found = shown(vector)
        if light == 1.0 or name not in ("white", "orange", "pink"):  # in less light these are other colours
            assert max(found, key=found.__getitem__) == name, (name, found)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-4)


@pytest.mark.long
@pytest.mark.parametrize("shape", [(120, 300), (300, 120), (720, 1280), (40, 400)])
def test_what_is_the_same_all_over_has_no_colour(builtin: Bundle, engine: Engine, shape: tuple[int, int]) -> None:
    height, width = shape
    walls = [np.full((height, width, 3), paint, np.uint8) for paint in PAINTS.values()]

    for vector in pictures(engine, builtin, *walls):
        assert shown(vector) == {}


@pytest.mark.long
def test_the_colour_that_was_asked_for_comes_first_and_other_questions_are_as_before(
    builtin: Bundle, engine: Engine
) -> None:
    balls = dict(zip(PAINTS, pictures(engine, builtin, *(thing(paint) for paint in PAINTS.values())), strict=True))
    for name in PAINTS:
        question = texts(engine, builtin, f"a {name} ball")[0]
        scores = {other: float(question @ vector) for other, vector in balls.items()}
        assert max(scores, key=scores.__getitem__) == name, (name, scores)

    plain, red, rot = texts(engine, builtin, "a ball", "a red ball", "ein roter Ball")
    assert shown(plain) == {}
    assert list(shown(red)) == list(shown(rot)) == ["red"]


@pytest.mark.long
def test_a_colour_is_no_part_of_what_a_text_means(builtin: Bundle, engine: Engine, tmp_path: Path) -> None:
    """The text tower reads the same tokens as one without colours, alone and beside a text of other length."""
    plain = tmp_path / "tokenizer.json"
    plain.write_bytes(builtin.tokenizer.read_bytes())
    without = TextTokenizer(plain, window=builtin.text_window, fixed=builtin.text_fixed)
    asked = ["a red truck at the gate", "ein blau-weißer Bus, der an der roten Ampel steht"]
    known = len(COLOURS)

    alone = [texts(engine, builtin, one)[0] for one in asked]
    together = texts(engine, builtin, *asked)
    meant = engine.embed_texts(*canary_texts(without, asked))

    for one, beside, meaning in zip(alone, together, meant, strict=True):
        assert np.allclose(one, beside, atol=1e-5)
        assert np.allclose(meaning[-known:], 0)
        assert float(one[:-known] @ meaning[:-known]) == pytest.approx(np.linalg.norm(one[:-known]), abs=1e-4)
    assert list(shown(alone[1])) == ["white", "red", "blue"]


@pytest.mark.long
def test_vectors_have_an_even_number_of_numbers(builtin: Bundle) -> None:
    """The index in a folder compresses them two by two; it would take twice the work for an odd one."""
    assert builtin.dimension % 2 == 0


@pytest.mark.long
def test_another_list_of_words_is_another_space(builtin: Bundle, tmp_path: Path) -> None:
    assert COLOURS_FILE in builtin.manifest.files
    other = builtin.manifest.model_copy(update={"files": builtin.manifest.files | {COLOURS_FILE: "0" * 64}})
    bundle = Bundle(builtin.folder, other, builtin.preprocess, builtin.text_window, builtin.text_fixed)
    same = Bundle(builtin.folder, builtin.manifest, builtin.preprocess, builtin.text_window, builtin.text_fixed)

    assert bundle.space.id != same.space.id
