"""Settings of the stream worker."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from proto.section import Section


class StreamSettings(Section):
    """The stream worker: frames in, stored moments out."""

    batch_frames: int = Field(16, ge=1, le=1024)
    """Most frames sent to the encoder at once. A worker that is behind sends fewer where the encoder is slow."""
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
    """A camera whose partition moved on for so long without it has its moment closed. Longer than `gap_s`."""
    refresh_s: float = Field(3.0, gt=0)
    """An open moment is written again at most this often, so that its end stays true; at once when much is new."""
    regions: bool = True
    """Look at parts of some pictures up close: at what moved, and, where the encoder's bundle has a detector, for
    objects. Moments get rows for what is small in the picture; the encoder works up to twice as much for a frame."""
    catch_up: Literal["fresh", "all"] = "fresh"
    """What a worker does that is behind. "fresh": it passes over the frames that say least, fairly over cameras, and
    declares them, so that what happens now is found now. "all": it looks at every frame, however late."""
    behind_s: float = Field(0.7, gt=0)
    """With catch_up = "fresh": frames may wait for so long before some are passed over."""
    clock_s: float = Field(86_400.0, gt=0)
    """How far a live camera's clock may be from the broker's; also how far in the future a recording may lie. Frames
    beyond it go to the dead letters."""
    refusals: int = Field(5, ge=1)
    """A picture that the encoder refused so many times, while it takes others, goes to the dead letters."""
    letters_per_minute: int = Field(120, ge=0)
    """Dead letters that keep their record whole. More than so many a minute keep only origin and reason."""
    waiting_moments: int = Field(2048, ge=1)
    """Moments that may wait for one shard of the index that is away, before the worker waits for it too."""
    stalled_s: float = Field(60.0, gt=0)
    """A worker in which frames, commits or the group stand still for so long ends, so that it is started again."""
    instance: str = ""
    """Static group membership: a stable name of this worker, so that a restart moves no partitions."""
