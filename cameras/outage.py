"""A part that is away is told once, and once more when it is back."""

from __future__ import annotations

import logging

from proto.errors import WatchwordError

log = logging.getLogger("watchword.cameras")


class Outage:
    """Whether one part answers, for the log. `meanwhile` says what goes on without it."""

    def __init__(self, part: str, meanwhile: str) -> None:
        self._part = part
        self._meanwhile = meanwhile
        self._away = False

    def failed(self, error: WatchwordError) -> None:
        """The part did not answer."""
        if not self._away:
            log.warning("%s: %s; %s", self._part, error, self._meanwhile)
        self._away = True

    def worked(self) -> None:
        """The part answered."""
        if self._away:
            log.warning("%s: works again", self._part)
        self._away = False
