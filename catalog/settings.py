"""Settings of the catalog, and of where pictures are kept."""

from __future__ import annotations

from pydantic import Field, SecretStr

from proto.section import Section


class CatalogSettings(Section):
    """The SQL store for small state that the processes share: cameras, leases, gaps, progress, backgrounds."""

    url: SecretStr = SecretStr("")
    """postgresql://user:password@host:port/database, for processes on several machines. Add ?sslmode=verify-full (and
    &sslrootcert=FILE) for TLS. Empty: the SQLite file catalog.db in `data_dir`, which needs a local disk."""
    timeout_s: float = Field(10.0, ge=0.1, le=600)
    """PostgreSQL: a call that takes longer fails, and is tried again where it can be."""


class BucketSettings(Section):
    """How a bucket is reached that speaks the protocol of S3."""

    endpoint: str = ""
    """http(s)://host:port of a server that speaks S3. Empty: Amazon's."""
    region: str = "us-east-1"
    """The bucket's region. Most other servers take any."""
    key: SecretStr = SecretStr("")
    """The access key. Empty: what the machine or the container was given by its cloud; with `endpoint`, none at all."""
    secret: SecretStr = SecretStr("")
    """The secret of the access key."""
    allow_http: bool = False
    """Speak to `endpoint` without encryption."""
    timeout_s: float = Field(60.0, ge=0.1, le=600)
    """A call that takes longer fails."""


class MediaSettings(BucketSettings):
    """Where the pictures of moments are kept."""

    url: str = ""
    """s3://bucket or s3://bucket/prefix, for processes on several machines. Empty: the folder thumbnails in `data_dir`.
    Names are the same in both, so that any tool can copy one to the other."""
    timeout_s: float = Field(5.0, ge=0.1, le=600)
    """A call that takes longer fails. Pictures that cannot be written are left out, and searches go on without them."""
