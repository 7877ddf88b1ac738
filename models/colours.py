"""The colours that a text names, where a bundle's pictures say what colours they show.

`textual/colours.json`, an optional file of a bundle, lists the words of each colour. A named colour becomes one more
token at the end of the text, which the attention mask does not count: the first colour has the first id beyond the
tokenizer's vocabulary. The text tower makes the last numbers of its vector from these tokens, and the image tower the
last numbers of its own from what the picture shows.
"""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from proto.errors import Broken

_UNSPACED = re.compile(r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
"""Scripts whose words are not set apart by spaces, or carry endings of any length: Thai, Japanese, Chinese, Korean."""
_ENDING = r"\w{0,3}"
_BEFORE = r"(?:ال|dunkel|hell)?"
"""What may stand before a word, and be part of it."""


class _ColoursFile(BaseModel):
    """`textual/colours.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ignored: list[str]
    """Expressions that hold a colour's word and name no colour."""
    colours: dict[str, list[str]] = Field(min_length=1, max_length=100)
    """The words of each colour, in the order of the vector's numbers. `-` at the end: and any ending of up to three
    letters. A word of a script without spaces is found anywhere."""


class ColourWords:
    """Finds colours in texts."""

    def __init__(self, path: Path) -> None:
        try:
            file = _ColoursFile.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise Broken(
                f"{path.name} does not list the words of colours: {error}", todo="get the bundle again"
            ) from error
        self.names = tuple(file.colours)
        self._ignored = _any_of([re.escape(_plain(words)) for words in file.ignored])
        self._patterns = [_any_of([_pattern(_plain(word)) for word in words]) for words in file.colours.values()]

    def __call__(self, text: str) -> tuple[int, ...]:
        """The numbers of the colours that the text names."""
        plain = self._ignored.sub(" ", _plain(text))
        return tuple(number for number, pattern in enumerate(self._patterns) if pattern.search(plain))


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def _pattern(word: str) -> str:
    if _UNSPACED.match(word):
        return re.escape(word)
    ending = _ENDING if word.endswith("-") else ""
    return rf"\b{_BEFORE}{re.escape(word.removesuffix('-'))}{ending}\b"


def _any_of(patterns: list[str]) -> re.Pattern[str]:
    return re.compile("|".join(patterns) or r"(?!)")
