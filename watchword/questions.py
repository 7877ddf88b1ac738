"""Everyday questions as vectors: with them an index in a folder checks its codes."""

from __future__ import annotations

import numpy as np

from proto.errors import Poison, Transient
from proto.types import Vector, Vectors
from query.bank import texts_of_the_bank
from workers.client import Encoder

_AT_ONCE = 16
"""Texts of one request: few, so that people's questions hardly wait for them."""


async def everyday_questions(encoder: Encoder) -> Vectors:
    """The vectors of the texts of the bank. Raises what the encoder raises."""
    texts = texts_of_the_bank()
    found: list[Vector] = []
    for first in range(0, len(texts), _AT_ONCE):
        given = await encoder.embed_texts(texts[first : first + _AT_ONCE])
        found += [vector for vector in given if not isinstance(vector, Poison)]
    if not found:
        raise Transient("the bundle can read none of the texts of the bank", todo="use another bundle")
    return np.stack(found)
