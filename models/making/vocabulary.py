"""Makes a bundle's `tokenizer.json`, which gives the same tokens as open_clip, without open_clip."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast, get_args

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors

from models.making.cleaning import Clean, cleaning
from proto.errors import Broken, Invalid

_START, _END = "<start_of_text>", "<end_of_text>"
_CLIP_WORDS = 49152 - 256 - 2
"""How many merges of the published list CLIP uses."""
_CLIP_SPLIT = r"<start_of_text>|<end_of_text>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
_CLIP_PADDING = 0
_HANDLED = {"clean", "strip_sep_token"}

TextConfig = Mapping[str, Any]
"""The `text_cfg` of an open_clip configuration."""


def clip_tokenizer(merges: Path, text: TextConfig) -> Tokenizer:
    """CLIP's byte-pair tokenizer from open_clip's vocabulary file."""
    with gzip.open(merges, "rt", encoding="utf-8") as file:
        lines = file.read().split("\n")[1 : _CLIP_WORDS + 1]
    pairs = [(first, second) for first, second in (line.split() for line in lines)]
    letters = _byte_letters()
    words = [
        *letters,
        *(f"{letter}</w>" for letter in letters),
        *(first + second for first, second in pairs),
        _START,
        _END,
    ]
    numbers = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(models.BPE(numbers, pairs, end_of_word_suffix="</w>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_CLIP_SPLIT), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.add_special_tokens([_START, _END])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{_START} $A {_END}", special_tokens=[(_START, numbers[_START]), (_END, numbers[_END])]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return _finished(tokenizer, _clean_of(text, "lower"), _CLIP_PADDING, text)


def published_tokenizer(content: bytes, settings: Mapping[str, Any], text: TextConfig) -> Tokenizer:
    """A published `tokenizer.json` with open_clip's clean-up and padding added.

    `settings` is its `tokenizer_config.json`, which names the padding.
    """
    described = json.loads(content)
    options = text.get("tokenizer_kwargs") or {}
    if strange := set(options) - _HANDLED or ({"tokenizer_mode"} if text.get("tokenizer_mode") else set()):
        raise Invalid(
            f"its tokenizer has the option {', '.join(sorted(strange))}, which is not written yet",
            todo="choose another model",
        )
    if options.get("strip_sep_token"):
        _strip_separator(described)
    try:
        tokenizer = Tokenizer.from_str(json.dumps(described))
    except Exception as error:  # the library raises bare Exception
        raise Broken(f"tokenizer.json is no tokenizer: {error}", todo="choose another model") from error
    if not text.get("hf_tokenizer_name") and not text.get("hf_model_name"):
        # Published CLIP exports contain OpenAI's file, whose padding token is not the one open_clip trained with.
        return _finished(tokenizer, _clean_of(text, "lower"), _CLIP_PADDING, text)
    return _finished(tokenizer, _clean_of(text, "whitespace"), _padding(tokenizer, settings), text)


def window_of(text: TextConfig) -> int:
    """The most tokens that the model sees."""
    return int(text.get("context_length", 77))


def _finished(tokenizer: Tokenizer, clean: Clean, pad_id: int, text: TextConfig) -> Tokenizer:
    tokenizer.normalizer = cleaning(clean, tokenizer.normalizer)
    tokenizer.enable_truncation(window_of(text))
    tokenizer.enable_padding(pad_id=pad_id, pad_token=tokenizer.id_to_token(pad_id), length=window_of(text))
    return tokenizer


def _clean_of(text: TextConfig, otherwise: Clean) -> Clean:
    clean = (text.get("tokenizer_kwargs") or {}).get("clean", otherwise)
    if clean not in get_args(Clean):
        raise Invalid(f"its texts are cleaned in the way {clean!r}, which is not known", todo="choose another model")
    return cast("Clean", clean)


def _padding(tokenizer: Tokenizer, settings: Mapping[str, Any]) -> int:
    named = settings.get("pad_token")
    word = named.get("content") if isinstance(named, dict) else named
    number = tokenizer.token_to_id(word) if isinstance(word, str) else None
    if number is None:
        raise Broken(f"tokenizer_config.json names no padding that is a token ({word!r})", todo="choose another model")
    return int(number)


def _strip_separator(described: dict[str, Any]) -> None:
    """Replace the closing token by 0, as open_clip does."""
    after = described.get("post_processor") or {}
    match after.get("type"):
        case "TemplateProcessing":
            last = after["single"][-1]["SpecialToken"]["id"]
            after["special_tokens"][last]["ids"] = [0]
        case "BertProcessing" | "RobertaProcessing":
            after["sep"][1] = 0
        case other:
            raise Invalid(f"its tokenizer ends in {other}, which is not known", todo="choose another model")


def _byte_letters() -> list[str]:
    """A printable letter for each byte, in the order of CLIP's vocabulary."""
    shown = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = 256 - len(shown)
    return [chr(code) for code in (*shown, *range(256, 256 + hidden))]
