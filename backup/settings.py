"""Settings of backups."""

from __future__ import annotations

from pydantic import Field

from catalog.settings import BucketSettings


class BackupSettings(BucketSettings):
    """How `watchword backup` and `watchword restore` reach an s3:// address, and how fast they go. It is a section of
    its own, since a backup should lie with another server, under another key, than the pictures."""

    moments_per_s: float = Field(2000.0, gt=0)
    """At most so many moments a second are copied, so that searches and new moments hardly notice."""
    moments_each: int = Field(2000, ge=1, le=20_000)
    """A day with more moments than this is copied in several files. It bounds the memory that is needed: a
    file is held whole, and the pictures of a quarter as many moments."""
