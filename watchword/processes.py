"""The five processes, each wired from the rooms. Nothing else wires.

On SIGTERM or Ctrl-C each stops in two stages: first it takes nothing more, then it finishes.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import logging
import shutil
import signal
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proto.access import needs_token
from proto.errors import Broken, Late, Overloaded, Transient
from proto.metrics import BUILD, DATA_FREE, DATA_SIZE
from watchword.admitting import callers_of, login_of
from watchword.auditing import audit_sink
from watchword.bundles import bundle_folder
from watchword.catalogs import new_catalog, open_whole
from watchword.ending import Ending
from watchword.former import also_search_former
from watchword.ops import ops_endpoint
from watchword.settings import Settings
from watchword.sharding import known_shards
from watchword.stage import Stage
from workers.client import EncoderClient, EncoderInfo

if TYPE_CHECKING:
    from catalog.known_shards import KnownShards
    from catalog.store import Catalog
    from index.sharded import ShardedStore
    from proto.types import SpaceInfo

log = logging.getLogger("watchword.process")

GRACE_S = 4.0
"""How long calls in progress may take to finish after the process was told to stop."""
DESCRIBE_S = 30.0
"""How long a starting process waits for the encoder to report its space."""
CATALOG_S = 30.0
"""How long a starting process waits for the catalog."""
END_S = 10.0
"""A process whose work is over ends within this, even if a thread hangs."""
TOLD_S = 60.0
"""A process that was told to stop ends within this. The stream worker leaves its group within about 35 s."""


Process = Callable[[Settings, Stage], Awaitable[None]]


async def run_process(name: str, settings: Settings, ending: Ending | None = None) -> None:
    """Run one of PROCESSES until it is told to stop. Raises its errors.

    `ending` ends the whole process when a hanging thread keeps it alive; without it there is no bound.
    """
    stage = Stage()

    async def whole() -> None:
        async with stage.closing:
            with ending.after(END_S) if ending else contextlib.nullcontext():
                await PROCESSES[name](settings, stage)

    def told(work: asyncio.Task[None]) -> None:
        if ending:
            todo = "a thread or a part hangs; the stack traces above say where"
            ending.begin(TOLD_S, Late(f"it was told to stop and did not within {TOLD_S:.0f} s", todo=todo))
        stage.tell_to_stop(work)

    BUILD.info({"version": importlib.metadata.version("watchword"), "process": name})
    DATA_FREE.set_function(lambda: _disk(settings.data_dir).free)
    DATA_SIZE.set_function(lambda: _disk(settings.data_dir).total)
    async with ops_endpoint(settings.ops, stage.why_not_ready, stage.tell_worst_cameras):
        work = asyncio.create_task(whole())
        loop = asyncio.get_running_loop()
        for sign in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(sign, told, work)
        with contextlib.suppress(asyncio.CancelledError):
            await work


async def _worker(settings: Settings, stage: Stage) -> None:
    from models.bundle import load_bundle
    from workers.service import serve_encoder

    bundle = await asyncio.to_thread(lambda: load_bundle(bundle_folder(settings, settings.encoder.bundle, log.info)))
    server = await serve_encoder(bundle, settings.encoder, settings.encoder.listen)
    stage.closing.push_async_callback(server.stop, GRACE_S)
    await stage.serve(None, lambda: None)


async def _camera(settings: Settings, stage: Stage) -> None:
    from broker.kafka import FrameProducer, ensure_topics
    from cameras.black_box import BlackBox
    from cameras.erasing import Eraser
    from cameras.holder import new_holder
    from cameras.host import CameraHost
    from cameras.recorder import Recorder
    from cameras.worst import worst
    from catalog.cameras import CameraRegistry
    from catalog.coverage import Coverage
    from catalog.fleet import Fleet
    from catalog.leases import Leases
    from catalog.life import Life
    from catalog.progress import Progresses
    from catalog.statuses import Statuses
    from catalog.views import Views

    catalog = await _catalog(settings, stage)
    _, info = await _encoder(settings, stage)
    await ensure_topics(settings.kafka)
    producer = await stage.closing.enter_async_context(FrameProducer(settings.kafka))
    recorder = Recorder(settings.data_dir / "recordings", settings.recording)
    stage.closing.push_async_callback(asyncio.to_thread, recorder.close, GRACE_S)
    recorder.start()
    box = BlackBox(settings.data_dir / "crashes")
    box.open()
    stage.closing.callback(box.close)
    host = CameraHost(
        CameraRegistry(catalog),
        producer,
        settings.camera,
        info.image_side,
        leases=Leases(catalog),
        fleet=Fleet(catalog),
        progress=Progresses(catalog),
        coverage=Coverage(catalog),
        views=Views(catalog),
        statuses=Statuses(catalog),
        holder=new_holder(),
        pictures=recorder.watch,
        follower=recorder,
        left_behind=box.left_behind,
    )
    await _beside(stage, Eraser(settings.data_dir / "recordings", Life(catalog), settings.retention.settle_s).run())
    stage.worst_cameras = lambda asked: worst(host.facts(), asked)
    await stage.serve(host.run(), host.stop)


async def _stream(settings: Settings, stage: Stage) -> None:
    from broker.kafka import FrameProducer, ensure_topics
    from catalog.backgrounds import Backgrounds
    from catalog.coverage import Coverage
    from catalog.known_life import KnownLife
    from catalog.life import Life
    from catalog.media import Thumbnails
    from catalog.objects import objects_of
    from stream.app import FrameConsumer
    from stream.worker import House, StreamWorker
    from watchword.sweeping import new_sweeper

    encoder, info = await _encoder(settings, stage)
    await ensure_topics(settings.kafka)
    letters = await stage.closing.enter_async_context(FrameProducer(settings.kafka))
    catalog = await _catalog(settings, stage)
    store, known = await _store(settings, stage, catalog, encoder, info.space)
    life = KnownLife(Life(catalog), every_s=1.0)
    await life.rules()
    house = House(
        encoder=encoder,
        store=store,
        thumbnails=Thumbnails(objects_of(settings.media, settings.data_dir / "thumbnails")),
        coverage=Coverage(catalog),
        letters=letters,
        frames_topic=settings.kafka.frames_topic,
        backgrounds=Backgrounds(catalog),
        life=life,
    )
    sweeper = new_sweeper(settings, catalog, known)
    stage.closing.push_async_callback(sweeper.close)
    await _beside(stage, sweeper.run())
    worker = StreamWorker(house, FrameConsumer(settings.kafka, settings.stream), settings.stream)
    await stage.serve(
        worker.run(), worker.stop, lambda: None if worker.ready else "the group has not given out its partitions yet"
    )


async def _query(settings: Settings, stage: Stage) -> None:
    from catalog.audit import Audit
    from catalog.backgrounds import Backgrounds
    from catalog.cameras import CameraRegistry
    from catalog.coverage import Coverage
    from catalog.known import KnownCameras, KnownStatuses
    from catalog.known_life import KnownLife
    from catalog.life import Life
    from catalog.media import Thumbnails
    from catalog.objects import objects_of
    from catalog.recordings import Recordings
    from catalog.statuses import Statuses
    from manage.service import ManageService
    from query.backgrounds import BackgroundReader
    from query.bank import Bank
    from query.cache import VectorCache
    from query.clips import ClipReader
    from query.judging import Judge
    from query.search import Searcher
    from query.service import serve_query
    from query.space import SearchedSpace
    from watchword.managing import new_manager

    encoder, info = await _encoder(settings, stage)
    catalog = await _catalog(settings, stage)
    store, known = await _store(settings, stage, catalog, encoder, info.space)
    cache = VectorCache(settings.redis)
    stage.closing.push_async_callback(cache.close)
    thumbnails = Thumbnails(objects_of(settings.media, settings.data_dir / "thumbnails"))
    bank = Bank(encoder, cache, info.space, kinds=info.kinds)
    judge = Judge(info.calibration, bank, BackgroundReader(Backgrounds(catalog), info.space))
    judge.start()
    stage.closing.push_async_callback(judge.stop)
    life = KnownLife(Life(catalog), every_s=0.0)
    await life.rules()
    searcher = Searcher(
        space=SearchedSpace(encoder, store, cache, judge, thumbnails, settings.query),
        cameras=KnownCameras(CameraRegistry(catalog)),
        life=life,
        thumbnails=thumbnails,
        coverage=Coverage(catalog),
        kinds=info.kinds,
        settings=settings.query,
    )
    if settings.encoder.former_address:
        also = also_search_former(settings, stage.closing, catalog, known, cache, thumbnails, searcher, store)
        await _beside(stage, also)
    clips = ClipReader(Recordings(settings.data_dir / "recordings"), settings.query.max_clip_s)
    callers = callers_of(settings, catalog, stage.closing)
    await callers.start()
    stage.closing.push_async_callback(callers.stop)
    audit = Audit(audit_sink(settings))
    stage.closing.push_async_callback(asyncio.to_thread, audit.close, GRACE_S)
    audit.start()
    server = await serve_query(
        searcher,
        settings.query,
        settings.query.listen,
        clips,
        callers,
        audit.note,
        KnownStatuses(Statuses(catalog)),
        (ManageService(new_manager(settings, catalog)),),
    )
    stage.closing.push_async_callback(server.stop, GRACE_S)
    await stage.serve(server.run(), server.end)


async def _gateway(settings: Settings, stage: Stage) -> None:
    from gateway.app import application
    from gateway.assistant import Assistant
    from gateway.serving import serve_gateway
    from manage.client import ManageClient
    from query.client import QueryClient
    from watchword.stack import query_address

    client = QueryClient(query_address(settings), settings.gateway.timeout_s, spread=True, tls=settings.query)
    stage.closing.push_async_callback(client.close)
    manage = ManageClient(query_address(settings), settings.gateway.timeout_s, tls=settings.query)
    stage.closing.push_async_callback(manage.close)
    version = importlib.metadata.version("watchword")
    needed = needs_token(settings.access.open_to, settings.gateway.listen)
    assistant = Assistant(client, version, needs_token=needed) if settings.gateway.mcp else None
    if assistant is not None:
        await stage.closing.enter_async_context(assistant.running())
    around = login_of(settings, stage.closing, needed=needed)
    app = application(
        client, settings.gateway, version, assistant=assistant, needs_token=needed, manage=manage, around=around
    )
    server = await serve_gateway(app, settings.gateway, grace_s=round(GRACE_S), ending=app.end)
    stage.closing.push_async_callback(server.stop)
    await stage.serve(None, lambda: None)


async def _store(
    settings: Settings, stage: Stage, catalog: Catalog, encoder: EncoderClient, space: SpaceInfo
) -> tuple[ShardedStore, KnownShards]:
    """The moments of the space, over the shards of the catalog's map, which is followed."""
    from index.opening import new_store
    from watchword.questions import everyday_questions

    known = await known_shards(settings.milvus, catalog)
    await _beside(stage, known.follow())
    store = new_store(space, settings.milvus, lambda: everyday_questions(encoder), known)
    stage.closing.push_async_callback(store.close)
    await store.open()
    return store, known


async def _beside(stage: Stage, work: Coroutine[Any, Any, None]) -> None:
    """Have it done while the process runs. An unforeseen error in it is told."""
    task = asyncio.create_task(work)

    async def end() -> None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    def tell(done: asyncio.Task[None]) -> None:
        if not done.cancelled() and done.exception() is not None:
            log.error("work in the background ended", exc_info=done.exception())

    task.add_done_callback(tell)
    stage.closing.push_async_callback(end)


def _disk(folder: Path) -> shutil._ntuple_diskusage:
    """The disk of a folder that may not exist yet."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder)


PROCESSES: dict[str, Process] = {
    "worker": _worker,
    "camera": _camera,
    "stream": _stream,
    "query": _query,
    "gateway": _gateway,
}


async def _catalog(settings: Settings, stage: Stage) -> Catalog:
    """The catalog, opened. Waits up to CATALOG_S for one that is starting or away."""
    catalog = new_catalog(settings)
    stage.closing.callback(catalog.close)
    deadline = asyncio.get_running_loop().time() + CATALOG_S
    while True:
        try:
            await asyncio.to_thread(open_whole, settings, catalog)
        except Transient as error:
            if asyncio.get_running_loop().time() > deadline:
                raise
            stage.waits_for(error)
            await asyncio.sleep(0.5)
        else:
            return catalog


async def _encoder(settings: Settings, stage: Stage) -> tuple[EncoderClient, EncoderInfo]:
    """A client of the encoder, and what it serves. Waits up to DESCRIBE_S for a worker that is starting."""
    if not settings.encoder.address:
        raise Broken("encoder.address is not set", todo="set it to the HOST:PORT of an encoder worker")
    client = EncoderClient(settings.encoder.address, timeout_s=settings.encoder.timeout_s, tls=settings.encoder)
    stage.closing.push_async_callback(client.close)
    deadline = asyncio.get_running_loop().time() + DESCRIBE_S
    while True:
        try:
            return client, await client.describe()
        except (Transient, Overloaded):
            if asyncio.get_running_loop().time() > deadline:
                raise
            await asyncio.sleep(0.2)
