"""Our numbers against the bindings that flatc made from the official schema, where the interpreter brings them."""

from __future__ import annotations

import re

import flatbuffers
import pytest

from transfer.tflite_schema import ACTIVATION, OPERATORS, PADDING, TABLES, TENSOR_TYPES

official = pytest.importorskip("ai_edge_litert.schema_py_generated", reason="only ai-edge-litert brings the schema")


class Recorder(flatbuffers.Builder):  # type: ignore[misc]
    """Notes which slot and type a generated Add... function fills."""

    def __getattribute__(self, name: str) -> object:
        if re.fullmatch(r"Prepend\w+Slot", name):
            return lambda slot, value, default: self.seen.append((slot, name))
        return super().__getattribute__(name)

    def __init__(self) -> None:
        super().__init__(16)
        self.seen: list[tuple[int, str]] = []


@pytest.mark.parametrize(("table", "field"), [(table, field) for table, fields in TABLES.items() for field in fields])
def test_slots(table: str, field: str) -> None:
    builder = Recorder()
    camel = "".join(word.capitalize() for word in field.split("_"))
    getattr(official, f"{table}Add{camel}")(builder, 0)
    slot, kind = TABLES[table][field]
    name = {"Offset": "UOffsetTRelative"}.get(kind, kind)
    assert [(s, n.lower()) for s, n in builder.seen] == [(slot, f"Prepend{name}Slot".lower())]


def test_enumerators() -> None:
    for operator, (number, table, union_type) in OPERATORS.items():
        assert getattr(official.BuiltinOperator, operator) == number
        assert getattr(official.BuiltinOptions, table) == union_type
    for numbers, enum in ((PADDING, "Padding"), (ACTIVATION, "ActivationFunctionType"), (TENSOR_TYPES, "TensorType")):
        for name, number in numbers.items():
            assert getattr(getattr(official, enum), name.upper()) == number
