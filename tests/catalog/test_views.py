from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import update

from catalog.tables import VIEWS
from catalog.views import CameraView, Views
from proto.errors import Broken
from tests.catalog.shared import opened

TURNED = CameraView("gate", 2**33, "turned", 1_767_268_800_123)


def test_a_view_that_was_put_is_found_by_the_next_process(url: str) -> None:
    Views(opened(url)).put_view(TURNED)
    assert Views(opened(url)).view_of("gate") == TURNED
    assert Views(opened(url)).view_of("dock") is None
    assert Views(opened(url)).all() == {"gate": TURNED}


def test_the_last_view_put_counts(url: str) -> None:
    views = Views(opened(url))
    views.put_view(TURNED)
    views.put_view(replace(TURNED, view=TURNED.view + 1, state="clear"))
    assert views.all() == {"gate": replace(TURNED, view=TURNED.view + 1, state="clear")}


def test_a_state_that_is_not_known_is_said_with_what_to_do(url: str) -> None:
    catalog = opened(url)
    Views(catalog).put_view(TURNED)
    with catalog.writing() as connection:
        connection.execute(update(VIEWS).values(state="stolen"))
    with pytest.raises(Broken, match="stolen"):
        Views(catalog).view_of("gate")
