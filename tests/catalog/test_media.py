from __future__ import annotations

import pytest

from catalog.media import Thumbnails
from catalog.objects import Objects
from proto.errors import Invalid, Unknown
from proto.types import MOST_REGIONS

ID = "0123456789abcdef" * 2
FOLDER = f"ef/{ID}"


def test_a_picture_is_given_back_as_it_was_put(objects: Objects) -> None:
    thumbnails = Thumbnails(objects)
    thumbnails.put(ID, b"first")
    thumbnails.put(ID, b"second")
    assert thumbnails.get(ID) == b"second"


def test_pictures_lie_where_they_always_lay_so_that_those_of_before_are_found(objects: Objects) -> None:
    objects.put(f"{FOLDER}.jpg", b"moment")
    objects.put(f"{FOLDER}/7.jpg", b"instant")
    assert (Thumbnails(objects).get(ID), Thumbnails(objects).get(ID, 7)) == (b"moment", b"instant")


def test_a_moment_without_a_picture_is_unknown(objects: Objects) -> None:
    with pytest.raises(Unknown, match="no picture"):
        Thumbnails(objects).get(ID)


def test_the_picture_of_an_instant_lies_beside_that_of_the_moment(objects: Objects) -> None:
    thumbnails = Thumbnails(objects)
    thumbnails.put(ID, b"moment")
    thumbnails.put_instants(ID, [(7, b"first")])
    thumbnails.put_instants(ID, [(7, b"again"), (2**53, b"later")])
    assert [thumbnails.get(ID), thumbnails.get(ID, 7), thumbnails.get(ID, 2**53)] == [b"moment", b"again", b"later"]


def test_for_an_instant_without_a_picture_that_of_the_moment_is_given(objects: Objects) -> None:
    thumbnails = Thumbnails(objects)
    thumbnails.put(ID, b"moment")
    thumbnails.put_instants(ID, [(7, b"first")])
    assert [thumbnails.get(ID, at_ms) for at_ms in (0, 6, 8)] == [b"moment"] * 3
    assert thumbnails.of_instant(ID, 8) is None


def test_a_moment_without_any_picture_is_unknown_at_every_instant(objects: Objects) -> None:
    with pytest.raises(Unknown, match="no picture"):
        Thumbnails(objects).get(ID, 7)


def test_a_moment_has_no_more_pictures_than_regions_beside_its_own(objects: Objects) -> None:
    thumbnails = Thumbnails(objects)
    thumbnails.put(ID, b"moment")
    for at_ms in range(100, 90, -1):
        thumbnails.put_instants(ID, [(at_ms, str(at_ms).encode())])
        assert thumbnails.get(ID, at_ms) == str(at_ms).encode()
    assert len(objects.list(FOLDER)) == MOST_REGIONS


def test_pictures_of_regions_that_a_moment_no_longer_has_are_removed(objects: Objects) -> None:
    thumbnails = Thumbnails(objects)
    thumbnails.put(ID, b"moment")
    thumbnails.put_instants(ID, [(at_ms, b"region") for at_ms in (1, 2, 3)], shown={1, 2, 3})
    thumbnails.put_instants(ID, [(4, b"new")], shown={2, 4, 9})
    assert [thumbnails.get(ID, at_ms) for at_ms in (1, 2, 3, 4)] == [b"moment", b"region", b"moment", b"new"]
    assert len(objects.list(FOLDER)) == 2


@pytest.mark.parametrize("at_ms", [-1, 2**63])
def test_a_picture_is_not_stored_under_what_is_no_time(objects: Objects, at_ms: int) -> None:
    with pytest.raises(Invalid, match="not a time"):
        Thumbnails(objects).put_instants(ID, [(at_ms, b"x")])


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "/etc/passwd", ID + "\0", ID.upper()])
def test_an_id_never_leads_out_of_the_folder(objects: Objects, name: str) -> None:
    thumbnails = Thumbnails(objects)
    with pytest.raises(Invalid):
        thumbnails.get(name)
    with pytest.raises(Invalid):
        thumbnails.put(name, b"x")
