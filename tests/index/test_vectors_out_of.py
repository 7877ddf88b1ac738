"""The vectors of a reply, against pymilvus' own reading of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pymilvus.client.search_result import SearchResult
from pymilvus.grpc_gen import schema_pb2

from index.rows import vectors_out_of


def reply(rows: int, dimension: int) -> Any:
    """What pymilvus makes of an answer with so many rows."""
    data = schema_pb2.SearchResultData(num_queries=1, top_k=rows, topks=[rows], primary_field_name="id")
    data.ids.str_id.data.extend(f"row-{number}" for number in range(rows))
    data.scores.extend([0.5] * rows)
    camera = data.fields_data.add(field_name="camera", type=schema_pb2.VarChar)
    camera.scalars.string_data.data.extend(["gate"] * rows)
    if dimension:
        vectors = data.fields_data.add(field_name="vector", type=schema_pb2.FloatVector)
        vectors.vectors.dim = dimension
        vectors.vectors.float_vector.data.extend(np.random.default_rng(7).normal(size=rows * dimension).tolist())
    (hits,) = SearchResult(data)
    return hits


@pytest.mark.parametrize(("rows", "dimension"), [(1, 1), (3, 16), (40, 512)])
def test_they_are_what_pymilvus_reads_and_the_rest_of_the_reply_stays(rows: int, dimension: int) -> None:
    ours, theirs = reply(rows, dimension), reply(rows, dimension)
    vectors = vectors_out_of(ours)
    assert vectors.shape == (rows, dimension)
    assert vectors.dtype == np.float32
    assert np.array_equal(vectors, np.array([hit["entity"]["vector"] for hit in theirs], np.float32))
    assert [hit["entity"] for hit in ours] == [{"camera": "gate"}] * rows


@pytest.mark.parametrize(("rows", "dimension"), [(0, 0), (0, 16), (3, 0)])
def test_a_reply_without_rows_or_vectors_has_none(rows: int, dimension: int) -> None:
    found = reply(rows, dimension)
    assert len(vectors_out_of(found)) == 0
    assert len(found) == rows
