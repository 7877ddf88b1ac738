"""The pictures of moments: one JPEG each, and one for each other instant at which a region of it was seen."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from catalog.objects import Objects
from proto.errors import Invalid, Unknown
from proto.types import MOMENT_ID, MOST_REGIONS, check_moment_ids, start_of

_LATEST_MS = 2**63


class Thumbnails:
    """Pictures by moment id. Methods block: call them from a thread. They raise the errors of the store.

    Besides its own picture a moment may have MOST_REGIONS more, by the instant at which they were taken.
    """

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def put(self, moment_id: str, jpeg: bytes) -> None:
        """Store the moment's own picture. Replaces an earlier one."""
        self._objects.put(_name(moment_id), jpeg)

    def put_instants(
        self, moment_id: str, pictures: Sequence[tuple[int, bytes]], shown: Collection[int] | None = None
    ) -> None:
        """Store pictures of these instants, and remove those of instants that are not `shown` any more.

        When there would be too many, those that were written first are removed.
        """
        names = {_name(moment_id, at_ms): jpeg for at_ms, jpeg in pictures}
        before = [one for one in self._objects.list(_folder(moment_id)) if one.name not in names]
        shown_names = None if shown is None else {_name(moment_id, at_ms) for at_ms in shown}
        stay = [one for one in before if shown_names is None or one.name in shown_names]
        stay.sort(key=lambda one: (one.written_ns, one.name))
        del stay[: max(0, len(stay) + len(names) - MOST_REGIONS)]
        # First, so that a full store has room.
        self._objects.remove({one.name for one in before} - {one.name for one in stay})
        for name, jpeg in names.items():
            self._objects.put(name, jpeg)

    def remove(self, moment_ids: Collection[str]) -> int:
        """Remove every picture of these moments; how many there were. Those that have none are passed over."""
        removed = 0
        for moment_id in moment_ids:
            folder = _folder(moment_id)
            instants = [one.name for one in self._objects.list(folder)]
            own = f"{folder}.jpg"
            removed += len(instants) + self._objects.has(own)
            # Its own last: while it is there the others are found by `moments`.
            self._objects.remove(instants)
            self._objects.remove([own])
            self._objects.tidy(folder)
        return removed

    def moments(self, first_ms: int, last_ms: int) -> Iterator[tuple[str, int]]:
        """The moments that begin in this time, both inclusive, and have pictures, and when the latest of these was
        written. Reads the names of all pictures."""
        for name, _, written_ns in self.listed():
            if first_ms <= start_of(name) <= last_ms:
                yield name, written_ns // 1_000_000

    def listed(self) -> Iterator[tuple[str, int, int]]:
        """Every moment that has pictures: how many entries a listing has of it, and when the latest was written. Both
        together tell whether they changed."""
        for number in range(256):
            found: dict[str, tuple[int, int]] = {}
            for one in self._objects.list(f"{number:02x}"):
                name = one.name.partition("/")[2].partition("/")[0].removesuffix(".jpg")
                if MOMENT_ID.fullmatch(name):
                    entries, written_ns = found.get(name, (0, 0))
                    found[name] = entries + 1, max(written_ns, one.written_ns)
            yield from ((name, *told) for name, told in found.items())

    def all_of(self, moment_id: str) -> list[tuple[int | None, bytes]]:
        """Every picture of the moment, with its instant; the moment's own has none, and comes last."""
        found: list[tuple[int | None, bytes]] = []
        for one in self._objects.list(_folder(moment_id)):
            instant = one.name.rpartition("/")[2].removesuffix(".jpg")
            jpeg = self._objects.get(one.name) if instant.isdecimal() else None
            if jpeg is not None:
                found.append((int(instant), jpeg))
        own = self._objects.get(_name(moment_id))
        return sorted(found, key=lambda one: one[0] or 0) + ([] if own is None else [(None, own)])

    def bytes_of(self, moment_ids: Collection[str]) -> int:
        """How much the pictures of these moments take together. Reads them."""
        return sum(len(jpeg) for moment_id in moment_ids for _, jpeg in self.all_of(moment_id))

    def has(self, moment_id: str) -> bool:
        """Whether the moment's own picture is there."""
        return self._objects.has(_name(moment_id))

    def get(self, moment_id: str, at_ms: int | None = None) -> bytes:
        """The moment's picture of that instant; without one, the moment's own. Raises Unknown when there is none."""
        picture = None if at_ms is None else self.of_instant(moment_id, at_ms)
        if picture is None:
            picture = self._objects.get(_name(moment_id))
        if picture is None:
            raise no_picture(moment_id)
        return picture

    def of_instant(self, moment_id: str, at_ms: int) -> bytes | None:
        """The moment's picture of that instant."""
        return self._objects.get(_name(moment_id, at_ms))


def no_picture(moment_id: str) -> Unknown:
    """The error for a moment without a picture."""
    return Unknown(
        f"there is no picture of moment {moment_id}", todo="give the id of a hit; its picture may have been left out"
    )


def _folder(moment_id: str) -> str:
    """The folder of the moment's instants: so they are listed without those of other moments."""
    check_moment_ids([moment_id])
    # 256 folders: a folder of a million files is slow to list and to delete. An id begins with its time, so its end.
    return f"{moment_id[-2:]}/{moment_id}"


def _name(moment_id: str, at_ms: int | None = None) -> str:
    folder = _folder(moment_id)
    if at_ms is None:
        return f"{folder}.jpg"
    if not 0 <= at_ms < _LATEST_MS:
        raise Invalid(f"{at_ms} is not a time", todo="give the at_ms that a hit shows")
    return f"{folder}/{int(at_ms)}.jpg"
