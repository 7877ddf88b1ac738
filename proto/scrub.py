"""Secrets that a text may carry by accident, such as the password of a camera in an error of its driver. Pure.

A last defence: what is shown on purpose is made without secrets in the first place.
"""

from __future__ import annotations

import re

HIDDEN = "***"

_WORD = re.compile(r"\S+")
_NAMES = (
    r"pass(?:word|wd|phrase)?|pwd|pw|secret(?:[_-]?(?:access[_-]?)?key)?|(?:api|access)[_-]?key(?:[_-]?id)?|token|auth|"
    r"sig(?:nature)?"
)
_NAMED = re.compile(rf"\b((?:\w*[_-])?(?:{_NAMES})[\"']?)(\s*[=:]\s*)([\"']?)([^\s&\"',;)}}\]]+)", re.IGNORECASE)
_BEARER = re.compile(r"\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE)


def scrubbed(text: str) -> str:
    """The text without user and password in addresses, values named like secrets, and authorization headers."""
    if "://" in text and "@" in text:
        text = _WORD.sub(lambda word: _without_user(word[0]), text)
    text = _NAMED.sub(rf"\1\2\3{HIDDEN}", text)
    return _BEARER.sub(rf"\1 {HIDDEN}", text)


def _without_user(word: str) -> str:
    # Up to the last "@" of the word: cameras have passwords with any sign in them.
    begin, end = word.find("://"), word.rfind("@")
    return f"{word[: begin + 3]}{HIDDEN}{word[end:]}" if 0 <= begin < end else word
