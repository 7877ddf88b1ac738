from __future__ import annotations

import gc
import io
import struct
import zlib
from typing import Any

import numpy as np
import psutil
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from models.preprocess import Picture, PreprocessConfig, Preprocessor, fitted, normalising
from proto.errors import Poison
from tests.histories import examples
from tests.models.parts import jpeg, picture

REASONS = {"empty", "not_an_image", "truncated", "too_large"}
CONFIG = PreprocessConfig(size=(64, 64), mean=(0.5,) * 3, std=(0.5,) * 3, resize_mode="longest", fill_color=127)
GREY = (127 / 255 - 0.5) / 0.5


def reader(config: PreprocessConfig = CONFIG, *, max_bytes: int = 1_000_000, max_pixels: int = 500_000) -> Preprocessor:
    return Preprocessor(config, max_bytes=max_bytes, max_pixels=max_pixels)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    target = io.BytesIO()
    image.save(target, kind, **options)
    return target.getvalue()


def likeness(one: Picture, other: Picture) -> float:
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


def refused(data: bytes, **limits: int) -> str:
    with pytest.raises(Poison) as met:
        reader(**limits)(data)  # type: ignore[arg-type]  # names of limits only
    assert met.value.todo
    return met.value.reason


def test_a_wide_picture_is_shown_whole_with_a_margin_above_and_below() -> None:
    found = reader()(jpeg(picture(320, 160)))

    assert found.shape == (3, 64, 64)
    assert found.dtype == np.float32
    assert np.allclose(found[:, :16], GREY, atol=1e-6)
    assert np.allclose(found[:, 48:], GREY, atol=1e-6)
    assert found[:, 16:48].std() > 0.3


@pytest.mark.parametrize("mode", ["longest", "shortest", "squash"])
@pytest.mark.parametrize("size", [(320, 180), (180, 320), (1280, 720), (64, 64), (20, 10), (1, 1), (1, 900), (900, 1)])
def test_every_shape_of_picture_comes_out_at_the_models_size(mode: Any, size: tuple[int, int]) -> None:
    config = CONFIG.model_copy(update={"resize_mode": mode})

    assert reader(config, max_pixels=2_000_000)(jpeg(picture(*size))).shape == (3, 64, 64)


@pytest.mark.parametrize("mode", ["longest", "shortest", "squash"])
def test_decoding_at_a_smaller_scale_gives_the_same_picture(mode: Any) -> None:
    config = CONFIG.model_copy(update={"resize_mode": mode})
    pixels = picture(1280, 720)

    found = reader(config, max_pixels=2_000_000)(jpeg(pixels, 95))

    assert likeness(found, fitted(pixels, config)) > 0.99


def test_the_larger_a_jpeg_is_decoded_the_more_it_is_what_every_pixel_gives() -> None:
    config = CONFIG.model_copy(update={"interpolation": "bilinear"})
    pixels = np.random.default_rng(0).integers(0, 256, (720, 1280, 3), np.uint8)
    whole = fitted(pixels, config)

    def strayed(times: float) -> float:
        read = reader(config.model_copy(update={"decode_at_least": times}), max_bytes=5_000_000, max_pixels=2_000_000)
        return float(np.abs(read(jpeg(pixels, 98)) - whole).mean())

    assert strayed(20) < strayed(5) < strayed(1)


def test_a_picture_can_be_written_where_the_caller_wants_it() -> None:
    read, target = reader(), np.full((2, 3, 64, 64), 9, np.float32)

    found = read(jpeg(picture()), target[1])

    assert np.shares_memory(found, target)
    assert np.array_equal(target[1], read(jpeg(picture())))
    assert (target[0] == 9).all()
    assert read.shape == (3, 64, 64)


@pytest.mark.reference
@pytest.mark.parametrize("mode", ["longest", "shortest", "squash"])
@pytest.mark.parametrize("size", [(640, 272), (272, 641), (97, 333), (224, 224), (225, 224), (60, 40)])
def test_pixels_are_scaled_and_cut_as_open_clip_does(mode: Any, size: tuple[int, int]) -> None:
    from open_clip.transform import PreprocessCfg, image_transform_v2

    config = CONFIG.model_copy(update={"size": (64, 64), "resize_mode": mode})
    described = PreprocessCfg(64, mean=config.mean, std=config.std, resize_mode=mode, fill_color=127)
    pixels = picture(*size)

    theirs = image_transform_v2(described, is_train=False)(Image.fromarray(pixels)).numpy()
    difference = np.abs(fitted(pixels, config) - theirs)

    assert difference.mean() < 0.002
    assert np.quantile(difference, 0.99) < 0.03


def test_numbers_are_normalised_as_the_config_says() -> None:
    config = PreprocessConfig(size=(1, 1), mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 1.0))
    pixels = np.array([[[255, 51, 0]]], np.uint8)

    assert fitted(pixels, config).ravel() == pytest.approx([1.8, 0.0, -0.3], abs=1e-6)


@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
def test_an_engine_that_normalises_is_given_the_pixel_values_of_the_same_picture(mode: str) -> None:
    config = PreprocessConfig(size=(24, 32), mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 1.0), resize_mode=mode, fill_color=7)
    pixels = picture(50, 20)
    values = fitted(pixels, config, np.empty((3, 24, 32), np.uint8))
    factor, less = normalising(config)

    assert values.dtype == np.uint8
    assert np.allclose(values * factor - less, fitted(pixels, config), atol=1e-6)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_other_formats_give_the_same_picture(kind: str) -> None:
    pixels = picture()

    assert likeness(reader()(encoded(Image.fromarray(pixels), kind)), reader()(jpeg(pixels, 95))) > 0.99


def test_a_grey_jpeg_is_read() -> None:
    found = reader()(encoded(Image.fromarray(picture()).convert("L"), "JPEG"))

    assert np.allclose(found[0], found[1], atol=0.02)


def test_a_cmyk_jpeg_is_read() -> None:
    pixels = picture()

    found = reader()(encoded(Image.fromarray(pixels).convert("CMYK"), "JPEG", quality=95))

    assert likeness(found, reader()(jpeg(pixels))) > 0.95


def test_a_progressive_jpeg_is_read() -> None:
    pixels = picture()

    found = reader()(encoded(Image.fromarray(pixels), "JPEG", quality=95, progressive=True))

    assert likeness(found, reader()(jpeg(pixels, 95))) > 0.99


def test_sixteen_bit_grey_is_scaled_and_not_clipped() -> None:
    grey = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)

    found = reader()(encoded(Image.fromarray(grey), "PNG"))

    assert found[0, 32].mean() == pytest.approx(0, abs=0.05)


def test_a_picture_lying_on_its_side_is_turned_upright() -> None:
    pixels = picture(160, 320)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = Image.fromarray(pixels).transpose(Image.Transpose.ROTATE_90)

    found = reader()(encoded(turned, "JPEG", quality=95, exif=exif))

    assert likeness(found, reader()(jpeg(pixels, 95))) > 0.99


def test_what_is_transparent_lies_on_white() -> None:
    assert np.allclose(reader()(encoded(Image.new("RGBA", (64, 64), (0, 0, 0, 0)), "PNG")), 1)


def test_an_animation_shows_its_first_picture() -> None:
    first, second = Image.fromarray(picture(seed=1)), Image.fromarray(picture(seed=5))
    animation = encoded(first, "WEBP", save_all=True, append_images=[second], duration=100, quality=95)

    assert likeness(reader()(animation), reader()(jpeg(picture(seed=1), 95))) > 0.98


def test_no_bytes_are_empty() -> None:
    assert refused(b"") == "empty"


@pytest.mark.parametrize(
    "data", [b"hello", bytes(5000), b"\xff\xd8", b"\xff\xd8hello", b"GIF89a" + bytes(100), b"BM" + bytes(100), b"RIFF"]
)
def test_bytes_that_are_no_picture_say_so(data: bytes) -> None:
    assert refused(data) == "not_an_image"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_picture_that_ends_early_is_truncated(kind: str) -> None:
    whole = encoded(Image.fromarray(picture()), kind)

    assert refused(whole[: len(whole) // 2]) == "truncated"


def test_a_jpeg_that_ends_inside_its_header_is_truncated() -> None:
    assert refused(jpeg(picture())[:100]) == "truncated"


def test_too_many_bytes_are_refused() -> None:
    assert refused(jpeg(picture()), max_bytes=1000) == "too_large"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_too_many_pixels_are_refused(kind: str) -> None:
    assert refused(encoded(Image.fromarray(picture(200, 100)), kind), max_pixels=19_999) == "too_large"


def test_a_large_picture_that_is_cut_off_leaves_no_memory_behind() -> None:
    whole = encoded(Image.new("RGB", (4_000, 4_000)), "PNG")
    process = psutil.Process()
    read = reader(max_pixels=20_000_000)
    gc.disable()
    try:
        before, met = process.memory_info().rss, []
        for _ in range(6):
            try:
                read(whole[: len(whole) // 2])
            except Poison as error:
                met.append(error)
        grown = process.memory_info().rss - before
    finally:
        gc.enable()

    assert [error.reason for error in met] == ["truncated"] * 6
    assert grown < 100_000_000


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


@pytest.mark.parametrize("side", [8_000, 12_000, 60_000, 2_000_000_000])
def test_a_picture_that_only_claims_to_be_huge_is_refused_from_its_header(side: int) -> None:
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    bomb = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )

    assert refused(bomb) == "too_large"


def test_a_jpeg_that_only_claims_to_be_huge_is_refused_from_its_header() -> None:
    whole = bytearray(jpeg(picture()))
    place = whole.index(b"\xff\xc0") + 5
    whole[place : place + 4] = struct.pack(">HH", 65_000, 65_000)

    assert refused(bytes(whole)) == "too_large"


WHOLE = {kind: encoded(Image.fromarray(picture(48, 40)), kind) for kind in ("JPEG", "PNG", "WEBP")}


@settings(max_examples=examples(150), deadline=None)
@given(st.sampled_from(sorted(WHOLE)), st.data())
def test_a_damaged_picture_is_read_or_refused_with_a_known_reason(kind: str, data: st.DataObject) -> None:
    damaged = bytearray(WHOLE[kind])
    for place in data.draw(st.lists(st.integers(0, len(damaged) * 8 - 1), max_size=8)):
        damaged[place // 8] ^= 1 << place % 8
    del damaged[data.draw(st.integers(0, len(damaged))) :]
    try:
        found = reader()(bytes(damaged))
    except Poison as met:
        assert met.reason in REASONS
    else:
        assert found.shape == (3, 64, 64)
        assert np.isfinite(found).all()


@settings(max_examples=examples(100), deadline=None)
@given(st.binary(max_size=200))
@example(b"\xff\xd8\xff\xe1\x00\x10Exif\0\0")
def test_any_bytes_are_refused_with_a_known_reason(data: bytes) -> None:
    for start in (b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\x20\x00\x00\x00WEBP"):
        assert refused(start + data) in REASONS


@pytest.mark.parametrize(("width", "height"), [(3000, 1000), (320, 180), (40, 2000)])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_whole_picture_is_decoded_no_larger_than_asked_and_keeps_its_shape(
    kind: str, width: int, height: int
) -> None:
    read = Preprocessor(
        PreprocessConfig(size=(32, 32), mean=(0.5,) * 3, std=(0.5,) * 3), max_bytes=10**8, max_pixels=10**8
    )
    content = io.BytesIO()
    Image.new("RGB", (width, height), (200, 100, 50)).save(content, kind)
    pixels = read.pixels(content.getvalue(), 640)
    long = min(640, max(width, height))
    assert max(pixels.shape[:2]) == long
    assert min(pixels.shape[:2]) == max(1, round(min(width, height) * long / max(width, height)))
    assert np.abs(pixels.reshape(-1, 3).mean(axis=0) - (200, 100, 50)).max() < 4
