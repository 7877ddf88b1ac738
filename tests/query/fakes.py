"""A small encoder whose answers are easy to tell, and what a Searcher needs around it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import numpy as np

from catalog.cameras import CameraRegistry
from catalog.coverage import Coverage
from catalog.known import KnownCameras
from catalog.media import Thumbnails
from catalog.objects import FolderObjects
from catalog.store import Catalog, sqlite_url
from index.store import MomentStore
from proto.errors import Poison
from proto.life import AllKept, GoneNow
from proto.types import Camera, Vector
from query.cache import VectorCache
from query.judging import Judge
from query.search import Searcher
from query.settings import QuerySettings, RedisSettings
from query.space import SearchedSpace
from tests.contracts.moments import NOON, SPACE, moment
from tests.tools.catalogs import begun
from workers.client import EncoderInfo, Seen

WORDS = ["red", "truck", "gate", "dog", "rain", "bicycle", "night", "snow"]


def vector_of(text: str) -> Vector:
    """Its words, counted: texts with words in common are near."""
    vector = np.full(SPACE.dimension, 0.01, np.float32)
    for word in text.lower().split():
        vector[WORDS.index(word) if word in WORDS else 8 + sum(word.encode()) % 8] += 1
    return (vector / np.linalg.norm(vector)).astype(np.float32)


class WordEncoder:
    """An Encoder by words; a picture is the bytes of its caption. `before` runs before every answer."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.before: Callable[[], Awaitable[None]] = lambda: asyncio.sleep(0)

    async def describe(self) -> EncoderInfo:
        return EncoderInfo(SPACE, "words", "CC0", 8, "words", 64, 8 * 1024 * 1024)

    async def embed_texts(self, texts: Sequence[str]) -> list[Vector | Poison]:
        self.asked += texts
        await self.before()
        return [
            Poison("text_invalid", "it holds a bad word") if text == "poison" else vector_of(text) for text in texts
        ]

    async def embed_images(self, images: Sequence[bytes]) -> list[Vector | Poison]:
        await self.before()
        return [
            vector_of(image[5:].decode())
            if image.startswith(b"jpeg:")
            else Poison("not_an_image", "it is not a picture")
            for image in images
        ]

    async def detect_objects(self, images: Sequence[bytes]) -> list[list[Seen] | Poison]:
        return [[] for _ in images]


def registry(folder: Path) -> CameraRegistry:
    cameras = CameraRegistry(catalog_in(folder))
    cameras.add_missing(Camera(name, f"{name}.mp4") for name in ("gate", "gate-2", "dock"))
    return cameras


def catalog_in(folder: Path) -> Catalog:
    """The catalog that a Searcher on this folder reads."""
    catalog = Catalog(sqlite_url(begun(folder / "catalog.db")))
    catalog.open()
    return catalog


def coverage_in(folder: Path) -> Coverage:
    return Coverage(catalog_in(folder))


MOMENTS = [
    moment("gate", NOON, vector=vector_of("red truck gate")),
    moment("gate", NOON + 60_000, vector=vector_of("dog")),
    moment("dock", NOON, vector=vector_of("truck rain"), closed=False),
    moment("dock", NOON + 120_000, vector=vector_of("bicycle night")),
]


def searcher(
    store: MomentStore,
    folder: Path,
    *,
    encoder: WordEncoder | None = None,
    cache: VectorCache | None = None,
    settings: QuerySettings | None = None,
    coverage: Coverage | None = None,
    cameras: CameraRegistry | None = None,
    judge: Judge | None = None,
    kinds: Sequence[str] = (),
    life: GoneNow | None = None,
) -> Searcher:
    settings = settings or QuerySettings()
    thumbnails = Thumbnails(FolderObjects(folder / "thumbnails"))
    cache = cache or VectorCache(RedisSettings())
    judge = judge or Judge("", None, None)
    return Searcher(
        space=SearchedSpace(encoder or WordEncoder(), store, cache, judge, thumbnails, settings),
        cameras=KnownCameras(cameras or registry(folder)),
        thumbnails=thumbnails,
        coverage=coverage or coverage_in(folder),
        kinds=kinds,
        settings=settings,
        life=life or AllKept(),
    )
