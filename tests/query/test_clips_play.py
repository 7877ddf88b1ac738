"""Clips in a real Chromium, as a file and piece by piece."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cameras.segments import Segments
from cameras.settings import RecordingSettings
from catalog.recordings import Recordings
from proto.types import Recording
from tests.cameras.filming import START_MS, film, tapped
from tests.tools.chromium import chromium, played

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(chromium() is None, reason="Chromium is not installed (Debian: apt-get install chromium)"),
]

PAGE = """<!doctype html><video muted></video><script>
const video = document.querySelector("video"), canvas = document.createElement("canvas");
const shown = [];
function tell(what) { fetch("/done", {method: "POST", body: JSON.stringify({shown, ...what})}); }
video.onerror = () => tell({error: video.error.message});
video.onended = () => tell({duration: video.currentTime, width: video.videoWidth, height: video.videoHeight});
function look(_, frame) {
  const pen = canvas.getContext("2d");
  pen.drawImage(video, 0, 0, 8, 8);
  shown.push([frame.mediaTime, pen.getImageData(4, 4, 1, 1).data[1]]);
  video.requestVideoFrameCallback(look);
}
video.requestVideoFrameCallback(look);
async function pieces(mime) {
  const source = new MediaSource();
  video.src = URL.createObjectURL(source);
  await new Promise(done => source.onsourceopen = done);
  const buffer = source.addSourceBuffer(mime);
  const reader = (await fetch("/video/clip")).body.getReader();
  for (let {done, value} = await reader.read(); !done; {done, value} = await reader.read()) {
    buffer.appendBuffer(value);
    await new Promise(done => buffer.onupdateend = done);
  }
  source.endOfStream();
}
const how = HOW;
if (how === "file") video.src = "/video/clip"; else pieces(how).catch(error => tell({error: String(error)}));
video.play().catch(error => tell({error: String(error)}));
</script>"""


@pytest.mark.parametrize("how", ["file", "pieces"])
def test_a_clip_over_two_recordings_plays_from_its_first_picture_to_its_last(tmp_path: Path, how: str) -> None:
    writer = Segments(tmp_path / "recordings", RecordingSettings(segment_s=2, keep_free_bytes=0))
    writer.limits = {"gate": Recording(30, 10**9)}
    path = film(tmp_path / "a.ts", 3, size=(320, 240), start_s=7000)
    for start_ms in (START_MS, START_MS + 3_600_000):  # an hour that was not recorded lies between them
        for fragment in tapped([path], start_ms=start_ms):
            writer.write(fragment, START_MS)
    writer.close()
    clip = Recordings(tmp_path / "recordings").clip("gate", START_MS, START_MS + 3_600_000 + 3_000)

    def video(_: str) -> tuple[str, Iterator[bytes]]:
        return clip.mime, clip.chunks()

    told: dict[str, Any] = played(PAGE.replace("HOW", f"'{'file' if how == 'file' else clip.mime}'"), video)
    assert "error" not in told
    assert (told["width"], told["height"]) == (320, 240)
    assert told["duration"] == pytest.approx(6.0, abs=0.15)
    # A busy machine leaves pictures out; those that it showed are the right ones.
    assert told["shown"]
    for media_s, brightness in told["shown"]:
        assert brightness == pytest.approx(8 + 3 * (round(media_s * 10) % 30), abs=12)
