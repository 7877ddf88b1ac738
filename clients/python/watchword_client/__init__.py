"""Asks a Watchword what its cameras saw, in words.

>>> from watchword_client import Client
>>> with Client("127.0.0.1:8700") as watch:
...     found = watch.search("red truck at the gate")
"""

from watchword_client.aio import AsyncClient
from watchword_client.answers import (
    Box,
    Camera,
    CameraStatus,
    Clip,
    Coverage,
    Found,
    Gap,
    Hit,
    Known,
    Picture,
    Span,
    Unsearched,
)
from watchword_client.asking import Filters, Where
from watchword_client.client import Client
from watchword_client.connecting import Tls
from watchword_client.errors import (
    Broken,
    Conflict,
    Denied,
    Invalid,
    Late,
    Mismatch,
    Overloaded,
    Poison,
    Transient,
    Unauthenticated,
    Unknown,
    WatchwordError,
)

__all__ = [
    "AsyncClient",
    "Box",
    "Broken",
    "Camera",
    "CameraStatus",
    "Client",
    "Clip",
    "Conflict",
    "Coverage",
    "Denied",
    "Filters",
    "Found",
    "Gap",
    "Hit",
    "Invalid",
    "Known",
    "Late",
    "Mismatch",
    "Overloaded",
    "Picture",
    "Poison",
    "Span",
    "Tls",
    "Transient",
    "Unauthenticated",
    "Unknown",
    "Unsearched",
    "WatchwordError",
    "Where",
]
