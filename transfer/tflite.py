"""Write a graph as a .tflite file with nothing but flatbuffers and numpy: milliseconds, on any device; and run one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from transfer.flatbuffer import FlatBuffer, Offset
from transfer.graph import INPUT, Add, Conv, Graph, Mean, Operation
from transfer.tflite_schema import ACTIVATION, IDENTIFIER, OPERATORS, PADDING, TABLES, TENSOR_TYPES, VERSION

Quantise = Literal["none", "dynamic_int8"]

# The operator version from which a float operator takes int8 weights (per channel for CONV_2D).
_HYBRID_VERSION = {"CONV_2D": 5, "FULLY_CONNECTED": 3}
# Fewer weights than this are not worth the noise (the converter of TensorFlow draws the same line).
_QUANTISE_FROM = 1024


class MismatchError(ValueError):
    """The .tflite model does not compute what the network does."""


def write(graph: Graph, *, quantise: Quantise = "none", description: str = "") -> bytes:
    """The model file: input "image" float32 [1, h, w, 3], outputs "logits" [1, C] and "feature" [1, D].

    The batch can be changed with resize_tensor_input. `dynamic_int8` stores large weights as int8 and lets the
    interpreter quantise their inputs as it runs: inputs and outputs stay float. The same graph gives the same bytes.
    """
    writer = _Writer(quantise)
    writer.activation(INPUT, (*graph.input_hw, 3))
    for operation in graph.operations:
        writer.add(operation)
    return writer.finish(INPUT, (graph.logits, graph.feature), description)


def run(model: bytes, images: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """logits [n, C] and feature [n, D] of normalised images float32 [n, h, w, 3], as a device computes them."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        from tflite_runtime.interpreter import Interpreter

    interpreter = Interpreter(model_content=model, num_threads=1)
    source = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(source, images.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(source, np.ascontiguousarray(images, np.float32))
    interpreter.invoke()
    logits, feature = (interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details())
    return logits, feature


def check(
    model: bytes,
    images: npt.NDArray[np.float32],
    logits: npt.NDArray[np.float32],
    feature: npt.NDArray[np.float32],
    tolerance: float,
) -> float:
    """The largest absolute difference between the model's outputs for `images` and what they should be.

    Raises MismatchError if it is above `tolerance`, or not a number.
    """
    worst = 0.0
    for name, got, wanted in zip(("logits", "feature"), run(model, images), (logits, feature), strict=True):
        if got.shape != wanted.shape:
            raise MismatchError(f"{name} of the .tflite model is {got.shape}, of the network {wanted.shape}")
        difference = float(np.abs(got - wanted).max(initial=0))
        if not difference <= tolerance:
            raise MismatchError(f"{name} of the .tflite model is off by {difference:.3g}, allowed is {tolerance:.3g}")
        worst = max(worst, difference)
    return worst


@dataclass(frozen=True)
class _Tensor:
    index: int
    shape: tuple[int, ...]  # of one image for activations, whole for constants


class _Writer:
    """Collects buffers, tensors and operators in the order of the graph; `finish` puts them together."""

    def __init__(self, quantise: Quantise) -> None:
        self._out = FlatBuffer(TABLES)
        self._quantise = quantise
        self._buffers = [self._out.table("Buffer")]  # buffer 0 is empty by convention: activations refer to it
        self._tensors: list[Offset] = []
        self._operators: list[Offset] = []
        self._codes: list[tuple[str, int]] = []
        self._activations: dict[str, _Tensor] = {}

    # -- the operations of a graph ---------------------------------------------------------------------------------

    def add(self, operation: Operation) -> None:
        if isinstance(operation, Conv):
            self._convolution(operation)
        elif isinstance(operation, Add):
            a, b = self._activations[operation.a], self._activations[operation.b]
            relu = ACTIVATION["RELU" if operation.relu else "NONE"]
            self._operator("ADD", [a, b], self.activation(operation.name, a.shape), fused_activation_function=relu)
        elif isinstance(operation, Mean):
            source = self._activations[operation.source]
            axes = self._constant(f"{operation.name}.axes", np.array([1, 2], np.int32))
            self._operator("MEAN", [source, axes], self.activation(operation.name, source.shape[-1:]), keep_dims=False)
        else:
            source = self._activations[operation.source]
            # One scale for the whole matrix: tflite-runtime computes wrong logits, silently, from one per row.
            weight, version = self._weight(operation.name, operation.weight, "FULLY_CONNECTED", per_channel=False)
            bias = self._constant(f"{operation.name}.bias", operation.bias)
            out = self.activation(operation.name, operation.bias.shape)
            none = ACTIVATION["NONE"]
            self._operator("FULLY_CONNECTED", [source, weight, bias], out, version, fused_activation_function=none)

    def _convolution(self, conv: Conv) -> None:
        source, padding, edge = self._activations[conv.source], "SAME", conv.weight.shape[1] // 2
        height, width, _ = source.shape
        if conv.stride > 1 and edge:  # SAME would pad right and bottom first, torch pads both sides
            source, padding = self._padded(f"{conv.name}.padded", source, edge), "VALID"
        if edge:
            weight, version = self._weight(conv.name, conv.weight, "CONV_2D", per_channel=True)
        else:  # tflite-runtime 2.14 computes int8 1x1 convolutions with a stride wrong, silently
            weight, version = self._constant(f"{conv.name}.weight", conv.weight), 1
        bias = self._constant(f"{conv.name}.bias", conv.bias)
        shape = ((height - 1) // conv.stride + 1, (width - 1) // conv.stride + 1, len(conv.bias))
        self._operator(
            "CONV_2D",
            [source, weight, bias],
            self.activation(conv.name, shape),
            version,
            padding=PADDING[padding],
            stride_w=conv.stride,
            stride_h=conv.stride,
            fused_activation_function=ACTIVATION["RELU" if conv.relu else "NONE"],
        )

    def _padded(self, name: str, source: _Tensor, edge: int) -> _Tensor:
        amounts = self._constant(f"{name}.amounts", np.array([(0, 0), (edge, edge), (edge, edge), (0, 0)], np.int32))
        height, width, channels = source.shape
        out = self.activation(name, (height + 2 * edge, width + 2 * edge, channels))
        self._operator("PAD", [source, amounts], out)
        return out

    # -- tensors ---------------------------------------------------------------------------------------------------

    def activation(self, name: str, shape: tuple[int, ...]) -> _Tensor:
        """A tensor that is computed (or fed): one image in the file, any number of them when resized."""
        signature = self._out.numbers(np.array((-1, *shape), np.int32))
        index = self._tensor(name, (1, *shape), "float32", shape_signature=signature)
        self._activations[name] = _Tensor(index, shape)
        return self._activations[name]

    def _weight(
        self, name: str, weight: npt.NDArray[np.float32], operator: str, *, per_channel: bool
    ) -> tuple[_Tensor, int]:
        """The weight, as int8 if asked for and large enough, and the version of the operator that takes it."""
        if self._quantise == "none" or weight.size < _QUANTISE_FROM:
            return self._constant(f"{name}.weight", weight), 1
        rows = weight.reshape(len(weight) if per_channel else 1, -1)
        largest = np.abs(rows).max(axis=1)
        scale = (np.where(largest > 0, largest, 1) / 127).astype(np.float32)
        quantised = np.clip(np.rint(rows / scale[:, None]), -127, 127).astype(np.int8).reshape(weight.shape)
        quantisation = self._out.table(
            "QuantizationParameters",
            scale=self._out.numbers(scale),
            zero_point=self._out.numbers(np.zeros(len(scale), np.int64)),
            quantized_dimension=0,
        )
        return self._constant(f"{name}.weight", quantised, quantization=quantisation), _HYBRID_VERSION[operator]

    def _constant(self, name: str, array: npt.NDArray[Any], **fields: int) -> _Tensor:
        data = self._out.numbers(np.frombuffer(array.tobytes(), np.uint8), alignment=16)
        self._buffers.append(self._out.table("Buffer", data=data))
        index = self._tensor(name, array.shape, array.dtype.name, buffer=len(self._buffers) - 1, **fields)
        return _Tensor(index, array.shape)

    def _tensor(self, name: str, shape: tuple[int, ...], dtype: str, **fields: int) -> int:
        dimensions, text = self._out.numbers(np.array(shape, np.int32)), self._out.string(name)
        self._tensors.append(self._out.table("Tensor", shape=dimensions, type=TENSOR_TYPES[dtype], name=text, **fields))
        return len(self._tensors) - 1

    # -- operators and the model -----------------------------------------------------------------------------------

    def _operator(
        self, operator: str, inputs: Sequence[_Tensor], output: _Tensor, version: int = 1, **options: int
    ) -> None:
        if (operator, version) not in self._codes:
            self._codes.append((operator, version))
        _, table, union_type = OPERATORS[operator]
        self._operators.append(
            self._out.table(
                "Operator",
                opcode_index=self._codes.index((operator, version)),
                inputs=self._indices([tensor.index for tensor in inputs]),
                outputs=self._indices([output.index]),
                builtin_options_type=union_type,
                builtin_options=self._out.table(table, **options),
            )
        )

    def _indices(self, indices: Sequence[int]) -> Offset:
        return self._out.numbers(np.array(indices, np.int32))

    def finish(self, source: str, outputs: tuple[str, str], description: str) -> bytes:
        subgraph = self._out.table(
            "SubGraph",
            tensors=self._out.offsets(self._tensors),
            inputs=self._indices([self._activations[source].index]),
            outputs=self._indices([self._activations[name].index for name in outputs]),
            operators=self._out.offsets(self._operators),
            name=self._out.string("main"),
        )
        codes = []
        for operator, version in self._codes:
            number = OPERATORS[operator][0]
            codes.append(
                self._out.table("OperatorCode", deprecated_builtin_code=number, version=version, builtin_code=number)
            )
        model = self._out.table(
            "Model",
            version=VERSION,
            operator_codes=self._out.offsets(codes),
            subgraphs=self._out.offsets([subgraph]),
            description=self._out.string(description),
            buffers=self._out.offsets(self._buffers),
        )
        return self._out.finish(model, IDENTIFIER)
