"""What `watchword doctor` checks of servers that several machines share: versions, clocks, and one space everywhere."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from proto.errors import Broken, Mismatch, WatchwordError
from proto.shards import named
from proto.types import now_ms
from watchword.settings import Settings
from watchword.stack import ready

if TYPE_CHECKING:
    from workers.client import EncoderInfo

CLOCK_S = 2.0
"""Leases, silence and retention compare times of several machines: clocks further apart than this are told."""
_NTP = "run chrony or another NTP client on all machines"
_MOST_ENCODERS = 20


@dataclass(frozen=True)
class SeenEncoder:
    """One encoder worker."""

    address: str
    seen: str = ""
    space: str = ""
    """Empty when it did not answer."""
    error: WatchwordError | None = None


async def look_at_milvus(endpoint: str, settings: Settings) -> str:
    """Its version and what it holds. Broken when this version is not one that Watchword works with."""
    from index.opening import is_folder, new_removal

    _, address = named(endpoint)
    if is_folder(address):
        removal = new_removal(settings.milvus.model_copy(update={"endpoints": (address,)}))
        try:
            return _held({one.space for one in (await removal.holdings()).known})
        finally:
            await removal.close()
    from index.milvus import milvus_server

    number, spaces = await milvus_server(address, settings.milvus)
    version = ".".join(map(str, number)) if number > (0, 0) else "lite"
    if number > (0, 0) and number != (2, 3) and number < (2, 6):
        raise Broken(f"Milvus {version} was never tried", todo="use Milvus 2.6 or later")
    return f"Milvus {version}, collections listed: {_held(spaces)}"


def _held(spaces: Collection[str]) -> str:
    return f"moments of {len(spaces)} space{'s' if len(spaces) != 1 else ''}" if spaces else "no moments"


async def look_at_redis(url: str) -> str:
    """Its version and its clock. Broken when its clock and this machine's are apart."""
    from query.cache import cache_server

    found = await cache_server(url)
    if found is None:
        return "answers PING"
    if abs(found.ahead_s) > CLOCK_S:
        way = "ahead of" if found.ahead_s > 0 else "behind"
        raise Broken(f"its clock is {abs(found.ahead_s):.0f} s {way} this machine's", todo=_NTP)
    return f"Redis {found.version}, its clock agrees"


def look_at_pictures(settings: Settings) -> str:
    """Broken or Transient when the store of pictures cannot be read. Nothing is written."""
    from catalog.objects import objects_of

    objects_of(settings.media, settings.data_dir / "thumbnails").get("doctor")
    return "can be read"


async def look_at_broker_clock(settings: Settings, broker: str) -> str:
    """Broken when the broker stamped frames with times that have not come yet here."""
    from broker.kafka import stamps_beyond

    kafka = settings.kafka.model_copy(update={"brokers": broker})
    within_s = 2 * ready.ASK_S
    # Frames that arrive while it is asked have later times than now.
    beyond_s = CLOCK_S + within_s
    ahead = await stamps_beyond(kafka, now_ms() + round(beyond_s * 1000), within_s)
    if ahead:
        raise Broken(
            f"frames in {ahead} partitions have times of the broker more than {beyond_s:.0f} s ahead of this machine's",
            todo=_NTP,
        )
    return "no frame has a time ahead of this machine's"


async def look_at_encoders(address: str, settings: Settings) -> list[SeenEncoder]:
    """Every encoder worker behind the address, which may be a list, or a name of several machines."""
    from workers.pool import resolved

    found = []
    for one in (await resolved(address))[:_MOST_ENCODERS]:
        try:
            info = await _described(one, settings)
        except WatchwordError as error:
            found.append(SeenEncoder(one, error=error))
        else:
            held = f"bundle {info.bundle} in space {info.space.id} ({info.space.dimension} numbers), {info.engine}"
            found.append(SeenEncoder(one, f"serves, {held}", info.space.id))
    return found


async def look_at_query(address: str, encoders: Sequence[SeenEncoder], settings: Settings) -> str:
    """Ask one question. Raises when a shard is missing, or when it answers in another space than the encoders'."""
    from watchword.reaching import query_client

    await ready.health(address, settings.query)
    async with query_client(settings, address) as client:
        reply = await client.search(text="a person", limit=1)
    missing = reply.coverage.shards_missing
    if missing:
        raise Broken(f"it searches without {', '.join(missing)}", todo="look at that Milvus, and at the network to it")
    spaces = {one.space for one in encoders if one.space}
    if spaces and spaces != {reply.space}:
        raise Mismatch(
            f"it searches space {reply.space}, the encoders give {', '.join(sorted(spaces))}",
            todo="restart it, once all encoders have the same bundle",
        )
    return f"serves, searched {reply.coverage.shards_searched} shards in space {reply.space}"


async def _described(address: str, settings: Settings) -> EncoderInfo:
    from workers.client import EncoderClient

    within_s = min(settings.encoder.timeout_s, 2 * ready.ASK_S)
    async with EncoderClient(address, timeout_s=within_s, tls=settings.encoder) as client:
        return await client.describe()
