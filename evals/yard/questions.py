"""Which phrase asks for which objects, in which part; and the lines of questions.jsonl."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from evals.yard.compose import Truth, truths
from evals.yard.phrases import LANGUAGES, PHRASES
from evals.yard.scenes import Video


@dataclass(frozen=True, slots=True)
class Group:
    """One meaning: `objects` are the cut-outs that answer it, by name or by the beginning of a name; none: absent."""

    phrase: str
    what: str  # person, vehicle, animal, thing
    objects: str = ""
    video: str | None = None  # asked of this video alone


_WOMEN, _CARS = "woman", "sedan sportscar car-white car-grey"
_ON_FOOT = "woman man worker walker fireman"
_VEHICLES = f"{_CARS} car-redtop car-whitefront beetle pickup bus garbagetruck firetruck dumper cyclist"
_ANIMALS = "dog horse cow goat deer rabbit duck seagull sheep donkey bull fox goose hen crow"

TEST = (
    *(Group("person-walking", "person", _ON_FOOT), Group("woman", "person", _WOMEN)),
    Group("woman-blonde", "person", "woman-blonde"),
    Group("woman-darkhair", "person", "woman-darkhair"),
    *(Group("man-suit", "person", "man-suit"), Group("man-tshirt", "person", "man-tshirt")),
    *(Group("worker", "person", "worker"), Group("cyclist", "person", "cyclist")),
    *(Group("car", "vehicle", _CARS), Group("blue-sedan", "vehicle", "sedan")),
    *(Group("sportscar", "vehicle", "sportscar"), Group("white-car", "vehicle", "car-white")),
    *(Group("bus", "vehicle", "bus"), Group("garbagetruck", "vehicle", "garbagetruck")),
    *(Group("motorcycle", "vehicle"), Group("tricycle", "vehicle", "tricycle")),
    *(Group("animal", "animal", _ANIMALS), Group("dog", "animal", "dog"), Group("horse", "animal", "horse")),
    *(Group("cow", "animal", "cow"), Group("goat", "animal", "goat"), Group("deer", "animal", "deer")),
    *(Group("rabbit", "animal", "rabbit"), Group("duck", "animal", "duck"), Group("seagull", "animal", "seagull")),
    *(Group("balloon", "thing", "balloon"), Group("cone", "thing", "cone"), Group("guitar", "thing", "guitar")),
    *(Group("basketball", "thing", "basketball"), Group("bin-metal", "thing", "bin-metal")),
    Group("someone", "person", f"{_ON_FOOT} cyclist", "carpark-2"),
    Group("vehicle", "vehicle", _VEHICLES, "carpark-1"),
    Group("animal", "animal", _ANIMALS, "field-1"),
    Group("woman", "person", _WOMEN, "warehouse-2"),
    *(Group("elephant", "animal"), Group("helicopter", "vehicle"), Group("boat", "vehicle"), Group("flames", "scene")),
    *(Group("train", "vehicle"), Group("umbrella", "thing"), Group("suitcase", "thing"), Group("firetruck", "vehicle")),
    *(
        Group("cat", "animal"),
        Group("airplane", "vehicle"),
        Group("forklift", "vehicle"),
        Group("wheelchair", "person"),
    ),
    *(Group("pram", "person"), Group("ladder", "person"), Group("parcel", "thing"), Group("pig", "animal")),
    *(Group("tractor", "vehicle"), Group("snowman", "thing"), Group("tent", "thing"), Group("firefighter", "person")),
)
TRAIN = (
    *(Group("person-walking", "person", _ON_FOOT), Group("man", "person", "man fireman")),
    Group("woman-cardigan", "person", "woman-cardigan"),
    *(Group("man-redpolo", "person", "man-redpolo"), Group("man-greyshirt", "person", "man-greyshirt")),
    Group("firefighter", "person", "fireman"),
    *(Group("car", "vehicle", "beetle car-redtop car-whitefront"), Group("beetle", "vehicle", "beetle")),
    *(Group("pickup", "vehicle", "pickup"), Group("firetruck", "vehicle", "firetruck")),
    Group("dumper", "vehicle", "dumper"),
    *(Group("animal", "animal", _ANIMALS), Group("dog", "animal", "dog"), Group("sheep", "animal", "sheep")),
    *(Group("donkey", "animal", "donkey"), Group("bull", "animal", "bull"), Group("fox", "animal", "fox")),
    *(Group("goose", "animal", "goose"), Group("hen", "animal", "hen"), Group("crow", "animal", "crow")),
    *(Group("football", "thing", "football"), Group("toolbox", "thing", "toolbox")),
    *(Group("bin-green", "thing", "bin-green"), Group("gascylinder", "thing", "gascylinder")),
    Group("drum", "thing", "drum"),
    Group("vehicle", "vehicle", _VEHICLES, "highway-1"),
    Group("someone", "person", _ON_FOOT, "room-2"),
    *(Group("elephant", "animal"), Group("helicopter", "vehicle"), Group("boat", "vehicle"), Group("cat", "animal")),
    *(
        Group("police-car", "vehicle"),
        Group("bus", "vehicle"),
        Group("motorcycle", "vehicle"),
        Group("tiger", "animal"),
    ),
    *(Group("cyclist", "person"), Group("worker", "person"), Group("umbrella", "thing"), Group("suitcase", "thing")),
    *(Group("skateboard", "person"), Group("horse", "animal"), Group("guitar", "thing"), Group("balloon", "thing")),
    *(Group("train", "vehicle"), Group("flames", "scene"), Group("airplane", "vehicle"), Group("wheelchair", "person")),
)


def lines(videos: Iterable[Video]) -> list[dict[str, Any]]:
    """The questions about these videos, numbered; those of one group differ in language only."""
    by_part: dict[str, list[Video]] = {"train": [], "test": []}
    for video in videos:
        by_part[video.part].append(video)
    found: list[dict[str, Any]] = []
    for part, groups, first in (("train", TRAIN, 1), ("test", TEST, 1001)):
        if by_part[part]:
            asked = [line for group in groups for line in _lines_of(group, part, by_part[part])]
            found += [{"qid": first + at, **line} for at, line in enumerate(asked)]
    return found


def _lines_of(group: Group, part: str, videos: list[Video]) -> list[dict[str, Any]]:
    relevant = [
        span
        for video in videos
        if group.video in (None, video.name)
        for span in _spans(video, [truth for truth in truths(video) if _answers(truth.what, group.objects)])
    ]
    assert bool(relevant) == bool(group.objects), f"{group} has {len(relevant)} spans"
    named = f"{part}-{group.phrase}" + (f"-{group.video}" if group.video else "")
    return [
        {
            **{"query": PHRASES[group.phrase][at], "language": language, "group": named, "video": group.video},
            **{"part": part, "relevant": relevant, "absent": not relevant, "what": group.what},
        }
        for at, language in enumerate(LANGUAGES)
    ]


def _spans(video: Video, found: list[Truth]) -> list[dict[str, Any]]:
    """What answers in one video. Two that answer at the same time are one span, with the larger one's box."""
    spans: list[dict[str, Any]] = []
    for truth in sorted(found, key=lambda truth: truth.start_s):
        span = {
            **{"video": video.name, "start_s": round(truth.start_s, 3), "end_s": round(truth.end_s, 3)},
            **{"box": [round(side, 4) for side in truth.box], "share": round(truth.share, 5)},
            **{"condition": video.condition, "object": truth.what},
            "track": [[round(at_s, 3), [round(side, 4) for side in box]] for at_s, box in truth.track],
        }
        if spans and span["start_s"] < spans[-1]["end_s"]:
            before = spans.pop()
            larger = max(before, span, key=lambda each: each["share"])
            track = sorted(before["track"] + span["track"], key=lambda entry: float(entry[0]))
            times = {"start_s": before["start_s"], "end_s": max(before["end_s"], span["end_s"])}
            span = {**larger, **times, "track": track}
        spans.append(span)
    return spans


def _answers(what: str, objects: str) -> bool:
    return any(what == name or what.startswith(f"{name}-") for name in objects.split())
