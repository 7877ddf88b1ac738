"""The words of the console: every language says the same things."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.console.npm import SOURCE

FOLDER = SOURCE / "src" / "messages"
LANGUAGES = sorted(path.stem for path in FOLDER.glob("*.json"))
KIND = "kind."
"""The detector's kinds are English already, so only other languages name them."""


def messages(language: str) -> dict[str, Any]:
    found = json.loads((FOLDER / f"{language}.json").read_text())
    assert isinstance(found, dict)
    return found


def forms(message: Any) -> list[str]:
    return list(message.values()) if isinstance(message, dict) else [message]


def holes(message: Any) -> set[str]:
    return {hole for form in forms(message) for hole in re.findall(r"\{(\w+)\}", form)}


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_message_is_there_with_the_same_holes(language: str) -> None:
    english = messages("en")
    there = {key: message for key, message in messages(language).items() if not key.startswith(KIND)}
    assert there.keys() == english.keys()
    assert [key for key, message in there.items() if holes(message) != holes(english[key])] == []
    assert [key for key, message in there.items() for form in forms(message) if not form.strip()] == []


@pytest.mark.parametrize("language", [one for one in LANGUAGES if one != "en"])
def test_every_kind_of_object_has_a_name(language: str) -> None:
    from models.making.objects import COCO_KINDS

    assert {f"{KIND}{kind}" for kind in COCO_KINDS} <= messages(language).keys()


def test_no_message_is_left_over() -> None:
    source = "\n".join(path.read_text() for path in (SOURCE / "src").rglob("*.ts*"))
    used = set(re.findall(r'"([a-z_0-9.]+)"', source))
    made = set(re.findall(r"`([a-z_]+\.)\$\{", source))
    unused = [key for key in messages("en") if key not in used and not key.startswith(tuple(made))]
    assert unused == []
