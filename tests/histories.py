"""How many random examples a test tries."""

import os

HISTORIES = int(os.environ.get("HISTORIES") or "100")
"""Of each kind. More by the environment: with HISTORIES=500 the replays try 2,000, which takes minutes.

`make test`, and so CI, tries 100; `make test-fast` alone tries fewer."""


def examples(usual: int) -> int:
    """As many for each 100 histories; some in any case."""
    return max(min(usual, 10), usual * HISTORIES // 100)
