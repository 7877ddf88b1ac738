from __future__ import annotations

import pytest

from loadtests.overload import Point, cameras_for, rate


def test_frames_that_were_neither_embedded_nor_shed_are_behind() -> None:
    assert Point(0.0, published=100, embedded=60, shed=15).behind == 25


def test_the_rate_is_taken_from_the_first_point_to_the_last() -> None:
    points = [Point(float(2 * n), 0, 30 * n, 0) for n in range(4)]
    assert rate(points) == pytest.approx(15.0)
    assert rate(points[:1]) == 0.0


def test_so_many_cameras_send_twice_what_is_embedded() -> None:
    assert cameras_for(40.0) * 2 == 80
    assert cameras_for(0.0) == 1
