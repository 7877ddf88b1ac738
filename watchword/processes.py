"""The four processes, each put together from the rooms. Nothing else wires."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from proto.errors import Transient
from watchword.ops import ops_endpoint
from watchword.settings import Settings

log = logging.getLogger("watchword.process")

GRACE_S = 4.0
"""What is under way may take so long to finish once the process was told to stop."""


async def run_worker(settings: Settings) -> None:
    """The encoder worker."""
    from models.builtin import builtin_bundle
    from models.bundle import load_bundle
    from models.engine import open_engine
    from workers.service import serve_encoder

    folder = await asyncio.to_thread(bundle_folder, settings)
    async with _process(settings, lambda: None) as stopped:
        ...
