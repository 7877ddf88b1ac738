from __future__ import annotations

import grpc
import pytest

from proto import errors
from proto.errors import Broken, Invalid, Poison, WatchwordError
from proto.rpc import status_of


def kinds(base: type[WatchwordError] = WatchwordError) -> list[type[WatchwordError]]:
    own = [child for child in base.__subclasses__() if child.__module__ == errors.__name__]
    return [kind for child in own for kind in (child, *kinds(child))]


def test_every_kind_of_error_has_its_own_grpc_status_and_none_is_left_unknown() -> None:
    made = {kind: Poison("empty", "x") if kind is Poison else kind("x") for kind in kinds()}
    statuses = {kind: status_of(error) for kind, error in made.items()}
    assert grpc.StatusCode.UNKNOWN not in statuses.values()
    own = {kind: status for kind, status in statuses.items() if kind is not Poison}
    assert len(set(own.values())) == len(own)


def test_every_kind_of_error_is_drawn_in_the_tree() -> None:
    assert all(kind.__name__ in (errors.__doc__ or "") for kind in kinds())


def test_an_error_says_what_is_wrong_and_what_to_do() -> None:
    assert str(Invalid("no words", todo="give some")) == "no words: give some"
    assert str(Broken("gone")) == "gone"


def test_no_kind_of_error_ends_the_command_line_with_success() -> None:
    assert all(kind.exit_code > 0 for kind in kinds())


@pytest.mark.parametrize("kind", [Invalid, Poison])
def test_a_damaged_item_and_a_wrong_request_are_both_the_callers_to_change(kind: type[WatchwordError]) -> None:
    error = Poison("empty", "x") if kind is Poison else kind("x")
    assert status_of(error) is grpc.StatusCode.INVALID_ARGUMENT
