"""The base of every section of the settings: frozen, and strict about names."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """One room's settings. Each field's docstring says what changing it does."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
