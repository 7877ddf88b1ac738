"""Settings of the sweeper."""

from __future__ import annotations

from pydantic import Field, SecretStr

from proto.section import Section


class RetentionSettings(Section):
    """How what is gone is removed. How long moments are kept is no setting but a row of the catalog, the same for all
    processes: `watchword retention set`."""

    check_s: float = Field(10.0, ge=0.1, le=3600)
    """How often is looked for erasures that are to be carried out."""
    expire_s: float = Field(600.0, ge=0.1, le=86_400)
    """How often is looked for what has become too old. It is not shown from its minute on."""
    measure_s: float = Field(3600.0, ge=0.1, le=86_400)
    """How often is measured what cameras with a limit in bytes take: a count for each of their buckets. By what
    comes meanwhile the limit may be exceeded. A limit that is set is measured at once."""
    moments_per_s: float = Field(500.0, gt=0)
    """At most so many moments a second are removed one by one, so that searches hardly notice. Days in which everything
    is too old are dropped whole."""
    settle_s: float = Field(60.0, ge=1, le=3600)
    """So long after an erasure was asked for every process knows of it, and writes that were under way have ended. It
    is done no earlier."""
    signing_key: SecretStr = SecretStr("")
    """What receipts of erasures and exports are signed with: an Ed25519 key, 32 bytes in base64. Empty: one is made at
    first use and kept in the catalog."""
