"""What of one camera's frames is looked at up close, and what its moments keep of it. Knows no encoder."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from proto.types import Region
from stream.frames import Arrived
from stream.looks import Found, Look, boxes_of, look_at
from stream.regions import Account, Costs, Followed, Looked, Plan, counted, gathered
from stream.resume import MOST_OWED, Looks, Owed
from stream.tracks import UNKNOWN, Tracks, track_of


@dataclass(slots=True)
class CloseUp:
    """What one moment shows up close."""

    looked: Looked = field(default_factory=Looked)
    tracks: Tracks = field(default_factory=Tracks)
    """What moves in it."""
    followed: tuple[Followed, ...] = ()
    """The regions, and what that moved each of them shows."""
    objects: dict[str, int] = field(default_factory=dict)
    """How many of each kind were seen at most at one time."""
    owed: dict[int, Owed] = field(default_factory=dict)
    """Looks that are under way, by the offset of their frame."""
    again: dict[int, Owed] = field(default_factory=dict)
    """Looks that were under way when the moment's row was written: to be repeated when their frames come again."""
    pictures: dict[int, bytes] = field(default_factory=dict)
    """Of the regions' frames, by time: those that were not handed over yet."""
    changed: bool = False
    """Since the moment was told."""

    @property
    def regions(self) -> tuple[Region, ...]:
        """What the moment keeps, with the times at which each was there."""
        return tuple(_timed(one, self.tracks) for one in self.followed)

    def take_pictures(self) -> tuple[tuple[int, bytes], ...]:
        """The pictures to be stored. They are let go of here."""
        taken = tuple(sorted(self.pictures.items()))
        self.pictures.clear()
        return taken


class Attention:
    """What one camera in one partition may look at, and what is under way."""

    def __init__(self, costs: Costs | None) -> None:
        """`costs` None: frames are not looked at up close."""
        self._costs = costs
        self._account = Account()
        self._detecting = 0
        self._looks: list[Look] = []

    def take(self) -> list[Look]:
        """The looks that were decided upon since the last call."""
        looks, self._looks = self._looks, []
        return looks

    def must_wait(self, owed: int) -> bool:
        """Whether the next frame cannot be decided upon before looks that are under way are answered."""
        costs, account = self._costs, self._account
        if costs is None:
            return False
        if owed >= MOST_OWED:
            return True
        return self._detecting > 0 and account.is_near_detection(costs)

    def cut(self) -> None:
        """The moment that begins is not what became of the one before."""
        self._account.cut()

    def consider(self, arrived: Arrived, moment: str, close_up: CloseUp, *, may_look: bool) -> None:
        """Follow what moved in a new frame of the moment, and decide what of it is looked at."""
        if self._costs is None:
            return
        boxes = boxes_of(arrived.frame)
        tracks = close_up.tracks.follow(arrived.frame.captured_ms, boxes)
        self._account.earns(arrived.frame.novelty, self._costs, moves=any(arrived.frame.crops))
        if not may_look or len(close_up.owed) + len(close_up.again) >= MOST_OWED:
            return
        moved = close_up.tracks.at(boxes, tracks)
        plan = close_up.looked.plan(moved, arrived.frame.captured_ms, self._account, self._costs)
        if plan:
            self._ask(arrived, moment, close_up, Owed(plan, tracks))

    def repeat(self, arrived: Arrived, moment: str, close_up: CloseUp) -> None:
        """A frame comes again: its look was decided upon and not answered, perhaps."""
        owed = close_up.again.pop(arrived.record.offset, None)
        if owed is None or self._costs is None:
            return
        plan = owed.plan if self._costs.detection is not None else Plan(owed.plan.crops)
        if plan:
            self._ask(arrived, moment, close_up, owed._replace(plan=plan))

    def saw(self, look: Look, found: Found, close_up: CloseUp) -> bool:
        """A look is answered. Gives whether what it shows is to be told at once: a first region, or a new kind."""
        close_up.owed.pop(look.offset, None)
        if look.detect is not None:
            self._detecting -= 1
            self._account.found(found.embedded)
        before, kinds = close_up.followed, close_up.objects
        close_up.followed = gathered(before, [_followed(one, look) for one in found.regions])
        close_up.objects = counted(kinds, found.regions)
        if close_up.objects == kinds and close_up.followed == before:
            return False
        close_up.changed = True
        regions = [one.region for one in close_up.followed]
        times = {one.at_ms for one in regions}
        close_up.pictures = {at_ms: jpeg for at_ms, jpeg in close_up.pictures.items() if at_ms in times}
        if any(one in found.regions for one in regions):
            close_up.pictures[look.at_ms] = look.jpeg
        return not before or close_up.objects.keys() != kinds.keys()

    def state(self, close_up: CloseUp, first_offset: int) -> Looks:
        """What another worker needs in order to go on."""
        account, looked = self._account, close_up.looked
        under_way = sorted((close_up.again | close_up.owed).items())[:MOST_OWED]
        return Looks(
            account.credit,
            account.surplus,
            account.since,
            looked.searched,
            looked.whole,
            looked.embedded,
            tuple((offset - first_offset, owed) for offset, owed in under_way),
            tuple(close_up.tracks.of),
            tuple(one.tracks for one in close_up.followed),
        )

    def go_on(
        self, looks: Looks, first_offset: int, regions: Iterable[Region], objects: Iterable[tuple[str, int]]
    ) -> CloseUp:
        """The moment as another worker left it."""
        self._account = Account(looks.credit, looks.surplus, looks.since)
        kept = tuple(regions)
        # A write that was cut off may have lost a region: then nobody knows which of them shows what.
        tracks = looks.of_regions if len(looks.of_regions) == len(kept) else (0,) * len(kept)
        return CloseUp(
            looked=Looked(looks.searched, looks.whole, looks.embedded),
            tracks=Tracks([replace(one) for one in looks.tracks]),
            followed=tuple(map(Followed, kept, tracks)),
            objects=dict(objects),
            again={first_offset + behind: owed for behind, owed in looks.owed},
        )

    def _ask(self, arrived: Arrived, moment: str, close_up: CloseUp, owed: Owed) -> None:
        look = look_at(arrived, moment, owed.plan, owed.tracks)
        close_up.owed[look.offset] = owed
        close_up.tracks.show(owed.tracks)
        self._detecting += look.detect is not None
        self._looks.append(look)


def _followed(region: Region, look: Look) -> Followed:
    track = track_of(region.box, look.moved)
    return Followed(region, 0 if track == UNKNOWN else 1 << track)


def _timed(one: Followed, tracks: Tracks) -> Region:
    """The region with the times of what it shows, as far as they are known by now."""
    region = one.region
    numbers = [number for number in range(one.tracks.bit_length()) if one.tracks >> number & 1]
    times = tracks.times(numbers, region.at_ms)
    return region if times is None else replace(region, since_ms=times[0], until_ms=times[1])
