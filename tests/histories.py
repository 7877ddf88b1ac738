"""How many random histories a test tries."""

import os

HISTORIES = int(os.environ.get("HISTORIES", "100"))
"""Of each kind. More by the environment: with HISTORIES=500 the replays try 2,000, which takes minutes."""
