"""`watchword camera import`: files of cameras, and what is wrong in them by line."""

from __future__ import annotations

from pathlib import Path

import pytest

from proto.errors import Invalid
from proto.types import Camera, Recording
from tests.watchword.terminal import Cli, Ended
from watchword.camera_import import KEYS, cameras_in
from watchword.catalogs import open_registry
from watchword.settings import Settings

OURS = """\
cameras:
  gate:
    url: rtsp://user:hush@10.0.0.7/stream
    fps: 1
    groups: [yard, doors]
    site: north
    masks:
      - 0,0 0.5,0 0.5,0.25
    ignore: "640x480: 0,0 320,0 320,120"
    record: {days: 7, bytes: 20GB}
    recordings_stay_unmasked: true
  dock: {url: clip.mp4, loop: true, enabled: false, speed: max}
"""

FRIGATE = """\
mqtt: {enabled: false}
detect: &usual
  width: 1280
  height: 720
cameras:
  front_door:
    ffmpeg:
      inputs:
        - path: rtsp://viewer:hush@10.0.10.10:554/live
          roles: [record]
        - path: rtsp://viewer:hush@10.0.10.10:554/sub
          roles:
            - detect
    detect:
      <<: *usual
      fps: 5
    motion:
      threshold: 30
      mask:
        - 0.000,0.427,0.002,0.000,0.999,0.000,0.999,0.781
        - 0,0,640,0,640,180
    record: {enabled: true}
    zones: {porch: {coordinates: "0,0,1,1,1,0"}}
  garage:
    enabled: false
    ffmpeg: {inputs: [{path: "rtsp://127.0.0.1:8554/garage", roles: [detect]}]}
    motion:
      mask:
        wind: {coordinates: "0,0,0.5,0,0.5,0.25"}
        rain: {coordinates: "0,0,0.5,0,0.5,0.5", enabled: false}
"""


def given(cli: Cli, tmp_path: Path, text: str | bytes, *more: str) -> Ended:
    path = tmp_path / "cameras.yml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    ended = cli("camera", "import", str(path), *more)
    assert "hush" not in ended.out + ended.err and "Traceback" not in ended.err
    return ended


def registered(tmp_path: Path) -> dict[str, Camera]:
    with open_registry(Settings(data_dir=tmp_path / "data")) as registry:
        return {camera.name: camera for camera in registry.all()}


def test_without_apply_it_says_what_would_be_added_and_adds_nothing(cli: Cli, tmp_path: Path) -> None:
    said = given(cli, tmp_path, OURS)
    assert said.code == 0
    assert (
        "would add gate: rtsp://10.0.0.7/stream, 1 pictures a second, in yard, doors, at the site north, 1 masks"
        in said.out
    )
    assert "2 cameras would be added" in said.out
    assert registered(tmp_path) == {}


def test_what_the_file_says_is_added_and_once_only(cli: Cli, tmp_path: Path) -> None:
    assert given(cli, tmp_path, OURS, "--apply").code == 0
    found, area = registered(tmp_path), ((0.0, 0.0), (0.5, 0.0), (0.5, 0.25))
    assert found["gate"] == Camera(
        "gate",
        "rtsp://user:hush@10.0.0.7/stream",
        fps=1,
        groups=("yard", "doors"),
        site="north",
        masks=(area,),
        ignored=(area,),
        record=Recording(7, 20 * 10**9),
        unmasked_recording=True,
    )
    assert found["dock"] == Camera("dock", str(tmp_path / "clip.mp4"), loop=True, enabled=False, speed=0.0)
    assert "gate is there already" in given(cli, tmp_path, OURS, "--apply").out
    assert registered(tmp_path) == found
    other = given(cli, tmp_path, OURS.replace("fps: 1", "fps: 2").replace("dock", "new"), "--apply")
    assert other.code == 2 and "gate is there with other settings" in other.err
    assert registered(tmp_path) == found


def test_the_cameras_of_a_configuration_of_frigate_are_taken_over(cli: Cli, tmp_path: Path) -> None:
    said = given(cli, tmp_path, FRIGATE, "--apply")
    assert said.code == 0
    assert "front_door: not taken over: 'record', 'zones'" in said.out
    assert "garage: its address is Frigate's restream" in said.out
    found = registered(tmp_path)
    front, garage = found["front_door"], found["garage"]
    assert (front.url, front.fps, front.enabled) == ("rtsp://viewer:hush@10.0.10.10:554/sub", 5, True)
    assert front.masks == () and len(front.ignored) == 2
    assert front.ignored[1] == ((0.0, 0.0), (0.5, 0.0), (0.5, 0.25))
    assert (garage.enabled, garage.fps, garage.ignored) == (False, None, (((0.0, 0.0), (0.5, 0.0), (0.5, 0.25)),))


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("cameras:\n  a: {url: rtsp://h/1}\n  b: {url: rtsp://h/2}\n  a: {url: rtsp://h/3}\n", 4, "'a' is there twice"),
        ("cameras:\n  a:\n    url: rtsp://u:hush@h/1\n    ulr: x\n", 4, "'ulr', which is not known"),
        ("cameras:\n  a:\n    fps: 1\n", 2, "a has no url"),
        ("cameras:\n  a:\n    url: rtsp://h/1\n    fps: many\n", 4, "fps is no number"),
        (f"cameras:\n  a:\n    url: rtsp://h/1\n    fps: 1{'0' * 400}\n", 4, "fps is no number"),
        ("cameras:\n  a:\n    url: rtsp://h/1\n    fps: 100\n", 2, "100 pictures a second cannot"),
        ("cameras:\n  a:\n    url: rtsp://h/1\n    enabled: 5\n", 4, "not true or false"),
        ("cameras:\n  a:\n    url: rtsp://h/1\n    masks:\n      - 0,0 1,1\n", 5, "2 corners"),
        ("cameras:\n  a:\n    url: rtsp://h/1\n    record: {days: 0}\n", 4, "0 days cannot be kept"),
        ("cameras:\n  a:\n    url: rtsp://h/1\n    record: {dayz: 1}\n", 4, "'dayz', which is not known"),
        ("cameras:\n  a:\n    url: gopher://u:hush@h/1\n", 2, "gopher:// is not a kind of camera"),
        ("cameras:\n  a:\n    url: u:hush@10.0.0.7/1\n", 2, "has a user and no scheme"),
        ("cameras:\n  two words:\n    url: rtsp://h/1\n", 2, "cannot be a camera's name"),
        ("cameras:\n  u:hush@10.0.0.7/1:\n    url: rtsp://h/1\n", 2, "a name cannot be a camera's name"),
        ("cameras:\n  a: {url: rtsp://h/1}\nrecord: {}\n", 3, "'record' is not known here"),
        ("cameras:\n  a: 5\n", 2, "names with values are expected"),
        ("cameras:\n  a:\n    ffmpeg: {inputs: []}\n", 3, "a has no input"),
        ("cameras:\n  a:\n    ffmpeg:\n      inputs:\n        - path: rtsp://{FRIGATE_USER}:x@h/\n", 5, "placeholder"),
        ("cameras:\n  a:\n    ffmpeg:\n      inputs:\n        - path: 'exec:cat hush'\n", 5, "is no address"),
        (
            "cameras:\n  a:\n    ffmpeg: {inputs: [{path: rtsp://h/}]}\n    motion: {mask: '0,0,640,0,640,180'}\n",
            4,
            "it is in pixels, of no size",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, text: str, line: int, says: str) -> None:
    path = tmp_path / "cameras.yml"
    path.write_text(text)
    problems = cameras_in(path).problems
    assert any(one.line == line and says in one.words for one in problems), problems
    assert all(one.todo and "hush" not in one.words + one.todo for one in problems)


def test_a_file_with_a_problem_adds_nothing(cli: Cli, tmp_path: Path) -> None:
    said = given(cli, tmp_path, OURS.replace("fps: 1", "fsp: 1"), "--apply")
    assert said.code == 2
    lines = said.err.splitlines()
    assert lines[0].endswith("cameras.yml:4: gate has 'fsp', which is not known: known are: " + ", ".join(KEYS))
    assert "has 1 problems, and no camera was added" in lines[1]
    assert registered(tmp_path) == {}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "names no cameras"),
        ("cameras:\n", "names no cameras"),
        ("- a\n", "names no cameras"),
        ("cameras: [rtsp://u:hush@h/]\n", "names no cameras"),
        ("cameras:\n  a:\n    url: 'rtsp://u:hush@h/\n", "is no YAML in line"),
        ("cameras:\n  a:\n  url: *hush\n", "is no YAML in line 3"),
        ("\tcameras: 1\n", "is no YAML in line 1"),
        ("a: " + "[" * 5000, "nested too deeply"),
        (b"\xff\xfe\x00", "no text in UTF-8"),
        ("cameras: !!python/object/apply:os.system [echo hush]\n", "names no cameras"),
    ],
)
def test_a_file_that_is_no_list_of_cameras_is_refused(tmp_path: Path, text: str | bytes, says: str) -> None:
    path = tmp_path / "cameras.yml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(Invalid, match=says) as refused:
        cameras_in(path)
    assert "hush" not in str(refused.value) and refused.value.todo


def test_a_file_that_is_not_there_is_refused(cli: Cli, tmp_path: Path) -> None:
    assert "cannot be read (No such file" in cli("camera", "import", str(tmp_path / "none.yml")).err
