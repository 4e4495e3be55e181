from __future__ import annotations

import flatbuffers
import numpy as np
import pytest

from transfer.flatbuffer import FlatBuffer

SCHEMA = {"Leaf": {"data": (0, "Offset")}, "Root": {"small": (1, "Int8"), "leaf": (3, "Offset"), "name": (4, "Offset")}}


def test_what_is_written_can_be_read() -> None:
    out = FlatBuffer(SCHEMA)
    leaf = out.table("Leaf", data=out.numbers(np.arange(5, dtype=np.float32), alignment=16))
    data = out.finish(out.table("Root", small=0, leaf=leaf, name=out.string("name")), b"TEST")

    assert data[4:8] == b"TEST"
    root = flatbuffers.table.Table(data, flatbuffers.encode.Get(flatbuffers.packer.uoffset, data, 0))
    assert root.Offset(4 + 2 * 1) != 0  # written although it is 0
    assert root.Offset(4 + 2 * 0) == root.Offset(4 + 2 * 2) == 0
    assert root.String(root.Pos + root.Offset(4 + 2 * 4)) == b"name"
    inner = flatbuffers.table.Table(data, root.Indirect(root.Pos + root.Offset(4 + 2 * 3)))
    start = inner.Vector(inner.Offset(4))
    assert start % 16 == 0
    assert np.array_equal(np.frombuffer(data, "<f4", 5, start), np.arange(5))


def test_fields_must_be_in_the_schema() -> None:
    with pytest.raises(KeyError, match="nonsense"):
        FlatBuffer(SCHEMA).table("Root", nonsense=1)
