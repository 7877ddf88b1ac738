from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer

from broker.kafka import FrameProducer, apply_changes, ensure_topics, find_topics
from broker.letterbox import Choice, _as_new, drop_letters, list_letters, replay_letters
from broker.settings import KafkaSettings
from broker.topics import Wanted, plan, wanted_topics
from index.memory import MemoryStore
from proto.errors import Broken, Poison, Transient
from proto.v1.events_pb2 import DeadLetter, Frame
from stream.consumer import Record
from stream.frames import Said, decoded
from stream.settings import StreamSettings
from tests.stream.rig import SPACE, START_MS, Box, Life, SceneEncoder, broker_settings, filled, frame

ALL = Choice()
RUBBISH = b"\xff no frame"


def letter(
    settings: KafkaSettings, offset: int, reason: str = "undecodable", value: bytes = b"rubbish", partition: int = 0
) -> DeadLetter:
    return DeadLetter(
        topic=settings.frames_topic,
        partition=partition,
        offset=offset,
        reason=reason,
        key=b"gate",
        value=value,
        failed_ms=1,
    )


async def offsets(settings: KafkaSettings, choice: Choice = ALL) -> list[str]:
    return [one.key.rpartition("@")[2] for one in await list_letters(settings, choice)]


@pytest.mark.stack
async def test_letters_are_listed_once_per_origin_and_chosen_by_reason_or_camera(any_broker: str) -> None:
    settings = broker_settings(any_broker)
    await ensure_topics(settings)
    assert await list_letters(settings, ALL) == []
    async with FrameProducer(settings) as producer:
        for offset, reason in [(1, "undecodable"), (2, "too_large"), (1, "undecodable")]:
            await producer.bury(letter(settings, offset, reason))
    assert await offsets(settings) == ["2", "1"]
    assert await offsets(settings, Choice(reasons={"too_large"})) == ["2"]
    assert await offsets(settings, Choice(cameras={"yard"})) == []
    (one, _) = await list_letters(settings, ALL)
    assert (one.reason, one.camera, one.size) == ("too_large", "gate", 7)


async def frames_in(settings: KafkaSettings, most: int) -> list[bytes]:
    """So many records of the frames topic."""
    async with (
        AIOKafkaConsumer(
            settings.frames_topic, bootstrap_servers=settings.brokers, auto_offset_reset="earliest"
        ) as consumer,
        asyncio.timeout(20),
    ):
        return [(await consumer.getone()).value for _ in range(most)]


@pytest.mark.stack
async def test_replayed_records_are_sent_and_their_letters_go_while_letters_without_a_record_stay(
    any_broker: str,
) -> None:
    settings = broker_settings(any_broker, partitions=1)
    await ensure_topics(settings)
    picture = frame("gate", START_MS, 1, 7)
    async with FrameProducer(settings) as producer:
        await producer.bury(letter(settings, 5, "refused", picture.SerializeToString()))
        await producer.bury(letter(settings, 6, "undecodable", RUBBISH))
        await producer.bury(letter(settings, 7, "not_storable", b""))
    done = await replay_letters(settings, ALL)
    assert (done.sent, done.without_record) == (2, 1)
    assert await offsets(settings) == ["7"]
    sent, as_it_was = await frames_in(settings, 2)
    assert Frame.FromString(sent).jpeg == picture.jpeg
    assert Frame.FromString(sent).after_gap
    assert as_it_was == RUBBISH


@pytest.mark.stack
async def test_dropped_letters_are_gone_and_the_others_stay(any_broker: str) -> None:
    settings = broker_settings(any_broker)
    await ensure_topics(settings)
    async with FrameProducer(settings) as producer:
        await producer.bury(letter(settings, 1))
        await producer.bury(letter(settings, 2, "too_large"))
    assert await drop_letters(settings, Choice(reasons={"undecodable"})) == 1
    assert await offsets(settings) == ["2"]
    assert await drop_letters(settings, ALL) == 1
    assert await offsets(settings) == []


@pytest.mark.stack
async def test_topics_that_were_just_made_are_as_wanted(apache_kafka: str) -> None:
    settings = broker_settings(apache_kafka)
    assert await find_topics(settings) == {}
    await apply_changes(settings, plan(wanted_topics(settings), {}))
    assert await planned(settings, []) == []


async def planned(settings: KafkaSettings, kinds: list[str]) -> list[str]:
    """What there is to change; asked again while it is something else, since a broker shows a change only soon."""
    for _ in range(100):
        found: list[str] = [change.kind for change in plan(wanted_topics(settings), await find_topics(settings))]
        if found == kinds:
            break
        await asyncio.sleep(0.05)
    return found


@pytest.mark.stack
async def test_topics_are_changed_to_what_the_settings_want_and_foreign_settings_stay(apache_kafka: str) -> None:
    settings = broker_settings(apache_kafka, partitions=2)
    await ensure_topics(settings)
    frames = wanted_topics(settings)[0]
    foreign = Wanted(frames.name, 2, 1, {**frames.config, "flush.messages": "7"})
    await apply_changes(settings, plan([foreign], {frames.name: (await find_topics(settings))[frames.name]}))
    for _ in range(100):
        if "flush.messages" in (await find_topics(settings))[frames.name].own:
            break
        await asyncio.sleep(0.05)
    wider = settings.model_copy(update={"partitions": 5, "retention_minutes": 240})
    assert await planned(wider, ["grow", "configure"]) == ["grow", "configure"]
    await apply_changes(wider, plan(wanted_topics(wider), await find_topics(wider)))
    assert await planned(wider, []) == []
    found = await find_topics(wider)
    assert found[frames.name].partitions == 5
    assert found[frames.name].own["retention.ms"] == str(240 * 60_000)
    assert found[frames.name].own["flush.messages"] == "7"


@pytest.mark.stack
async def test_a_broker_that_cannot_grow_topics_says_so(broker: str) -> None:
    settings = broker_settings(broker, partitions=1)
    await ensure_topics(settings)
    wider = settings.model_copy(update={"partitions": 3})
    with pytest.raises(Broken, match="cannot do this"):
        await apply_changes(wider, plan(wanted_topics(wider), await find_topics(wider)))


@pytest.mark.stack
async def test_frames_still_arrive_after_partitions_grew(apache_kafka: str) -> None:
    settings = broker_settings(apache_kafka, partitions=1)
    await ensure_topics(settings)
    wider = settings.model_copy(update={"partitions": 3})
    await apply_changes(wider, plan(wanted_topics(wider), await find_topics(wider)))
    async with FrameProducer(wider) as producer:
        for number in range(8):
            await producer.send(Frame(camera=f"cam-{number}"))


@pytest.mark.stack
async def test_letters_of_a_broker_that_is_away_are_transient() -> None:
    with pytest.raises(Transient):
        await list_letters(KafkaSettings(brokers="127.0.0.1:1"), ALL)


# What a worker makes of a record that was sent again.

HERE = KafkaSettings(frames_topic="frames")
DAY_MS = 86_400_000


def live(number: int, scene: int | bytes = 1, **more: object) -> Frame:
    made = frame("gate", START_MS + 500 * number, scene, number, **{"run": 7, "novelty": 0.05, **more})
    made.recorded = False
    return made


def again(made: Frame, offset: int = 5, *, partition: int = 0, reason: str = "refused") -> Frame:
    return Frame.FromString(_as_new(letter(HERE, offset, reason, made.SerializeToString(), partition)))


def test_a_frame_that_is_sent_again_is_the_first_of_a_run_of_its_own_and_else_as_it_was() -> None:
    one = again(live(3))
    assert (one.sequence, one.after_gap) == (0, True)
    assert one.run < 0
    assert (one.camera, one.captured_ms, one.jpeg) == ("gate", START_MS + 1500, b"1")
    assert again(live(3)).run == one.run


def test_letters_of_different_records_are_different_runs_also_when_their_camera_changed_its_partition() -> None:
    assert len({again(live(3), offset, partition=partition).run for offset in (5, 6) for partition in (0, 1)}) == 4


def test_a_record_that_is_no_frame_is_sent_as_it_was() -> None:
    assert _as_new(letter(HERE, 5, value=RUBBISH)) == RUBBISH


def taken_after(days: int, made: Frame) -> Said:
    at_ms = made.captured_ms + days * DAY_MS
    return decoded(Record(0, 9, b"gate", made.SerializeToString(), at_ms), at_ms, clock_s=86_400.0).frame


def test_a_live_picture_is_taken_however_long_its_letter_lay_there() -> None:
    assert taken_after(6, again(live(3))).captured_ms == START_MS + 1500


def test_a_picture_that_was_given_up_for_its_time_is_given_up_again() -> None:
    with pytest.raises(Poison) as told:
        taken_after(6, again(live(3), reason="clock"))
    assert told.value.reason == "clock"


@pytest.mark.parametrize("settings", [StreamSettings(catch_up="all"), StreamSettings(catch_up="fresh")])
async def test_a_frame_that_is_sent_again_within_a_closed_moment_has_a_moment_of_its_own_and_counts_once(
    tmp_path: Path, settings: StreamSettings
) -> None:
    settings = settings.model_copy(update={"batch_wait_ms": 0})
    log = filled(live(number, b"poison" if number == 10 else 1, after_gap=number == 0) for number in range(20))
    store, box = MemoryStore(SPACE), Box()
    first = Life(log, store, tmp_path, settings=StreamSettings(catch_up="all", batch_wait_ms=0), letters=box)
    await first.read(20)
    await first.quiet(60)
    await first.stored()
    await first.commit()
    await first.die()
    (kept,) = box.letters
    kept.value = live(10, 1).SerializeToString()  # what made the encoder refuse it is mended

    for _ in range(2):
        log.append(0, b"gate", _as_new(kept), START_MS + 3_600_000)
    encoder = SceneEncoder()
    second = Life(log, store, tmp_path, settings=settings, letters=box, encoder=encoder)
    await second.read(2)
    await second.quiet(60)
    await second.stored()
    await second.commit()
    await second.die()
    moments = [(one.start_ms - START_MS, one.frames, one.closed) for one in store._moments.values()]
    assert moments == [(0, 19, True), (5000, 1, True)]
    assert encoder.pictures == 2
    assert len(box.letters) == 1
    assert log.committed == {0: 22}
