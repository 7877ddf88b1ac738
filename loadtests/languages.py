"""How well bundles find pictures by questions in several languages: mean average precision by language.

    python -m loadtests.languages /usr/share/tuxpaint/stamps --bundle builtin

The folder is Tux Paint's stamps (Debian package `tuxpaint-stamps-default`: 219 pictures of things, named in English,
German, Spanish and Chinese), or one of your own with a file `set.json`:
`{"pictures": {"a.jpg": ["dog"]}, "questions": [{"labels": ["dog"], "en": "a dog", "de": "ein Hund"}]}`.
With several bundles, each is compared with the first: the mean difference and its 95 % interval over the questions.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.bundle import Bundle, load_bundle
from models.engines.canary import canary_texts, tokenizer_of
from models.engines.opening import open_engine
from models.making.builtin import builtin_bundle
from models.preprocess import Preprocessor
from proto.types import Vectors

LANGUAGES = {"en": "en", "de": "de", "es": "es", "zh": "zh_CN"}
"""Our names of the languages, and Tux Paint's."""
_KINDS = ("animals", "food", "vehicles", "household", "clothes", "plants", "sports", "hobbies", "military")
_LEAST_SIDE = 80
_MOST_SIDE = 600
_GROUND = (190, 200, 190, 255)
_AT_ONCE = 8
_SAMPLES = 10_000

Scores = NDArray[np.float64]
"""The average precision of each question."""


@dataclass(frozen=True, slots=True)
class Question:
    labels: frozenset[str]
    words: dict[str, str]
    """By language."""


@dataclass(frozen=True, slots=True)
class Pictures:
    """JPEGs with what is in them, and questions."""

    pictures: list[bytes]
    labels: list[frozenset[str]]
    questions: list[Question]


def read_set(folder: Path) -> Pictures:
    """The set in `set.json`."""
    told = json.loads((folder / "set.json").read_text())
    files = sorted(told["pictures"])
    questions = [
        Question(frozenset(asked["labels"]), {name: text for name, text in asked.items() if name != "labels"})
        for asked in told["questions"]
    ]
    pictures = [_jpeg(Image.open(folder / file)) for file in files]
    return Pictures(pictures, [frozenset(told["pictures"][file]) for file in files], questions)


def read_stamps(folder: Path) -> Pictures:
    """Tux Paint's stamps; the question for a stamp is its description."""
    found = list(_stamps(folder))
    first = {words["en"]: words for _, words in reversed(found)}
    questions = [Question(frozenset([english]), words) for english, words in first.items()]
    pictures = [_jpeg(Image.open(file)) for file, _ in found]
    return Pictures(pictures, [frozenset([words["en"]]) for _, words in found], questions)


def _stamps(folder: Path) -> Iterator[tuple[Path, dict[str, str]]]:
    for file in sorted(folder.rglob("*.png")):
        told = file.with_suffix(".txt")
        kind = file.relative_to(folder).parts[0]
        if kind not in _KINDS or "cartoon" in str(file) or not told.is_file():
            continue
        first, *others = told.read_text(errors="replace").splitlines()
        texts = {"en": first} | {m[1]: m[2] for line in others if (m := re.match(r"(\w+)\.utf8=(.*)", line))}
        words = {ours: texts.get(theirs, "").strip(" .。！!") for ours, theirs in LANGUAGES.items()}
        with Image.open(file) as opened:
            large = max(opened.size) >= _LEAST_SIDE
        if large and all(words.values()):
            yield file, words


def _jpeg(picture: Image.Image) -> bytes:
    if picture.mode != "RGB":
        picture = picture.convert("RGBA")
        picture.thumbnail((_MOST_SIDE, _MOST_SIDE))
        side = max(picture.size)
        ground = Image.new("RGBA", (side, side), _GROUND)
        ground.alpha_composite(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
        picture = ground.convert("RGB")
    encoded = io.BytesIO()
    picture.save(encoded, "JPEG", quality=92)
    return encoded.getvalue()


def measured(bundle: Bundle, pictures: Pictures) -> dict[str, Scores]:
    """The average precision of each question, by language."""
    engine, tokenizer = open_engine(bundle), tokenizer_of(bundle)
    read = Preprocessor(bundle.preprocess, max_bytes=50_000_000, max_pixels=100_000_000)
    parts = [
        engine.embed_images(np.stack([read(picture) for picture in pictures.pictures[first : first + _AT_ONCE]]))
        for first in range(0, len(pictures.pictures), _AT_ONCE)
    ]
    seen = np.concatenate(parts)
    found = {}
    for language in LANGUAGES:
        asked: list[Vectors] = [
            engine.embed_texts(*canary_texts(tokenizer, [question.words[language]])) for question in pictures.questions
        ]
        scores = np.concatenate(asked) @ seen.T
        found[language] = np.array(
            [
                precision(row, np.array([bool(question.labels & labels) for labels in pictures.labels]))
                for question, row in zip(pictures.questions, scores, strict=True)
            ]
        )
    engine.close()
    return found


def precision(scores: NDArray[np.float32], relevant: NDArray[np.bool_]) -> float:
    """The average precision of one ranking."""
    ranked = relevant[np.argsort(-scores, kind="stable")]
    return float((np.cumsum(ranked) / np.arange(1, len(ranked) + 1))[ranked].mean())


def interval(differences: Scores) -> tuple[float, float]:
    """The 95 % bootstrap interval of the mean."""
    chosen = np.random.default_rng(0).integers(0, len(differences), (_SAMPLES, len(differences)))
    low, high = np.percentile(differences[chosen].mean(axis=1), [2.5, 97.5])
    return float(low), float(high)


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--bundle", "bundles", multiple=True, default=("builtin",), help="`builtin`, or a bundle's folder")
@click.option("--cache", type=click.Path(path_type=Path), default=Path("~/.cache/watchword"))
def main(folder: Path, bundles: tuple[str, ...], cache: Path) -> None:
    """Print the table."""
    pictures = read_set(folder) if (folder / "set.json").is_file() else read_stamps(folder)
    print(f"{len(pictures.pictures)} pictures, {len(pictures.questions)} questions")
    first: dict[str, Scores] = {}
    for name in bundles:
        place = builtin_bundle(cache.expanduser(), print) if name == "builtin" else Path(name)
        found = measured(load_bundle(place), pictures)
        print(f"{place.name:24}", "  ".join(f"{language} {scores.mean():.3f}" for language, scores in found.items()))
        for language, scores in found.items() if first else ():
            low, high = interval(scores - first[language])
            print(f"  {language}: {(scores - first[language]).mean():+.3f} ({low:+.3f} to {high:+.3f})")
        first = first or found


if __name__ == "__main__":
    main()
