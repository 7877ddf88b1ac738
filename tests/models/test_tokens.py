from __future__ import annotations

from pathlib import Path

import pytest

from models.bundle import Bundle
from models.engines.canary import tokenizer_of
from models.tokens import TextTokenizer
from proto.errors import Broken, Poison


@pytest.fixture(scope="module")
def tokenizer(builtin: Bundle) -> TextTokenizer:
    return tokenizer_of(builtin)


# What MiniLM's own tokenizer gives.
KNOWN = {
    "a person riding a bicycle": (101, 1037, 2711, 5559, 1037, 10165, 102),
    "Red TRUCK at the gate!": (101, 2417, 4744, 2012, 1996, 4796, 999, 102),
    "café naïve": (101, 7668, 15743, 102),
    "xoloitzcuintli": (101, 1060, 12898, 8838, 10841, 18447, 3669, 102),
    "😀": (101, 100, 102),
    "רכב": (101, 1265, 29798, 29789, 102),
}


@pytest.mark.parametrize(("text", "ids"), KNOWN.items())
def test_a_text_becomes_the_tokens_that_the_model_was_trained_with(
    tokenizer: TextTokenizer, text: str, ids: tuple[int, ...]
) -> None:
    assert tokenizer(text).ids == ids
    assert not tokenizer(text).truncated


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "text_empty"),
        (" \n\t ", "text_empty"),
        ("\u200b\u200e", "text_empty"),
        ("a\0b", "text_invalid"),
        ("a\ud800", "text_invalid"),
        ("a" * 2001, "text_too_long"),
    ],
)
def test_a_text_that_says_nothing_readable_is_refused(tokenizer: TextTokenizer, text: str, reason: str) -> None:
    with pytest.raises(Poison) as met:
        tokenizer(text)

    assert met.value.reason == reason
    assert met.value.todo


def test_a_text_beyond_the_window_is_cut_and_says_so(tokenizer: TextTokenizer, builtin: Bundle) -> None:
    tokens = tokenizer("truck " * 300)

    assert tokens.truncated
    assert len(tokens.ids) == builtin.text_window
    assert tokens.ids[-1] == 102


def test_texts_of_several_lengths_are_padded_to_the_longest(tokenizer: TextTokenizer) -> None:
    ids, mask = tokenizer.padded([tokenizer("a red truck"), tokenizer("gate")])

    assert ids.shape == mask.shape == (2, 5)
    assert mask.tolist() == [[1] * 5, [1, 1, 1, 0, 0]]
    assert ids[1, 3:].tolist() == [0, 0]


def test_a_model_of_fixed_length_gets_every_text_at_its_window(builtin: Bundle) -> None:
    fixed = TextTokenizer(builtin.tokenizer, window=16, fixed=True)

    ids, mask = fixed.padded([fixed("gate")])

    assert ids.shape == (1, 16)
    assert mask.sum() == 3


def test_a_damaged_tokenizer_is_broken(tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    file.write_text("{}")

    with pytest.raises(Broken, match="no tokenizer"):
        TextTokenizer(file, window=16, fixed=True)
