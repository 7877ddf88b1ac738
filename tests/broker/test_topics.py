from __future__ import annotations

from dataclasses import replace

from broker.settings import KafkaSettings
from broker.topics import ExistingTopic, Wanted, plan, wanted_topics

SETTINGS = KafkaSettings(partitions=8, replication=3, retention_minutes=60)
FRAMES, LETTERS = wanted_topics(SETTINGS)


def there(topic: Wanted) -> ExistingTopic:
    return ExistingTopic(topic.name, topic.partitions, topic.replication, dict(topic.config))


def kinds(*found: ExistingTopic) -> list[tuple[str, str]]:
    return [(change.topic.name, change.kind) for change in plan((FRAMES, LETTERS), {one.name: one for one in found})]


def test_topics_as_the_settings_want_them_need_nothing() -> None:
    assert kinds(there(FRAMES), there(LETTERS)) == []


def test_what_is_missing_is_created() -> None:
    assert kinds(there(LETTERS)) == [("frames", "create")]
    assert kinds() == [("frames", "create"), ("dead-letters", "create")]


def test_partitions_grow_and_it_is_said_what_that_means_for_cameras() -> None:
    (change,) = plan((FRAMES,), {"frames": replace(there(FRAMES), partitions=4)})
    assert change.kind == "grow"
    assert "from 4 to 8" in change.what
    assert "some cameras go to another partition" in change.what


def test_partitions_never_shrink_and_copies_are_not_moved() -> None:
    found = replace(there(FRAMES), partitions=16, replication=1)
    assert kinds(found, there(LETTERS)) == [("frames", "cannot"), ("frames", "cannot")]


def test_settings_that_differ_are_set_in_one_change_and_told() -> None:
    found = there(FRAMES)
    found = replace(found, config={**found.config, "retention.ms": "604800000", "cleanup.policy": "compact"})
    (change,) = plan((FRAMES,), {"frames": found})
    assert change.kind == "configure"
    assert "retention.ms from 604800000 to 3600000" in change.what
    assert "cleanup.policy from compact to delete" in change.what


def test_the_order_of_a_list_makes_no_difference() -> None:
    found = there(LETTERS)
    assert kinds(there(FRAMES), replace(found, config={**found.config, "cleanup.policy": "delete,compact"})) == []


def test_segments_are_closed_long_before_frames_expire() -> None:
    assert int(FRAMES.config["segment.ms"]) <= int(FRAMES.config["retention.ms"]) / 6
    short, _ = wanted_topics(KafkaSettings(retention_minutes=1))
    assert short.config["segment.ms"] == "60000"


def test_a_frames_time_is_when_the_broker_took_it_and_a_topic_without_that_is_told() -> None:
    assert FRAMES.config["message.timestamp.type"] == "LogAppendTime"
    found = there(FRAMES)
    found = replace(found, config={**found.config, "message.timestamp.type": "CreateTime"})
    (change,) = plan((FRAMES,), {"frames": found})
    assert "message.timestamp.type from CreateTime to LogAppendTime" in change.what
