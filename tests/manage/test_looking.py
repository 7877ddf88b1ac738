"""Test pictures by real children, of real files and of sources that never end."""

from __future__ import annotations

import io
import socket
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from manage.looking import look
from proto.errors import Invalid, Late, Transient
from proto.types import Camera
from tests.clips import CLIPS

pytestmark = pytest.mark.long


async def test_a_masked_part_is_black_in_a_test_picture(tmp_path: Path) -> None:
    mask = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))
    seen = await look(Camera("bikes", str(CLIPS["bikes"]), masks=(mask,)), 20)
    assert (seen.width, seen.height, seen.codec) == (640, 272, "h264")
    pixels = np.asarray(Image.open(io.BytesIO(seen.jpeg)).convert("L"))
    middle = pixels.shape[1] // 2
    assert pixels[:, : middle - 8].max() < 16
    assert pixels[:, middle + 8 :].mean() > 32
    listed = tmp_path / "list.m3u8"
    listed.write_text(f"#EXTM3U\n#EXTINF:1,\n{CLIPS['bikes']}\n")
    with pytest.raises(Invalid):
        await look(Camera("list", str(listed)), 20)


async def test_a_source_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"rtsp://boss:hunter2@127.0.0.1:{silent.getsockname()[1]}/"
        with pytest.raises((Transient, Late)) as slow:
            await look(Camera("slow", url), 0.5)
        assert "hunter2" not in str(slow.value)
        monkeypatch.setattr("manage.looking._STARTING_S", 0.0)
        with pytest.raises(Late):  # however long the child itself would wait
            await look(Camera("slow", url), 0.01)
