"""What the group's answers mean for this worker's lease. Requests and replies are the driver's own."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiokafka.protocol.commit import OffsetCommitRequest, OffsetCommitResponse_v2
from aiokafka.protocol.group import (
    HeartbeatRequest,
    HeartbeatResponse_v0,
    LeaveGroupRequest,
    LeaveGroupResponse_v0,
    SyncGroupRequest,
    SyncGroupResponse_v0,
)

from stream.app import _renewing
from stream.fence import Lease

SESSION_S = 45.0
ILLEGAL_GENERATION, UNKNOWN_MEMBER, FENCED, REBALANCE, AWAY = 22, 25, 82, 27, 15


def heartbeat(code: int) -> tuple[Any, Any]:
    return HeartbeatRequest("group", 1, "member"), HeartbeatResponse_v0(code)


def sync(code: int) -> tuple[Any, Any]:
    return SyncGroupRequest("group", 1, "member", None, []), SyncGroupResponse_v0(code, b"")


def commit(code: int) -> tuple[Any, Any]:
    request = OffsetCommitRequest("group", 1, "member", -1, [("frames", [(0, 7, ""), (1, 9, "")])])
    return request, OffsetCommitResponse_v2([("frames", [(0, 0), (1, code)])])


Exchange = Callable[[int], tuple[Any, Any]]


async def asked(lease: Lease, exchange: tuple[Any, Any], during: Callable[[], None] = lambda: None) -> Any:
    """Send the request, to which the group gives this reply."""
    request, reply = exchange

    async def send(_: Any) -> Any:
        during()
        return reply

    sending: Callable[[Any], Awaitable[Any]] = _renewing(send, lease)
    return await sending(request)


def held() -> Lease:
    lease = Lease(SESSION_S)
    lease.renewed(time.monotonic())
    return lease


@pytest.mark.parametrize("code", [ILLEGAL_GENERATION, UNKNOWN_MEMBER, FENCED])
@pytest.mark.parametrize("exchange", [heartbeat, sync, commit])
async def test_a_worker_that_the_group_does_not_know_any_more_loses_its_lease_at_once(
    exchange: Exchange, code: int
) -> None:
    lease = held()
    await asked(lease, exchange(code))
    assert not lease.holds(time.monotonic())


@pytest.mark.parametrize("code", [REBALANCE, AWAY])
@pytest.mark.parametrize("exchange", [heartbeat, sync])
async def test_another_error_neither_ends_the_lease_nor_renews_it(exchange: Exchange, code: int) -> None:
    lease = held()
    await asked(lease, exchange(code))
    assert lease.holds(time.monotonic())
    fresh = Lease(SESSION_S)
    await asked(fresh, exchange(code))
    assert not fresh.holds(time.monotonic())


@pytest.mark.parametrize("code", [0, REBALANCE])
async def test_a_commit_that_is_taken_or_must_be_tried_again_is_no_sign_of_life(code: int) -> None:
    lease = Lease(SESSION_S)
    await asked(lease, commit(code))
    assert not lease.holds(time.monotonic())


@pytest.mark.parametrize("exchange", [heartbeat, sync])
async def test_a_sign_of_life_that_is_accepted_renews_the_lease_from_when_it_was_asked(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 100.0
    monkeypatch.setattr("stream.app.time.monotonic", lambda: now_s)

    def takes_long() -> None:
        nonlocal now_s
        now_s += 20.0

    lease = Lease(SESSION_S)
    await asked(lease, exchange(0), takes_long)
    assert lease.holds(100.0 + SESSION_S - 0.1)
    assert not lease.holds(100.0 + SESSION_S)


async def test_what_says_nothing_about_membership_changes_no_lease_and_every_reply_is_handed_on() -> None:
    reply = LeaveGroupResponse_v0(UNKNOWN_MEMBER)
    lease = held()
    assert await asked(lease, (LeaveGroupRequest("group", "member"), reply)) is reply
    assert lease.holds(time.monotonic())
    fresh = Lease(SESSION_S)
    await asked(fresh, (LeaveGroupRequest("group", "member"), LeaveGroupResponse_v0(0)))
    assert not fresh.holds(time.monotonic())


async def test_a_request_that_fails_leaves_the_lease_as_it_was() -> None:
    def cut() -> None:
        raise ConnectionError("the broker is gone")

    lease = held()
    with pytest.raises(ConnectionError):
        await asked(lease, heartbeat(0), cut)
    assert lease.holds(time.monotonic())
