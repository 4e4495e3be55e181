"""The few shapes of which a flatbuffer is made, on top of the builder of the `flatbuffers` package.

A flatbuffer is written from the leaves up: whatever a table refers to is written before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NewType

import flatbuffers
import numpy.typing as npt

Offset = NewType("Offset", int)
# table -> field -> (slot, type), where type is Offset or a scalar of the builder: Int8, Uint8, Int32, Uint32, Bool
Schema = Mapping[str, Mapping[str, tuple[int, str]]]


class FlatBuffer:
    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._builder = flatbuffers.Builder(1 << 16)

    def table(self, table: str, **fields: int) -> Offset:
        """A table with these fields. All are written: nothing depends on the schema's defaults."""
        slots = self._schema[table]
        self._builder.StartObject(1 + max((slot for slot, _ in slots.values()), default=-1))
        for name, value in fields.items():
            slot, kind = slots[name]
            if kind == "Offset":
                self._builder.PrependUOffsetTRelativeSlot(slot, value, 0)
            else:
                getattr(self._builder, f"Prepend{kind}Slot")(slot, value, None)
        return Offset(self._builder.EndObject())

    def numbers(self, array: npt.NDArray[Any], alignment: int | None = None) -> Offset:
        """A vector of numbers, little-endian, its content aligned to `alignment` bytes (that of a number if None)."""
        data = array.astype(array.dtype.newbyteorder("<")).tobytes()
        self._builder.StartVector(array.itemsize, array.size, alignment or array.itemsize)
        self._builder.head = self._builder.head - len(data)
        self._builder.Bytes[self._builder.head : self._builder.head + len(data)] = data
        return Offset(self._builder.EndVector())

    def offsets(self, offsets: Sequence[Offset]) -> Offset:
        """A vector of tables."""
        self._builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            self._builder.PrependUOffsetTRelative(offset)
        return Offset(self._builder.EndVector())

    def string(self, text: str) -> Offset:
        return Offset(self._builder.CreateString(text))

    def finish(self, root: Offset, identifier: bytes) -> bytes:
        self._builder.Finish(root, file_identifier=identifier)
        return bytes(self._builder.Output())
