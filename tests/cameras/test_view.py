from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from cameras.sketch import HEIGHT, WIDTH
from cameras.view import View, ViewWatch
from tests.cameras.scenes import PLACES, Grey, Light, Sensor, blurred, grey, over_time

pytestmark = pytest.mark.long

HOUR_S = 3600.0
WITHIN_S = 60.0
DOWN, ACROSS = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
LAMP = np.exp(-(((ACROSS - 0.5 * WIDTH) / (0.45 * WIDTH)) ** 2) - ((DOWN - 0.5 * HEIGHT) / (0.5 * HEIGHT)) ** 2)

places = pytest.mark.parametrize("place", PLACES)
some_places = pytest.mark.parametrize("place", ["street", "railing", "meadow", "car"])
"""Little structure, much of it, growth, and a person."""


def as_it_is(picture: Grey, _: float) -> Grey:
    return picture


class Watched:
    """A camera whose view is watched: it shows one picture after the other, and says when its view changed."""

    def __init__(self, watch: ViewWatch | None = None, seed: int = 0, noise: float = 1.5) -> None:
        self.watch = watch or ViewWatch()
        self.sensor = Sensor(noise, seed)
        self.at_s = 0.0
        self.changes: list[tuple[float, View]] = []

    def shows(self, picture: Grey, for_s: float, light: Light = as_it_is, step_s: float = 0.5) -> float | None:
        """When the view changed, in seconds from the beginning of this picture."""
        begin_s, known = self.at_s, len(self.changes)
        for at_s, sketch in over_time(picture, light, begin_s, begin_s + for_s, step_s, self.sensor):
            if self.watch.look(sketch, at_s, after_gap=False):
                self.changes.append((at_s, self.watch.state))
        self.at_s = begin_s + for_s
        return self.changes[known][0] - begin_s if len(self.changes) > known else None


def covered_by_hand(picture: Grey) -> Grey:
    seen: Grey = 60 + 0.2 * blurred(picture, 40)
    return seen


def noisy_dark(picture: Grey) -> Grey:
    return np.full_like(picture, 3.0)


def paper(picture: Grey) -> Grey:
    seen: Grey = np.float32(200) - np.float32(0.1) * ACROSS + 0 * picture
    return seen


@places
def test_a_camera_that_is_turned_by_half_of_what_it_sees_is_found_within_a_minute(place: str) -> None:
    camera = Watched()
    assert camera.shows(grey(place), 60) is None
    found_s = camera.shows(grey(place, turned=True), WITHIN_S)
    assert found_s is not None
    assert (camera.watch.state, camera.watch.number) == (View.TURNED, 1)


@some_places
@pytest.mark.parametrize("cover", [covered_by_hand, noisy_dark, paper])
def test_a_camera_that_is_covered_is_found_within_a_minute(place: str, cover: Callable[[Grey], Grey]) -> None:
    camera = Watched()
    assert camera.shows(grey(place), 60) is None
    assert camera.shows(cover(grey(place)), WITHIN_S) is not None
    assert (camera.watch.state, camera.watch.number) == (View.COVERED, 1)


@some_places
@pytest.mark.parametrize("sigma", [2.0, 8.0])
def test_a_camera_that_is_out_of_focus_is_found_within_a_minute(place: str, sigma: float) -> None:
    camera = Watched()
    assert camera.shows(grey(place), 60) is None
    assert camera.shows(blurred(grey(place), sigma), WITHIN_S) is not None
    assert (camera.watch.state, camera.watch.number) == (View.DEFOCUSED, 1)


def weather(picture: Grey, at_s: float) -> Grey:
    """Clouds that pass, gusts that shake what grows, showers, fog that comes and goes, and the sun going down."""
    sun = 1.1 - 0.75 * at_s / (3 * HOUR_S)
    cloud = 0.75 + 0.25 * np.sin(at_s / 140 + ACROSS / 90 + DOWN / 150)
    shaken = np.roll(picture, round(2 * np.sin(1.7 * at_s)), axis=1)
    gust = np.sin(at_s / 300) > 0
    seen = np.where((DOWN < 0.5 * HEIGHT) & gust, shaken, picture)
    fog = max(0.0, 0.6 * float(np.sin(at_s / 1300)))
    seen = (1 - fog) * sun * cloud * seen + 130 * fog
    if 4000 < at_s < 6500:
        drops = np.random.default_rng(round(at_s * 10)).random(WIDTH) < 0.06
        seen = seen + 45 * (drops & True) * (np.sin(DOWN / 9 + at_s * 40) > 0.4)
    return np.asarray(seen, np.float32)


def test_three_hours_of_weather_and_dusk_are_no_other_view() -> None:
    """At one place; `loadtests.cameras --hours 3` tries all of them."""
    camera = Watched(noise=2.5)
    assert camera.shows(grey("railing"), 3 * HOUR_S, weather, step_s=3.0) is None


@some_places
def test_lights_that_go_off_and_on_are_no_other_view(place: str) -> None:
    camera = Watched(noise=2.5)
    picture = grey(place)
    lamps = 160 * np.exp(-((ACROSS - 60) ** 2 + (DOWN - 40) ** 2) / 900) + 0.15 * picture
    for _ in range(2):
        assert camera.shows(picture, 120) is None
        assert camera.shows(0.08 * picture + 2, 120) is None
        assert camera.shows(lamps.astype(np.float32), 120) is None


@some_places
def test_the_switch_to_infrared_at_night_and_back_is_no_other_view(place: str) -> None:
    camera = Watched(noise=3.0)
    by_night = 255 * np.clip(1.3 * LAMP * grey(place, infrared=True) / 255, 0, 1) ** 1.6
    for _ in range(2):
        assert camera.shows(grey(place), 300, step_s=1.0) is None
        assert camera.shows(by_night.astype(np.float32), 300, step_s=1.0) is None


@some_places
@pytest.mark.parametrize("share", [0.5, 1.0])
def test_a_truck_that_stands_in_front_for_twenty_seconds_is_no_other_view(place: str, share: float) -> None:
    camera = Watched()
    other = np.where(share * WIDTH > ACROSS, 90 + 20 * np.sin(ACROSS / 4), grey(place)).astype(np.float32)
    for _ in range(3):
        assert camera.shows(grey(place), 60) is None
        assert camera.shows(other, 20) is None


@some_places
def test_a_camera_that_is_uncovered_is_clear_again_and_its_view_counts_on(place: str) -> None:
    camera = Watched()
    camera.shows(grey(place), 60)
    camera.shows(noisy_dark(grey(place)), WITHIN_S)
    assert camera.shows(grey(place), WITHIN_S) is not None
    assert (camera.watch.state, camera.watch.number) == (View.CLEAR, 2)


@some_places
def test_a_camera_that_is_put_in_focus_again_is_clear(place: str) -> None:
    camera = Watched()
    camera.shows(grey(place), 60)
    camera.shows(blurred(grey(place), 4), 300)
    assert camera.shows(grey(place), WITHIN_S) is not None
    assert (camera.watch.state, camera.watch.number) == (View.CLEAR, 2)
    assert camera.shows(grey(place), 300) is None


@some_places
def test_a_camera_that_is_turned_back_is_clear_and_one_that_stays_is_told_once(place: str) -> None:
    camera = Watched()
    camera.shows(grey(place), 60)
    camera.shows(grey(place, turned=True), 300)
    assert [state for _, state in camera.changes] == [View.TURNED]
    assert camera.shows(grey(place), WITHIN_S) is not None
    assert (camera.watch.state, camera.watch.number) == (View.CLEAR, 2)


@pytest.mark.parametrize("sigma", [4.0, 12.0])
@some_places
def test_a_camera_that_stays_out_of_focus_or_covered_is_told_once(place: str, sigma: float) -> None:
    camera = Watched()
    camera.shows(grey(place), 60)
    camera.shows(blurred(grey(place), sigma), 300)
    assert len(camera.changes) == 1
    covered = Watched()
    covered.shows(grey(place), 60)
    covered.shows(covered_by_hand(grey(place)), 300)
    assert len(covered.changes) == 1


@some_places
def test_after_a_restart_the_view_goes_on_from_what_was_known(place: str) -> None:
    blind = Watched(ViewWatch(View.COVERED, 7))
    assert blind.shows(noisy_dark(grey(place)), 120) is None
    assert blind.shows(grey(place), WITHIN_S) is not None
    assert (blind.watch.state, blind.watch.number) == (View.CLEAR, 8)
    unsharp = Watched(ViewWatch(View.DEFOCUSED, 3))
    assert unsharp.shows(blurred(grey(place), 4), 120) is None
    assert unsharp.shows(grey(place), WITHIN_S) is not None
    assert (unsharp.watch.state, unsharp.watch.number) == (View.CLEAR, 4)


def test_after_a_day_what_a_turned_camera_shows_is_its_view() -> None:
    camera = Watched(ViewWatch(View.TURNED, 4, since_s=0.0))
    camera.shows(grey("taxi"), 100)
    assert camera.watch.state is View.TURNED
    camera.at_s = 25 * HOUR_S
    camera.shows(grey("taxi"), 10)
    assert (camera.watch.state, camera.watch.number) == (View.CLEAR, 4)


def test_a_film_whose_scenes_change_has_no_view_that_could_change() -> None:
    camera = Watched()
    for _ in range(10):
        for place in PLACES:
            assert camera.shows(grey(place), 9) is None


def test_a_gap_does_not_count_as_time_in_which_another_view_lasted() -> None:
    watch, sensor = ViewWatch(), Sensor()
    camera = Watched(watch)
    camera.shows(grey("taxi"), 120)
    camera.shows(grey("wood"), 15)
    assert not watch.look(sensor(grey("wood")), 1000.0, after_gap=True)
    camera.at_s = 1000.5
    found_s = camera.shows(grey("wood"), WITHIN_S)
    assert found_s is not None and found_s > 30
