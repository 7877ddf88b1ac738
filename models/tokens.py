"""Turns texts into the text model's input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from numpy.typing import NDArray

from models.colours import ColourWords
from proto.errors import Broken, Poison

MOST_CHARACTERS = 2000
COLOURS_FILE = "colours.json"
"""Beside the tokenizer's file, where the towers know colours."""

Ids = NDArray[np.int64]
"""Token ids or their mask: (texts, tokens)."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """One tokenised text."""

    ids: tuple[int, ...]
    truncated: bool
    """Whether the text was longer than the model's window."""
    colours: tuple[int, ...] = ()
    """Ids of the colours that the text names (models/colours.py)."""


class TextTokenizer:
    """The tokenizer of one bundle. Thread-safe."""

    def __init__(self, path: Path, *, window: int, fixed: bool) -> None:
        """`window` is the most tokens the model sees; `fixed` pads every text to it."""
        try:
            self._tokenizer = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception
            raise Broken(f"{path.name} is no tokenizer: {error}", todo="get the bundle again") from error
        padding: dict[str, Any] = self._tokenizer.padding or {}
        self._pad_id = int(padding.get("pad_id", 0))
        self._window = window
        self._fixed = fixed
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(window)
        self._special = self._tokenizer.num_special_tokens_to_add(is_pair=False)
        colours = path.with_name(COLOURS_FILE)
        self._colours = ColourWords(colours) if colours.is_file() else None
        if self._colours and fixed:
            raise Broken(f"{COLOURS_FILE} needs a text tower for texts of any length", todo="get the bundle again")
        self._first_colour = self._tokenizer.get_vocab_size()

    def __call__(self, text: str) -> Tokens:
        """The text's tokens; Poison when a model cannot read it."""
        if len(text) > MOST_CHARACTERS:
            raise Poison(
                "text_too_long", f"the text has {len(text):,} characters", todo=f"use {MOST_CHARACTERS:,} at most"
            )
        if not text.strip():
            raise Poison("text_empty", "the text says nothing", todo="write what to look for")
        if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
            raise Poison("text_invalid", "the text holds a character that no text has", todo="send plain text")
        encoding = self._tokenizer.encode(text)
        if len(encoding.ids) <= self._special:
            raise Poison("text_empty", "the text holds only invisible characters", todo="write what to look for")
        named = self._colours(text) if self._colours else ()
        colours = tuple(self._first_colour + colour for colour in named)
        return Tokens(tuple(encoding.ids), truncated=bool(encoding.overflowing), colours=colours)

    def padded(self, texts: Sequence[Tokens]) -> tuple[Ids, Ids]:
        """Ids and mask of several texts, as one rectangle."""
        length = self._window if self._fixed else max(len(text.ids) + len(text.colours) for text in texts)
        ids = np.full((len(texts), length), self._pad_id, np.int64)
        mask = np.zeros((len(texts), length), np.int64)
        for row, text in enumerate(texts):
            ids[row, : len(text.ids)] = text.ids
            ids[row, len(text.ids) : len(text.ids) + len(text.colours)] = text.colours
            mask[row, : len(text.ids)] = 1
        return ids, mask
