"""Installations of any layout, small enough to copy: an index of shards in memory, a folder of pictures, a catalog."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from backup.giving import Given, Restore, Target
from backup.manifest import Manifest
from backup.place import Place, Writing
from backup.settings import BackupSettings
from backup.taking import Backup, Say, Source
from backup.verifying import Verified, verify
from catalog.backgrounds import Backgrounds
from catalog.cameras import CameraRegistry
from catalog.coverage import Coverage
from catalog.facts import Facts
from catalog.leases import Leases
from catalog.life import Life
from catalog.media import Thumbnails
from catalog.objects import FolderObjects, Objects, Stored
from catalog.store import Catalog, sqlite_url
from index.removal import Removal
from index.settings import MilvusSettings
from index.sharded import ShardedStore
from index.store import MomentStore
from proto.errors import Transient
from proto.shards import FixedMap
from proto.types import Moment, SpaceInfo
from tests.contracts.moments import NOON
from tests.index.shards import Held, MemoryShard
from tests.tools.catalogs import begun

HOUSE = "house"


async def no_pause(_: float) -> None:
    return None


class Installation:
    """One installation. Its clock stands at NOON."""

    def __init__(self, folder: Path, shards: int = 1, hours: int = 24, name: str = HOUSE) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.name = name
        self.now_ms = NOON
        endpoints = tuple(f"http://{number}" for number in range(shards))
        self._settings = MilvusSettings(endpoints=endpoints, bucket_hours=hours)
        self.held: dict[str, Held] = {one: {} for one in endpoints}
        known = FixedMap({name: name for name in endpoints})
        self.rows = Removal(known, lambda one, _, /, *, space: MemoryShard(SpaceInfo(space, 2), self.held[one.name]))
        self.pictures = Thumbnails(FolderObjects(folder / "pictures"))
        self.catalog = Catalog(sqlite_url(begun(folder / "catalog.db")))
        self.catalog.open()
        self.life = Life(self.catalog)
        self.life.trust(NOON)
        self.cameras = CameraRegistry(self.catalog)
        self.coverage = Coverage(self.catalog)
        self.facts = Facts(self.catalog)

    async def store(self, space: SpaceInfo) -> MomentStore:
        return ShardedStore(space, self._settings, {one: MemoryShard(space, held) for one, held in self.held.items()})

    async def add(self, moments: Sequence[Moment], space: SpaceInfo, *, pictures: bool = True) -> None:
        """Store moments; each with a picture of its own, and one of an instant."""
        store = await self.store(space)
        assert not await store.upsert(moments)
        for one in moments if pictures else ():
            self.pictures.put_instants(one.id, [(one.start_ms, f"{one.id} then".encode())])
            self.pictures.put(one.id, one.id.encode())

    async def back_up(
        self, place: Place, *, each: int = 3, whole: bool = False, say: Say = lambda *_: None
    ) -> tuple[Manifest, Writing]:
        source = Source(self.rows, self.pictures, self.facts, self.life, Leases(self.catalog), self.name, "1")
        settings = BackupSettings(moments_each=each)
        run = Backup(source, place, settings, "me", whole=whole, say=say, clock=lambda: self.now_ms, pause=no_pause)
        return await run.take()

    def target(self) -> Target:
        return Target(
            store=self.store,
            rows=self.rows,
            pictures=self.pictures,
            facts=self.facts,
            cameras=self.cameras,
            life=self.life,
            coverage=self.coverage,
            backgrounds=Backgrounds(self.catalog),
        )

    async def restore(self, place: Place, *, spaces: Collection[str] = (), disable: bool = False) -> Given:
        run = Restore(
            place,
            self.target(),
            BackupSettings(),
            spaces=spaces,
            disable_cameras=disable,
            clock=lambda: self.now_ms,
            pause=no_pause,
        )
        return await run.give()

    async def verify(self, place: Place) -> Verified:
        return await verify(place, self.target(), clock=lambda: self.now_ms, pause=no_pause)

    def moments(self, space: str) -> dict[str, Moment]:
        """What is stored, whatever shard has it."""
        return {
            name: one
            for held in self.held.values()
            for moments in held.get(space, {}).values()
            for name, one in moments.items()
        }

    def pictured(self) -> set[str]:
        return {moment for moment, _, _ in self.pictures.listed()}

    def close(self) -> None:
        self.catalog.close()


class Dying:
    """Objects whose process is killed at one call."""

    def __init__(self, objects: Objects, after: int) -> None:
        self._objects = objects
        self._left = after

    def _step(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise Killed

    def put(self, name: str, data: bytes) -> None:
        self._step()
        self._objects.put(name, data)

    def get(self, name: str) -> bytes | None:
        self._step()
        return self._objects.get(name)

    def list(self, folder: str) -> Sequence[Stored]:
        return self._objects.list(folder)

    def has(self, name: str) -> bool:
        return self._objects.has(name)

    def remove(self, names: Collection[str]) -> None:
        self._step()
        self._objects.remove(names)

    def tidy(self, folder: str) -> None:
        self._objects.tidy(folder)


class Killed(Exception):
    """The process ends here."""


AWAY = Transient("it is away", todo="wait")
