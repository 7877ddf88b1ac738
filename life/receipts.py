"""Receipts of erasures: what was asked, what was removed where and when, and what could not be; signed.

The key belongs to the installation and lies in its catalog, since every machine may issue a receipt and none needs
another one's disk. The signature says that this installation issued the receipt and nobody changed it since.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from catalog.life import Work
from proto.errors import Invalid
from proto.life import ALWAYS_MS, Erasure, Rules

FORM = "watchword erasure receipt 1"
_KEY = "receipts"


class Keys(Protocol):
    """Where the installation's key is kept. Blocks."""

    def key(self, name: str, new: bytes) -> bytes:
        """The key with this name; `new` where there was none."""


class Signer:
    """Signs as one installation."""

    def __init__(self, keys: Keys) -> None:
        new = Ed25519PrivateKey.generate().private_bytes_raw()
        self._private = Ed25519PrivateKey.from_private_bytes(keys.key(_KEY, new))

    @property
    def installation(self) -> str:
        """Names the installation by its public key."""
        return _text(self._private.public_key().public_bytes_raw())

    def signed(self, told: Mapping[str, Any]) -> dict[str, Any]:
        """The receipt with its signature."""
        whole = {"form": FORM, "installation": self.installation, **told}
        return {**whole, "signature": _text(self._private.sign(_canonical(whole)))}

    def check(self, receipt: Mapping[str, Any]) -> None:
        """Raise Invalid unless this installation issued it as it is."""
        if not isinstance(receipt, dict) or receipt.get("form") != FORM:
            raise Invalid(
                "this is no receipt of an erasure", todo="give the file that `watchword erase --receipt` wrote"
            )
        told = {name: value for name, value in receipt.items() if name != "signature"}
        if told.get("installation") != self.installation:
            raise Invalid(
                "another installation issued this receipt",
                todo="verify it with that one's catalog: catalog.url, data_dir",
            )
        try:
            public = Ed25519PublicKey.from_public_bytes(base64.b64decode(self.installation))
            public.verify(base64.b64decode(str(receipt.get("signature", "")), validate=True), _canonical(told))
        except (InvalidSignature, ValueError) as error:
            raise Invalid(
                "the receipt was changed after it was signed", todo="get it again from who issued it"
            ) from error


def told_of(
    erasure: Erasure, rules: Rules, work: Iterable[Work], stays: Iterable[Mapping[str, str]], now_ms: int
) -> dict[str, Any]:
    """What a receipt says of an erasure: what was asked for, what was removed, and what `stays` until when."""
    erased = rules.spared(erasure)
    return {
        "number": erasure.number,
        "asked": {
            "camera": erasure.stretch.camera,
            "from": date(erasure.stretch.start_ms),
            "to": date(erasure.stretch.end_ms),
            "from_ms": erasure.stretch.start_ms,
            "to_ms": erasure.stretch.end_ms,
            "moment": erasure.moment,
            "reason": erasure.reason,
            "at": date(erasure.asked_ms),
        },
        "in_force_since": date(erasure.asked_ms),
        "carried_out": date(erasure.done_ms) if erasure.done_ms else None,
        "removed": [
            {
                "store": one.store,
                **({"place": hashlib.sha256(one.place.encode()).hexdigest()[:12]} if one.place else {}),
                "count": one.removed,
                "done": date(one.done_ms) if one.done_ms else None,
            }
            for one in work
        ],
        "held": [
            {
                "hold": hold.number,
                "from": date(hold.stretch.start_ms),
                "to": date(hold.stretch.end_ms),
                "reason": hold.reason,
            }
            for hold in rules.holds
            if hold.stretch in erased.unless and hold.stretch.touches(erased.stretch.start_ms, erased.stretch.end_ms)
        ],
        "stays": [dict(one) for one in stays],
        "issued": date(now_ms),
    }


def date(ms: int) -> str:
    """An instant, in UTC; empty for no end."""
    return "" if ms >= ALWAYS_MS else datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")


def _canonical(told: Mapping[str, Any]) -> bytes:
    return json.dumps(told, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
