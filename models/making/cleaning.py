"""open_clip's text clean-up before tokenising, as a normalizer of `tokenizer.json`.

Because it is in the file, queries need no open_clip. Not covered: repairing text that was decoded with the wrong
character set ("schÃ¶n"), which replacement rules cannot express.
"""

from __future__ import annotations

import string
import unicodedata
from collections.abc import Iterator
from html.entities import html5
from typing import Any, Literal

from tokenizers import Regex, normalizers

Clean = Literal["lower", "whitespace", "canonicalize"]
"""open_clip's names: lower case, only white space, or lower case without punctuation."""

_SINGLE_QUOTES = "[\u02bc\u2018-\u201b]"
_DOUBLE_QUOTES = "[\u201c-\u201f]"
_CONTROLS = "[\x00-\x08\x0b\x0e-\x1f\x7f\u206a-\u206f\ufeff\ufff9-\ufffc]"
_SPACES = "[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+"
_CASED = r"[\p{Lu}\p{Ll}\p{Lt}]"
_LAST_SIGMA = rf"(?<={_CASED})Σ(?![\p{{Mn}}\p{{Me}}\p{{Cf}}\p{{Lm}}\p{{Sk}}'.:·…]*{_CASED})"
_LIGATURES = (0x0132, 0x0133, 0x0149, *range(0x01C4, 0x01CD), *range(0x01F1, 0x01F4), *range(0xFB00, 0xFB07))
_FULL_WIDTH = range(0xFF01, 0xFFF0)
_NUMBERED = range(0x20, 0x100)
"""Characters also recognised as numeric entities, such as &#39; or &#x27;."""
_TIMES_ESCAPED = 3
"""How many times an ampersand may have been escaped."""


def cleaning(clean: Clean, after: Any = None) -> Any:
    """The normalizer for this kind of cleaning, followed by the model's own (`after`)."""
    steps = [*_unescaped(), *_plain_characters(), normalizers.NFC()]
    if clean == "canonicalize":
        steps.append(normalizers.Replace("_", " "))
        steps.append(
            normalizers.Replace(Regex("[" + "".join(f"\\x{ord(mark):02x}" for mark in string.punctuation) + "]"), "")
        )
    if clean in ("lower", "canonicalize"):
        # Python lowercases a sigma at the end of a word differently from the rule for single letters.
        steps.append(normalizers.Replace(Regex(_LAST_SIGMA), "ς"))
        steps.append(normalizers.Lowercase())
    steps += [normalizers.Replace(Regex(_SPACES), " "), normalizers.Strip()]
    return normalizers.Sequence(steps + ([after] if after is not None else []))


def _unescaped() -> Iterator[Any]:
    for _ in range(_TIMES_ESCAPED):
        yield normalizers.Replace("&amp;", "&")
    for name, text in html5.items():
        if name.endswith(";") and name != "amp;":
            yield normalizers.Replace(f"&{name}", text)
    # The old names are also valid without a semicolon. Longer names first, so that &notin is not read as &not.
    for name in sorted((name for name in html5 if not name.endswith(";")), key=len, reverse=True):
        yield normalizers.Replace(f"&{name}", html5[name])
    for code in _NUMBERED:
        if chr(code).isprintable() or chr(code) == "\xa0":
            yield normalizers.Replace(Regex(f"&#(0*{code}(?![0-9])|[xX]0*(?i:{code:x})(?![0-9a-fA-F]));?"), chr(code))


def _plain_characters() -> Iterator[Any]:
    for code in (*_LIGATURES, *_FULL_WIDTH):
        plain = unicodedata.normalize("NFKC", chr(code))
        if plain != chr(code):
            yield normalizers.Replace(chr(code), plain)
    yield normalizers.Replace(Regex(_SINGLE_QUOTES), "'")
    yield normalizers.Replace(Regex(_DOUBLE_QUOTES), '"')
    yield normalizers.Replace(Regex(_CONTROLS), "")
