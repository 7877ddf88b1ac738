"""A query service with moments, pictures and a recording, for clients to ask."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from cameras.segments import Segments
from cameras.settings import RecordingSettings
from catalog.media import Thumbnails
from catalog.objects import FolderObjects
from catalog.recordings import Recordings
from index.memory import MemoryStore
from proto.types import Recording
from query.clips import ClipReader
from query.service import QueryServer, serve_query
from query.settings import QuerySettings
from tests.cameras.filming import film, tapped
from tests.contracts.moments import NOON, SPACE
from tests.query.fakes import MOMENTS, searcher

PICTURE = b"\xff\xd8 of a moment \xff\xd9"


@asynccontextmanager
async def a_house(
    folder: Path, settings: QuerySettings | None = None, *, kinds: Sequence[str] = (), **more: Any
) -> AsyncIterator[QueryServer]:
    """Each moment has a picture, and the gate a recording of five seconds around noon. `more` goes to `serve_query`."""
    store = MemoryStore(SPACE)
    await store.upsert(MOMENTS)
    pictures = Thumbnails(FolderObjects(folder / "thumbnails"))
    for one in MOMENTS:
        pictures.put(one.id, PICTURE)
    writer = Segments(folder / "recordings", RecordingSettings(segment_s=10, keep_free_bytes=0))
    writer.limits = {"gate": Recording(30, 10**9)}
    for fragment in tapped([film(folder / "a.ts", 5)], start_ms=NOON - 2_000):
        writer.write(fragment, NOON)
    writer.close()
    clips = ClipReader(Recordings(folder / "recordings"), 3600)
    server = await serve_query(
        searcher(store, folder, kinds=kinds), settings or QuerySettings(), "127.0.0.1:0", clips, **more
    )
    try:
        yield server
    finally:
        await server.stop(0)
