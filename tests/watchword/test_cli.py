from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from catalog.progress import Progress, Progresses
from catalog.store import Catalog
from catalog.views import CameraView, Views
from tests.clips import CLIPS
from tests.watchword.terminal import Cli, refused


def test_a_clip_is_registered_listed_and_removed_and_stays_known(cli: Cli) -> None:
    added = cli("camera", "add", "bikes", str(CLIPS["bikes"]), "--loop")
    assert (added.code, "640 x 272" in added.out) == (0, True)
    rows = json.loads(cli("camera", "list", "--json").out)
    assert [(row["name"], row["watching"]) for row in rows] == [("bikes", True)]
    assert cli("camera", "remove", "bikes").code == 0
    rows = json.loads(cli("camera", "list", "--json").out)
    assert [(row["name"], row["watching"]) for row in rows] == [("bikes", False)]


def test_a_camera_that_is_removed_is_replayed_from_its_start_when_it_is_added_again(cli: Cli, tmp_path: Path) -> None:
    cli("camera", "add", "bikes", str(CLIPS["bikes"]))
    catalog = Catalog(f"sqlite:///{tmp_path}/data/catalog.db")
    catalog.open()
    Progresses(catalog).put(Progress("bikes", "bikes.mp4", 1, 0, 5.0, 10, ended=False))
    assert cli("camera", "remove", "bikes").code == 0
    assert Progresses(catalog).get("bikes") is None
    catalog.close()


def test_a_relative_file_is_registered_where_it_is(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(CLIPS["bikes"].read_bytes())
    assert cli("camera", "add", "here", "clip.mp4").code == 0
    assert json.loads(cli("camera", "list", "--json").out)[0]["url"] == str(tmp_path / "clip.mp4")


def test_the_list_says_which_camera_does_not_show_its_view(cli: Cli, tmp_path: Path) -> None:
    cli("camera", "add", "gate", str(CLIPS["bikes"]))
    cli("camera", "add", "dock", str(CLIPS["bikes"]))
    catalog = Catalog(f"sqlite:///{tmp_path}/data/catalog.db")
    catalog.open()
    Views(catalog).put_view(CameraView("gate", 3, "defocused", 1_767_225_600_000))
    catalog.close()
    shown = {row["name"]: row["view"] for row in json.loads(cli("camera", "list", "--json").out)}
    assert shown["gate"] == {"number": 3, "state": "defocused", "since_ms": 1_767_225_600_000}
    assert shown["dock"] == {"number": 0, "state": "clear", "since_ms": None}
    lines = {line.split()[0]: line for line in cli("camera", "list").out.splitlines()}
    assert "defocused since 20" in lines["gate"] and " clear " in lines["dock"]


def test_a_password_in_an_address_is_not_shown(cli: Cli) -> None:
    cli("camera", "add", "gate", "rtsp://user:hush@127.0.0.1:9/live", "--unchecked")
    shown = cli("camera", "list").out + cli("camera", "list", "--json").out
    assert "gate" in shown
    assert "hush" not in shown


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Accepts connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        held: list[socket.socket] = []

        def accept() -> None:
            while True:
                try:
                    held.append(server.accept()[0])
                except OSError:
                    return

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join(5)
        for connection in held:
            connection.close()


def test_an_address_where_no_camera_is_says_so(cli: Cli) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    said = refused(cli("camera", "add", "gate", f"rtsp://user:hush@127.0.0.1:{port}/live"))
    assert f"127.0.0.1:{port}" in said
    assert "hush" not in said
    assert json.loads(cli("camera", "list", "--json").out) == []


def test_a_camera_that_accepts_and_says_nothing_is_given_up_in_time(cli: Cli, silent_port: int) -> None:
    url = f"rtsp://127.0.0.1:{silent_port}/live"
    said = refused(cli("--set", "camera.open_timeout_s=1", "camera", "add", "gate", url))
    assert str(silent_port) in said


@pytest.mark.parametrize(
    ("content", "words"), [(b"", "video"), (b"not a video at all" * 100, "video"), (None, "no file")]
)
def test_a_file_that_is_no_video_is_refused(cli: Cli, tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "clip.mp4"
    if content is not None:
        path.write_bytes(content)
    assert words in refused(cli("camera", "add", "gate", str(path))).lower()


@pytest.mark.parametrize("name", ["a b", "", "../../etc", "x" * 65])
def test_a_name_that_cannot_be_is_refused(cli: Cli, name: str) -> None:
    assert "name" in refused(cli("camera", "add", name, str(CLIPS["bikes"])))


def test_removing_a_camera_that_is_not_known_is_refused(cli: Cli) -> None:
    assert "gate" in refused(cli("camera", "remove", "gate"))


@pytest.mark.parametrize("speed", ["0", "-1", "fast", "nan", "inf"])
def test_a_speed_that_cannot_be_is_refused(cli: Cli, speed: str) -> None:
    assert "max" in refused(cli("camera", "add", "gate", str(CLIPS["bikes"]), "--speed", speed))


def test_a_search_without_a_running_stack_says_what_to_start(cli: Cli) -> None:
    assert "watchword up" in refused(cli("search", "a cyclist"))


def test_a_search_for_nothing_is_refused(cli: Cli) -> None:
    assert "words" in refused(cli("search"))


@pytest.mark.parametrize("since", ["yesterday", "10", "-5m", "9999999999999d", "2026-13-01"])
def test_a_time_that_is_none_is_refused_before_anything_is_asked(cli: Cli, since: str) -> None:
    said = refused(cli("--set", "query.address=127.0.0.1:9", "search", "a cyclist", f"--since={since}"))
    assert "10m" in said


def test_a_wrong_setting_is_refused_with_its_name(cli: Cli) -> None:
    assert "camera.fps" in refused(cli("--set", "camera.fps=0", "config"))
    assert "no value" in refused(cli("--set", "camera.fps", "config"))


def test_a_data_folder_that_is_a_file_is_refused(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("in the way")
    assert str(tmp_path / "data") in refused(cli("camera", "add", "bikes", str(CLIPS["bikes"])))


def test_the_settings_are_shown_as_a_settings_file(cli: Cli) -> None:
    shown = cli("config")
    assert shown.code == 0
    assert "[stream]" in shown.out
