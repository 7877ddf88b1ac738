from __future__ import annotations

import json
from typing import Any

import pytest

from catalog.life import Work
from life.receipts import RECEIPT, told_of
from life.signing import Signer
from proto.errors import Invalid
from proto.life import ALWAYS_MS, Erasure, Hold, Rules, Stretch

NOON = 1_767_268_800_000
ERASURE = Erasure(7, Stretch("gate", 0, NOON), "", "asked for by a visitor", NOON, NOON + 90_000)


class Keys:
    def __init__(self) -> None:
        self.kept: bytes | None = None

    def key(self, name: str, new: bytes) -> bytes:
        self.kept = self.kept or new
        return self.kept


def told() -> dict[str, Any]:
    rules = Rules(
        9,
        erasures=(ERASURE,),
        holds=(Hold(3, Stretch("gate", 10, ALWAYS_MS), "case", 1), Hold(8, Stretch("gate", 0, 5), "too late", 1)),
    )
    work = [Work("index", "", 12, NOON, NOON + 90_000), Work("recordings", "host", 3, NOON, 0)]
    return told_of(ERASURE, rules, work, [{"what": "frames", "until": "2026-01-01"}], NOON)


def test_a_receipt_says_what_was_asked_removed_held_and_stays() -> None:
    said = told()
    assert said["number"] == 7
    assert said["asked"]["reason"] == "asked for by a visitor"
    assert said["carried_out"] == "2026-01-01T12:01:30.000+00:00"
    index, recordings = said["removed"]
    assert (index["store"], index["count"], bool(index["done"])) == ("index", 12, True)
    assert (recordings["count"], recordings["done"]) == (3, None)
    assert "host" not in recordings["place"]
    assert [one["hold"] for one in said["held"]] == [3]
    assert said["stays"] == [{"what": "frames", "until": "2026-01-01"}]


def test_a_receipt_is_genuine_until_anything_of_it_is_changed() -> None:
    keys = Keys()
    receipt = json.loads(json.dumps(Signer(keys).signed(RECEIPT, told())))
    Signer(keys).check(RECEIPT, receipt)
    for name in receipt:
        with pytest.raises(Invalid):
            Signer(keys).check(RECEIPT, {**receipt, name: "x"})
        with pytest.raises(Invalid):
            Signer(keys).check(RECEIPT, {other: value for other, value in receipt.items() if other != name})
    with pytest.raises(Invalid, match="another installation"):
        Signer(Keys()).check(RECEIPT, receipt)
    nonsense: list[Any] = [{}, [], {"form": 3}]
    for one in nonsense:
        with pytest.raises(Invalid, match="no receipt"):
            Signer(keys).check(RECEIPT, one)
