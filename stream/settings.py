"""Settings of the stream worker."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from proto.section import Section


class StreamSettings(Section):
    """The stream worker: frames in, stored moments out."""

    batch_frames: int = Field(16, ge=1, le=1024)
    """Most frames sent to the encoder at once."""
    batch_wait_ms: float = Field(40.0, ge=0, le=5000)
    """How long the first frame of a batch waits for company."""
    scene_change: float = Field(0.15, gt=0, le=2)
    """The least distance (1 - cosine) between a frame and its moment's mean that can be another scene. How much more
    it takes follows from how restless the moment is."""
    shortest_s: float = Field(1.5, ge=0)
    """A moment shorter than this ends only at a plain cut."""
    busy_most_s: float = Field(10.0, gt=0)
    """Longest moment while things change."""
    still_most_s: float = Field(300.0, gt=0)
    """Longest moment while nothing does."""
    gap_s: float = Field(25.0, gt=0)
    """A pause longer than this between two frames of a camera ends its moment."""
    silent_s: float = Field(30.0, gt=0)
    """A camera that sent nothing for so long, by the clock, has its moment closed."""
    refresh_s: float = Field(3.0, gt=0)
    """An open moment is written again at most this often, so that its end stays true; at once when much is new."""
    catch_up: Literal["all", "newest"] = "all"
    """What a worker that is behind does: look at all frames, or skip those older than `behind_s`. Skipped frames are
    counted, and declared in the dead-letters topic."""
    behind_s: float = Field(60.0, gt=0)
    """With catch_up = "newest": a frame that was published longer ago than this is skipped."""
    refusals: int = Field(5, ge=1)
    """A picture that the encoder refused so many times, while it takes others, goes to the dead letters."""
    letters_per_minute: int = Field(120, ge=0)
    """Dead letters that keep their record whole. More than so many a minute keep only origin and reason."""
    stalled_s: float = Field(60.0, gt=0)
    """A worker in which frames, commits or the group stand still for so long ends, so that it is started again."""
    instance: str = ""
    """Static group membership: a stable name of this worker, so that a restart moves no partitions."""
