from __future__ import annotations

import pytest

from broker.kafka import FrameProducer, apply_changes, ensure_topics, find_topics
from broker.letterbox import Choice, drop_letters, list_letters, replay_letters
from broker.settings import KafkaSettings
from broker.topics import Wanted, plan, wanted_topics
from proto.errors import Broken, Transient
from proto.v1.events_pb2 import DeadLetter, Frame
from tests.stream.rig import broker_settings

pytestmark = pytest.mark.stack

ALL = Choice()


def letter(settings: KafkaSettings, offset: int, reason: str = "undecodable", value: bytes = b"rubbish") -> DeadLetter:
    return DeadLetter(topic=settings.frames_topic, offset=offset, reason=reason, key=b"gate", value=value, failed_ms=1)


async def offsets(settings: KafkaSettings, choice: Choice = ALL) -> list[str]:
    return [one.key.rpartition("@")[2] for one in await list_letters(settings, choice)]


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
    assert (one.reason, one.camera, one.size, one.records) == ("too_large", "gate", 7, 1)


async def test_a_replayed_record_is_sent_as_it_was_and_its_letter_goes(any_broker: str) -> None:
    settings = broker_settings(any_broker)
    await ensure_topics(settings)
    # The letters' own topic stands in for the frames topic, so that what is sent can be read as letters.
    record = letter(settings, 77).SerializeToString()
    async with FrameProducer(settings) as producer:
        origin = DeadLetter(topic=settings.dead_letters_topic, offset=5, key=b"frames/0@77", value=record, reason="x")
        await producer.bury(origin)
        await producer.bury(DeadLetter(topic=settings.frames_topic, offset=6, through=9, reason="skipped"))
    done = await replay_letters(settings, ALL)
    assert (done.sent, done.without_record) == (1, 1)
    assert await offsets(settings) == ["6", "77"]
    assert sum(one.records for one in await list_letters(settings, ALL)) == 5


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


async def test_topics_that_were_just_made_are_as_wanted(apache_kafka: str) -> None:
    settings = broker_settings(apache_kafka)
    assert await find_topics(settings) == {}
    await apply_changes(settings, plan(wanted_topics(settings), {}))
    assert plan(wanted_topics(settings), await find_topics(settings)) == []


async def test_topics_are_changed_to_what_the_settings_want_and_foreign_settings_stay(apache_kafka: str) -> None:
    settings = broker_settings(apache_kafka, partitions=2)
    await ensure_topics(settings)
    frames = wanted_topics(settings)[0]
    foreign = Wanted(frames.name, 2, 1, {**frames.config, "flush.messages": "7"})
    await apply_changes(settings, plan([foreign], {frames.name: (await find_topics(settings))[frames.name]}))
    wider = settings.model_copy(update={"partitions": 5, "retention_minutes": 240})
    changes = plan(wanted_topics(wider), await find_topics(wider))
    assert [change.kind for change in changes] == ["grow", "configure"]
    await apply_changes(wider, changes)
    found = await find_topics(wider)
    assert plan(wanted_topics(wider), found) == []
    assert found[frames.name].partitions == 5
    assert found[frames.name].own["retention.ms"] == str(240 * 60_000)
    assert found[frames.name].own["flush.messages"] == "7"


async def test_a_broker_that_cannot_grow_topics_says_so(broker: str) -> None:
    settings = broker_settings(broker, partitions=1)
    await ensure_topics(settings)
    wider = settings.model_copy(update={"partitions": 3})
    with pytest.raises(Broken, match="cannot do this"):
        await apply_changes(wider, plan(wanted_topics(wider), await find_topics(wider)))


async def test_frames_still_arrive_after_partitions_grew(apache_kafka: str) -> None:
    settings = broker_settings(apache_kafka, partitions=1)
    await ensure_topics(settings)
    wider = settings.model_copy(update={"partitions": 3})
    await apply_changes(wider, plan(wanted_topics(wider), await find_topics(wider)))
    async with FrameProducer(wider) as producer:
        for number in range(8):
            await producer.send(Frame(camera=f"cam-{number}"))


async def test_letters_of_a_broker_that_is_away_are_transient() -> None:
    with pytest.raises(Transient):
        await list_letters(KafkaSettings(brokers="127.0.0.1:1"), ALL)
