"""Settings of the index."""

from __future__ import annotations

from pydantic import Field, SecretStr

from proto.section import Section

IN_FOLDER = "faiss:"
"""An endpoint that begins so is a folder of this machine, and needs no Milvus."""


class MilvusSettings(Section):
    """Where moments are stored."""

    endpoints: tuple[str, ...] = ()
    """One Milvus per shard, as NAME=ADDRESS (`m0=http://host:19530`) or as an address alone; or one file path for
    milvus-lite. Empty: the stack starts its own, or the catalog has them. A new name is a new shard, to which
    `watchword index rebalance` gives cameras; another address of a name is its new one. `faiss:/folder` keeps moments
    in a folder of this machine, without Milvus (`pip install 'watchword[faiss]'`)."""
    token: SecretStr = SecretStr("")
    """`user:password` or an API key; empty for none."""
    bucket_hours: int = Field(24, ge=1, le=24 * 365)
    """Hours of moments in one collection. Shorter: cheaper to drop, and to search narrow times. Longer: fewer
    collections. Old buckets stay searchable after a change."""
    timeout_s: float = Field(10.0, gt=0, le=600)
    """Deadline of one call to one shard. A shard that misses it is reported as missing, not waited for."""
    most_loaded_bytes: int = Field(0, ge=0)
    """Memory that the moments in one Milvus may take, by estimate, so that a year fits on a small machine. Buckets that
    were not asked for lately are released, and loaded again for a question about their time. A question about more
    than fits is answered from the newest, and says what it left out. 0: everything stays loaded. A folder (`faiss:`)
    has no such limit."""
    longest_moment_s: int = Field(3600, ge=1)
    """Longest moment. A search looks this far before its start for moments that overlap it."""
