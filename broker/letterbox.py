"""What the command line does with dead letters: list, replay, drop."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from broker.kafka import FrameProducer, letter_key, read_letters
from broker.settings import KafkaSettings
from proto.v1.events_pb2 import DeadLetter, Frame


@dataclass(frozen=True, slots=True)
class Choice:
    """Selects letters; an empty field selects all."""

    reasons: Collection[str] = ()
    cameras: Collection[str] = ()

    def takes(self, letter: DeadLetter) -> bool:
        camera = letter.key.decode(errors="replace")
        return (not self.reasons or letter.reason in self.reasons) and (not self.cameras or camera in self.cameras)


@dataclass(frozen=True, slots=True)
class Kept:
    """A dead letter without its record, which may be large."""

    key: str
    place: int
    reason: str
    detail: str
    camera: str
    failed_ms: int
    size: int
    """Bytes of its record; 0 when it holds none."""


@dataclass(frozen=True, slots=True)
class Sent:
    """The result of a replay."""

    sent: int
    without_record: int
    """Letters that hold no record. They stay."""


async def list_letters(settings: KafkaSettings, choice: Choice) -> list[Kept]:
    """The chosen letters, oldest first; only the latest of each origin."""
    letters: dict[str, Kept] = {}
    async for place, key, letter in read_letters(settings):
        letters.pop(key, None)
        if letter is not None and choice.takes(letter):
            letters[key] = _kept(key, place, letter)
    return list(letters.values())


async def replay_letters(settings: KafkaSettings, choice: Choice) -> Sent:
    """Send the records to the topics they came from and delete their letters. What fails again is buried again."""
    places = {one.place: one for one in await list_letters(settings, choice)}
    sent = 0
    async with FrameProducer(settings) as producer:
        async for place, key, letter in read_letters(settings):
            if place in places and letter is not None and places[place].size:
                letter.value = _as_new(letter)
                await producer.send_again(letter)
                # Only after the broker has the record: a crash in between sends it twice. It counts once, unless
                # another frame of its camera arrives between the two.
                await producer.take_away(key)
                sent += 1
    return Sent(sent, len(places) - sent)


async def drop_letters(settings: KafkaSettings, choice: Choice) -> int:
    """Delete the chosen letters; returns how many."""
    letters = await list_letters(settings, choice)
    async with FrameProducer(settings) as producer:
        for one in letters:
            await producer.take_away(one.key)
    return len(letters)


def _as_new(letter: DeadLetter) -> bytes:
    """The record to send: a frame gets its own run, so that it is not taken for a repeat."""
    frame = Frame()
    try:
        frame.ParseFromString(letter.value)
    except DecodeError:
        return letter.value
    frame.run, frame.sequence, frame.after_gap = _run_of(letter), 0, True
    # Its time was right when captured but is old now: as a recording it passes. A frame rejected for its clock is
    # checked again.
    frame.recorded = frame.recorded or letter.reason != "clock"
    return frame.SerializeToString()


def _run_of(letter: DeadLetter) -> int:
    """A run derived from the origin, unlike any run of a source: those are times."""
    return -1 - int.from_bytes(hashlib.blake2b(letter_key(letter).encode(), digest_size=7).digest())


def _kept(key: str, place: int, letter: DeadLetter) -> Kept:
    return Kept(
        key=key,
        place=place,
        reason=letter.reason,
        detail=letter.detail,
        camera=letter.key.decode(errors="replace"),
        failed_ms=letter.failed_ms,
        size=len(letter.value),
    )
