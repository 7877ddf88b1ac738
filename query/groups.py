"""Groups of cameras in a question: they become the cameras that are in them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

from catalog.cameras import unknown_group
from proto.types import Camera
from query.asking import Question


def with_members(question: Question, cameras: Iterable[Camera]) -> Question:
    """The question about the cameras that it names and those of its groups. Unknown when no camera is in a group."""
    if not question.groups:
        return question
    every = list(cameras)
    known = {group for camera in every for group in camera.groups}
    for group in question.groups:
        if group not in known:
            raise unknown_group(group, known)
    wanted = set(question.groups)
    members = {camera.name for camera in every if not wanted.isdisjoint(camera.groups)}
    return replace(question, cameras=tuple(sorted(members.union(question.cameras))), groups=())


def are_known(groups: Collection[str], cameras: Iterable[Camera]) -> bool:
    """Whether each group has a camera."""
    return set(groups) <= {group for camera in cameras for group in camera.groups}
