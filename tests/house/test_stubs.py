from __future__ import annotations

from pathlib import Path

from tests.tools.make_stubs import ROOT, make


def test_the_committed_stubs_are_what_make_proto_writes_byte_for_byte(tmp_path: Path) -> None:
    make(tmp_path)
    fresh = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    committed = {path.name: path.read_bytes() for path in (ROOT / "proto/v1").glob("*_pb2*")}
    assert fresh.keys() == committed.keys()
    assert [name for name in fresh if fresh[name] != committed[name]] == []
