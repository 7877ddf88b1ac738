"""The topic id. It tells a topic from an earlier one of the same name, which had other records at the same offsets.

Kafka gives every topic an id when it is created (since 2.8) and returns it in metadata responses from version 10 on.
aiokafka speaks version 5, so the request is defined here.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any
from uuid import UUID

from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    AbstractType,
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

from proto.errors import Broken, Transient

_METADATA = 3
_VERSION = 10
_TEXT = CompactString("utf-8")
_NO_ID = UUID(int=0)


class _Uuid(AbstractType[UUID]):  # type: ignore[misc]
    @classmethod
    def encode(cls, value: UUID) -> bytes:
        return value.bytes

    @classmethod
    def decode(cls, data: BytesIO) -> UUID:
        return UUID(bytes=data.read(16))


class _Metadata10(Response):  # type: ignore[misc]
    API_KEY = _METADATA
    API_VERSION = _VERSION
    FLEXIBLE_VERSION = True
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(("node_id", Int32), ("host", _TEXT), ("port", Int32), ("rack", _TEXT), ("tags", TaggedFields)),
        ),
        ("cluster_id", _TEXT),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", _TEXT),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("authorized_operations", Int32),
        ("tags", TaggedFields),
    )


class _AskMetadata10(RequestStruct):  # type: ignore[misc]
    API_KEY = _METADATA
    API_VERSION = _VERSION
    FLEXIBLE_VERSION = True
    RESPONSE_TYPE = _Metadata10
    SCHEMA = Schema(
        ("topics", CompactArray(("topic_id", _Uuid), ("name", _TEXT), ("tags", TaggedFields))),
        ("allow_auto_creation", Boolean),
        ("include_cluster_operations", Boolean),
        ("include_topic_operations", Boolean),
        ("tags", TaggedFields),
    )


class _Ask(Request[_AskMetadata10]):  # type: ignore[misc]
    API_KEY = _METADATA

    def __init__(self, topic: str) -> None:
        self._topic = topic

    def build(self, request_struct_class: type[_AskMetadata10]) -> _AskMetadata10:
        return request_struct_class([(_NO_ID, self._topic, {})], False, False, False, {})


async def ask_topic_id(client: Any, topic: str) -> str:
    """The topic's id as 32 hex digits. `client` is a connected AIOKafkaClient."""
    reply = await client.send(client.get_random_node(), _Ask(topic))
    for error_code, name, topic_id, *_ in reply.topics:
        if name == topic and not error_code:
            if topic_id == _NO_ID:
                raise Broken("the broker gives its topics no ids", todo="use an Apache Kafka of version 2.8 or later")
            return str(topic_id.hex)
    raise Transient(f"the broker does not know the topic {topic}", todo="`watchword topics plan` shows what is there")
