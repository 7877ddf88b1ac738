"""Sends thousands of damaged pictures to a real worker over gRPC: `python -m loadtests.encoder_damage [--count 20000]`.

Flipped bits, truncated files, lost and doubled bytes, wrong sizes in headers, wrong formats, decompression bombs, CMYK,
16 bits, animations, rotated pictures, and bytes that are no picture. Every answer must be a vector or a known reason,
the good picture in each request must keep its vector, the worker must stay alive and its memory bounded.
"""

from __future__ import annotations

import asyncio
import io
import random
import struct
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from loadtests.encoder_parts import WorkerProcess, bundle_of, frames, parser, table, worker
from models.bundle import Bundle
from proto.errors import Poison
from workers.client import EncoderClient

REASONS = frozenset({"empty", "not_an_image", "truncated", "too_large"})
_AT_ONCE = 31
_CALLS = 4
_LEAST_LIKENESS = 0.999

Damage = Callable[[random.Random, bytes], bytes]


@dataclass
class Outcome:
    """The results for a corpus."""

    answers: Counter[str] = field(default_factory=Counter)
    """Counts by kind of damage and answer: "vector" or the reason."""
    strange: list[str] = field(default_factory=list)
    """Other answers, and changed vectors of good pictures."""
    memory_mb: list[float] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def count(self) -> int:
        return sum(self.answers.values())


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--count", type=int, default=20_000)
    arguments.add_argument("--seed", type=int, default=1)
    chosen = arguments.parse_args()
    bundle = bundle_of(chosen)
    with tempfile.TemporaryDirectory() as folder:
        outcome = asyncio.run(_play(bundle, Path(folder), chosen.count, chosen.seed))
    table([(name, f"{count:8}") for name, count in sorted(outcome.answers.items())])
    memory = outcome.memory_mb
    print(f"{outcome.count} pictures in {outcome.seconds:.0f} s; every answer typed: {not outcome.strange}")
    print(f"memory MB: {memory[0]:.0f} at first, {max(memory):.0f} at most, {memory[-1]:.0f} at the end")
    sys.exit("\n".join(outcome.strange[:20]) or None)


async def _play(bundle: Bundle, folder: Path, count: int, seed: int) -> Outcome:
    async with worker(bundle, folder) as remote:
        return await play(remote, bundle.image_side, count, seed)


async def play(remote: WorkerProcess, side: int, count: int, seed: int) -> Outcome:
    """Send `count` damaged pictures, with a good one in each request."""
    outcome = Outcome(memory_mb=[remote.rss_mb])
    good = small_frame(side)
    pictures = corpus(seed, side)
    began = time.perf_counter()
    async with EncoderClient(remote.address, timeout_s=60) as client:
        (reference,) = await client.embed_images([good])
        assert isinstance(reference, np.ndarray)

        async def caller() -> None:
            while outcome.count < count:
                batch = list(islice(pictures, _AT_ONCE))
                answers = await client.embed_images([*(data for _, data in batch), good])
                for (kind, _), answer in zip(batch, answers, strict=False):
                    said = answer.reason if isinstance(answer, Poison) else "vector"
                    outcome.answers[f"{kind}: {said}"] += 1
                    if isinstance(answer, Poison) and answer.reason not in REASONS:
                        outcome.strange.append(f"{kind}: {answer}")
                last = answers[-1]
                if isinstance(last, Poison) or float(last @ reference) < _LEAST_LIKENESS:
                    outcome.strange.append(f"the good picture was harmed: {last}")
                outcome.memory_mb.append(remote.rss_mb)

        async with asyncio.TaskGroup() as group:
            for _ in range(_CALLS):
                group.create_task(caller())
    outcome.seconds = time.perf_counter() - began
    return outcome


def small_frame(side: int) -> bytes:
    """A real frame."""
    return frames(1, side)[0]


def corpus(seed: int, side: int) -> Iterator[tuple[str, bytes]]:
    """An endless sequence of damaged pictures, each with the name of its damage; the same for the same seed."""
    chance = random.Random(seed)
    wholes = _wholes(small_frame(side))
    while True:
        damage = chance.choice(sorted(_DAMAGES))
        format_ = chance.choice(sorted(wholes))
        yield damage, _DAMAGES[damage](chance, wholes[format_])
        kind = chance.choice(sorted(_ODD))
        yield kind, _ODD[kind](chance, wholes["jpeg"])


def _wholes(frame: bytes) -> Mapping[str, bytes]:
    """The same small picture in every accepted format and variant."""
    image = Image.open(io.BytesIO(frame)).resize((96, 64))
    return {
        "jpeg": _saved(image, "JPEG", quality=85),
        "jpeg progressive": _saved(image, "JPEG", progressive=True),
        "jpeg cmyk": _saved(image.convert("CMYK"), "JPEG"),
        "jpeg grey": _saved(image.convert("L"), "JPEG"),
        "jpeg on its side": _saved(image, "JPEG", exif=_lying()),
        "png": _saved(image, "PNG"),
        "png palette": _saved(image.convert("P"), "PNG"),
        "png with alpha": _saved(image.convert("RGBA"), "PNG"),
        "png 16 bits": _saved(Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257), "PNG"),
        "webp": _saved(image, "WEBP", quality=80),
        "webp animated": _saved(image, "WEBP", save_all=True, append_images=[image.rotate(90)], duration=50),
    }


def _saved(image: Image.Image, kind: str, **options: object) -> bytes:
    target = io.BytesIO()
    image.save(target, kind, **options)
    return target.getvalue()


def _lying() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def _flipped(chance: random.Random, whole: bytes) -> bytes:
    damaged = bytearray(whole)
    for _ in range(chance.randint(1, 12)):
        damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
    return bytes(damaged)


def _header_flipped(chance: random.Random, whole: bytes) -> bytes:
    damaged = bytearray(whole)
    damaged[chance.randrange(min(64, len(damaged)))] = chance.randrange(256)
    return bytes(damaged)


def _spliced(chance: random.Random, whole: bytes) -> bytes:
    first, second = sorted(chance.randrange(len(whole)) for _ in range(2))
    return chance.choice([whole[:first] + whole[second:], whole[:second] + whole[first:]])


def _bomb(chance: random.Random, _: bytes) -> bytes:
    """A PNG whose header declares far more pixels than its data holds."""
    side = chance.choice([7_000, 20_000, 30_000, 65_535, 2_000_000_000])
    header = struct.pack(">IIBBBBB", side, side, 8, chance.choice([0, 2, 6]), 0, 0, 0)
    data = zlib.compress(bytes(100_000), 9)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _lying_jpeg(chance: random.Random, whole: bytes) -> bytes:
    """A JPEG whose header declares another size."""
    damaged = bytearray(whole)
    place = damaged.index(b"\xff\xc0") + 5
    damaged[place : place + 4] = struct.pack(
        ">HH", chance.choice([1, 65, 8_000, 65_535]), chance.choice([1, 97, 6_000])
    )
    return bytes(damaged)


def _other_format(chance: random.Random, _: bytes) -> bytes:
    kind = chance.choice(["GIF", "BMP", "TIFF", "PPM", "ICO", "TGA", "PCX"])
    return _saved(Image.new("RGB", (32, 32), (chance.randrange(256), 0, 0)), kind)


def _noise(chance: random.Random, _: bytes) -> bytes:
    start = chance.choice([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\x20\0\0\0WEBP", b"<svg>", b"%PDF-"])
    return start + chance.randbytes(chance.randrange(400))


_DAMAGES: dict[str, Damage] = {
    "bits flipped": _flipped,
    "cut off": lambda chance, whole: whole[: chance.randrange(len(whole))],
    "header changed": _header_flipped,
    "bytes lost or doubled": _spliced,
    "whole": lambda _, whole: whole,
}
_ODD: dict[str, Damage] = {
    "bomb": _bomb,
    "size that lies": _lying_jpeg,
    "other format": _other_format,
    "noise": _noise,
    "nothing": lambda *_: b"",
}


if __name__ == "__main__":
    main()
