"""Which videos there are: their places, lights and what passes through them. Tables, and the path of one object."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from evals.yard.pictures import catalog

FPS = 12
DAY, DUSK, NIGHT = "day", "dusk", "night"
FADE_S = 0.5


@dataclass(frozen=True, slots=True)
class Place:
    """A background: where the ground begins (share of the height), and a patch (l, t, r, b) that always sways."""

    ground: float
    sway: tuple[float, float, float, float] | None
    lamp: tuple[float, float]  # where a lamp lights the night


PLACES: dict[str, Place] = {
    "room": Place(0.64, (0.0, 0.02, 0.2, 0.4), (0.5, 0.5)),
    "road": Place(0.12, None, (0.3, 0.4)),
    "snow": Place(0.84, (0.5, 0.1, 0.95, 0.86), (0.4, 0.8)),
    "mountain": Place(0.7, (0.6, 0.62, 0.98, 0.82), (0.5, 0.8)),
    "highway": Place(0.86, (0.0, 0.62, 0.5, 0.76), (0.6, 0.8)),
    "hilltop": Place(0.72, (0.05, 0.6, 0.5, 0.8), (0.5, 0.7)),
    "carpark": Place(0.14, None, (0.6, 0.5)),
    "warehouse": Place(0.42, None, (0.35, 0.5)),
    "field": Place(0.45, (0.52, 0.12, 0.78, 0.42), (0.4, 0.6)),
    "meadow": Place(0.72, (0.62, 0.2, 1.0, 0.72), (0.4, 0.75)),
    "jetty": Place(0.62, (0.0, 0.5, 0.35, 0.62), (0.5, 0.7)),
    "forest": Place(0.66, (0.55, 0.05, 0.98, 0.6), (0.3, 0.7)),
}


@dataclass(frozen=True, slots=True)
class Passing:
    """One object's way through the picture. Times in seconds; all else in shares of the picture."""

    what: str
    way: str  # across, away, toward, placed, rolling, flying
    share: float  # of the picture's area, at the middle of its way
    start_s: float
    end_s: float
    floor: float  # where its feet are at the middle of its way
    at: float  # left to right, for ways that do not cross
    rightwards: bool
    zoom: float  # size at the end over size at the start
    phase: float


@dataclass(frozen=True, slots=True)
class Spot:
    """Where an object is at one instant: centre and feet in pixels, how large, how solid."""

    x: float
    feet: float
    width: float
    height: float
    solid: float
    turn: float  # degrees


@dataclass(frozen=True, slots=True)
class Video:
    """One video of the set: all that is needed to compose it again."""

    name: str
    part: str
    place: str
    condition: str
    width: int
    height: int
    seconds: float
    seed: int
    passings: tuple[Passing, ...]

    @property
    def frames(self) -> int:
        return round(self.seconds * FPS)


HD, FULL = (1280, 720), (1920, 1080)

# name: place, light, size, then what passes: object, share of the picture in per cent, and how, where it is not
# "across". A plus: while the one before is still there.
TRAIN: dict[str, tuple[str, str, tuple[int, int], str]] = {
    "room-1": ("room", DAY, HD, "woman-cardigan 6, man-greyshirt 8, football 0.8 rolling, toolbox 1.5 placed"),
    "room-2": ("room", NIGHT, HD, "man-hoodie 7, woman-cardigan-back 12 away, bin-green 3 placed"),
    "road-1": ("road", DAY, HD, "car-redtop 9 away, beetle 2, pickup 5+, man-redpolo 2 toward"),
    "road-2": ("road", NIGHT, HD, "car-whitefront 9 toward, firetruck 14, dumper 6"),
    "road-3": ("road", DUSK, HD, "fireman-a 3, fireman-b 3+, firetruck 8, gascylinder 0.9 placed"),
    "snow-1": ("snow", DAY, FULL, "fox 0.7, dog-tan 2, man-redpolo 4 toward, crow 0.6"),
    "snow-2": ("snow", NIGHT, HD, "donkey 4, man-hoodie 2, sheep 3"),
    "mountain-1": ("mountain", DAY, HD, "sheep 1.5, donkey 4, goose 0.8, woman-cardigan 3+"),
    "mountain-2": ("mountain", NIGHT, HD, "bull 5, fireman-b 2, fox 1.5"),
    "highway-1": ("highway", DAY, HD, "beetle 1, pickup 3, firetruck 7, dumper 4+"),
    "highway-2": ("highway", NIGHT, HD, "pickup 2, beetle 5, dog-tan 0.8"),
    "hilltop-1": ("hilltop", DUSK, HD, "hen 0.7, man-greyshirt-back 5 away, drum 2 placed, bull 8"),
}
TEST: dict[str, tuple[str, str, tuple[int, int], str]] = {
    "carpark-1": ("carpark", DAY, HD, "sedan 4, walker 0.6, woman-blonde 3, car-white 8 away, cone 0.6 placed"),
    "carpark-2": ("carpark", NIGHT, HD, "sportscar 4, man-tshirt 2, bus 13"),
    "carpark-3": ("carpark", DUSK, HD, "cyclist 1.2, car-grey 9 away, bus 6, walker 0.6+"),
    "carpark-4": ("carpark", DAY, FULL, "garbagetruck 11, worker 2 away, cone 1 placed+, dog-husky 0.8"),
    "warehouse-1": ("warehouse", DAY, HD, "worker 5 away, man-suit 6 toward, guitar 0.8 placed, bin-metal 1.8 placed"),
    "warehouse-2": ("warehouse", NIGHT, HD, "man-tshirt 6, woman-darkhair 7+, basketball 0.6 rolling"),
    "warehouse-3": ("warehouse", DAY, HD, "tricycle 1.8, woman-blonde-back 15 away, basketball 1.5 rolling"),
    "field-1": ("field", DAY, HD, "horse 4, cow 6+, deer 0.7, woman-darkhair 2"),
    "field-2": ("field", NIGHT, HD, "dog-husky 2, rabbit 0.8, man-suit 4 toward"),
    "field-3": ("field", DAY, HD, "balloon 1.5 flying, goat 3, sportscar 1.5, cyclist 1"),
    "meadow-1": ("meadow", DAY, FULL, "cow 3, horse 8, balloon 5 flying, seagull 0.6 flying"),
    "meadow-2": ("meadow", DUSK, HD, "goat 1.2, deer 5, woman-blonde 5"),
    "jetty-1": ("jetty", DAY, HD, "seagull 1 flying, duck 0.7, woman-darkhair-back 10 away, man-suit 2 toward"),
    "jetty-2": ("jetty", NIGHT, HD, "man-tshirt 5, dog-husky 6, seagull 2 flying"),
    "forest-1": ("forest", DAY, HD, "deer 2, rabbit 0.6, cyclist 1.8, worker 5 away"),
    "forest-2": ("forest", DUSK, HD, "duck 1.5, horse 12, woman-blonde-back 6 away"),
}


def videos(part: str) -> list[Video]:
    """The videos of "train", "test" or "all"."""
    found = []
    for name, table in (("train", TRAIN), ("test", TEST)):
        if part in (name, "all"):
            found += [scripted(video, name, *row) for video, row in table.items()]
    return found


def scripted(name: str, part: str, place: str, condition: str, size: tuple[int, int], said: str) -> Video:
    """A video by the words of its row: always the same one for the same name and words."""
    seed = sum(ord(letter) * 31**at for at, letter in enumerate(name)) % 1_000_003
    dice = random.Random(seed)  # noqa: S311 - a seed that gives the same set to everybody
    passings: list[Passing] = []
    clock = dice.uniform(3, 5)
    for words in (each.split() for each in said.split(", ")):
        together = words[-1].endswith("+") and bool(passings)
        way = words[2].rstrip("+") if len(words) > 2 else "across"
        start = passings[-1].start_s + dice.uniform(1, 2) if together else clock
        passing = _passing(words[0], float(words[1].rstrip("+")) / 100, way, start, PLACES[place], dice)
        passings.append(passing)
        clock = max(clock, passing.end_s + dice.uniform(3, 5.5))
    seconds = max(30.0, math.ceil(clock + 1))
    return Video(name, part, place, condition, *size, seconds, seed, tuple(passings))


def _passing(what: str, share: float, way: str, start_s: float, place: Place, dice: random.Random) -> Passing:
    lasts = dice.uniform(5, 8) if way in ("placed", "flying", "away", "toward") else dice.uniform(5, 9)
    near = min(1.0, math.sqrt(share / 0.15))  # what looks larger stands nearer, so lower in the picture
    floor = place.ground + (0.96 - place.ground) * (0.25 + 0.75 * near) * dice.uniform(0.92, 1.0)
    if way == "flying":
        floor = dice.uniform(0.3, 0.4) + math.sqrt(share) / 2
    zoom = {"away": 0.6, "toward": 1.7, "placed": 1.0}.get(way, dice.uniform(0.85, 1.2))
    return Passing(
        *(what, way, share, start_s, start_s + lasts, floor, dice.uniform(0.2, 0.8)),
        *(dice.random() < 0.5, zoom, dice.uniform(0, math.tau)),
    )


def spot(passing: Passing, video: Video, second: float) -> Spot | None:
    """Where the object is at a second of the video; None when it is not there."""
    if not passing.start_s <= second < passing.end_s:
        return None
    along = (second - passing.start_s) / (passing.end_s - passing.start_s)
    said = catalog()[passing.what]
    aspect = float(said["width"]) / float(said["height"])
    whole = math.sqrt(passing.share * video.width * video.height)
    size = whole * passing.zoom ** (along - 0.5)
    width, height = size * math.sqrt(aspect), size / math.sqrt(aspect)
    feet, solid, turn = passing.floor * video.height, 1.0, 0.0
    x = passing.at * video.width
    left = min(second - passing.start_s, passing.end_s - second) / FADE_S
    if passing.way in ("away", "toward"):
        far = along if passing.way == "away" else 1 - along
        feet = video.height + height - (video.height + height - feet) * min(1.0, far / 0.4)
        x += (far - 0.5) * 0.15 * video.width
        edge = passing.end_s - second if passing.way == "away" else second - passing.start_s
        solid = min(1.0, edge / FADE_S)
    elif passing.way == "placed":
        solid = min(1.0, left)
    else:
        forward = along if passing.rightwards else 1 - along
        first, second_half = passing.at * video.width + width / 2, video.width * (1 - passing.at) + width / 2
        x = -width / 2 + 2 * forward * first if forward < 0.5 else x + (2 * forward - 1) * second_half
    if passing.way == "rolling":
        turn = (-1 if passing.rightwards else 1) * math.degrees(along * (video.width + width) / (width / 2))
        feet -= height * 0.5 * abs(math.sin(along * 9)) * (1 - along)
    elif passing.way == "flying":
        feet += height * 0.2 * math.sin(along * 7 + passing.phase)
    elif passing.way != "placed":
        feet -= height * 0.012 * (1 + math.sin(second * 11 + passing.phase))
    return Spot(x, feet, width, height, solid, turn)
