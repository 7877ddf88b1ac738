"""Receipts of erasures: what was asked, what was removed where and when, and what could not be."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from catalog.life import Work
from life.signing import Form
from proto.life import ALWAYS_MS, Erasure, Rules

RECEIPT = Form(
    "watchword erasure receipt 1", "receipt of an erasure", "give the file that `watchword erase --receipt` wrote"
)


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
