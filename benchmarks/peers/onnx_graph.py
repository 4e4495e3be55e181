"""The same network as an ONNX model, from the very graph that the .tflite is written from: without torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from transfer.graph import Add, Conv, Dense, Graph, Mean, Operation
from transfer.operations import INPUT

OPSET, IR = 17, 8
"""Of 2022: any onnxruntime since then reads them."""


class OnnxError(ValueError):
    """The graph has an operation that is not written here; the message names it."""


def onnx_model(graph: Graph) -> bytes:
    """Input "image" float32 [n, 3, h, w], outputs named as the graph's, batch norms folded as they are there.

    What a CIFAR ResNet is made of; raises OnnxError for anything else.
    """
    nodes: list[NodeProto] = []
    constants: list[TensorProto] = []
    for operation in graph.operations:
        made, weights = _node(operation)
        nodes += made
        constants += weights
    whole = helper.make_graph(
        nodes,
        "student",
        [_value(INPUT, ("n", 3, *graph.input_hw))],
        [_value(graph.logits, ("n", None)), _value(graph.feature, ("n", None))],
        constants,
    )
    model: ModelProto = helper.make_model(whole, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
    return bytes(model.SerializeToString())


def _node(operation: Operation) -> tuple[list[NodeProto], list[TensorProto]]:
    """The operation's nodes, of which the last makes its tensor, and their constants."""
    name = operation.name
    if isinstance(operation, Conv):
        weight = _constant(f"{name}.weight", operation.weight.transpose(0, 3, 1, 2))
        bias, edge = _constant(f"{name}.bias", operation.bias), operation.weight.shape[1] // 2
        strides, pads = [operation.stride] * 2, [edge] * 4
        taken = [operation.source, weight.name, bias.name]
        return _rectified(operation.relu, "Conv", taken, name, strides=strides, pads=pads), [weight, bias]
    if isinstance(operation, Add):
        return _rectified(operation.relu, "Add", [operation.a, operation.b], name), []
    if isinstance(operation, Mean) and operation.cells == 1:
        pooled = helper.make_node("GlobalAveragePool", [operation.source], [f"{name}.map"])
        return [pooled, helper.make_node("Flatten", [f"{name}.map"], [name])], []
    if isinstance(operation, Dense):
        weight, bias = _constant(f"{name}.weight", operation.weight), _constant(f"{name}.bias", operation.bias)
        taken = [operation.source, weight.name, bias.name]
        return _rectified(operation.relu, "Gemm", taken, name, transB=1), [weight, bias]
    raise OnnxError(f"{name} is a {type(operation).__name__}, which this peer cannot run")


def _rectified(relu: bool, kind: str, taken: Sequence[str], name: str, **attributes: Any) -> list[NodeProto]:
    if not relu:
        return [helper.make_node(kind, taken, [name], **attributes)]
    raw = f"{name}.raw"
    return [helper.make_node(kind, taken, [raw], **attributes), helper.make_node("Relu", [raw], [name])]


def _constant(name: str, array: npt.NDArray[np.float32]) -> TensorProto:
    made: TensorProto = numpy_helper.from_array(np.ascontiguousarray(array), name)
    return made


def _value(name: str, shape: Sequence[str | int | None]) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
