"""A .tflite model, put together from the operations of a graph; see `transfer.tflite`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from transfer.flatbuffer import FlatBuffer, Offset
from transfer.graph import Add, Conv, Dense, Join, MaxPool, Mean, MeanPool, Operation, Scale
from transfer.tflite_schema import ACTIVATION, IDENTIFIER, OPERATORS, PADDING, TABLES, TENSOR_TYPES, VERSION

Quantise = Literal["none", "dynamic_int8"]

# The operator version from which a float operator takes int8 weights (per channel for CONV_2D).
_HYBRID_VERSION = {"CONV_2D": 5, "FULLY_CONNECTED": 3}
# Fewer weights than this are not worth the noise (the converter of TensorFlow draws the same line).
_QUANTISE_FROM = 1024


_Sides = tuple[int, int]
"""Height and width."""


@dataclass(frozen=True)
class _Tensor:
    index: int
    shape: tuple[int, ...]  # of one image for activations, whole for constants


class Writer:
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
        elif isinstance(operation, Scale):
            self._scale(operation)
        elif isinstance(operation, Add):
            a, b = self._activations[operation.a], self._activations[operation.b]
            out = self.activation(operation.name, a.shape)
            self._operator("ADD", [a, b], out, fused_activation_function=_activation(operation.relu))
        elif isinstance(operation, MaxPool):
            self._max_pool(operation)
        elif isinstance(operation, MeanPool):
            # SAME puts what is missing at the end (for a stride of 2) and leaves it out of the mean, as torch does.
            height, width, channels = self._activations[operation.source].shape
            shape = (-(-height // operation.stride), -(-width // operation.stride), channels)
            source, out = self._activations[operation.source], self.activation(operation.name, shape)
            self._pool("AVERAGE_POOL_2D", source, out, (operation.stride,) * 2, (operation.stride,) * 2, "SAME")
        elif isinstance(operation, Mean):
            self._mean(operation)
        elif isinstance(operation, Join):
            self._join(operation)
        else:
            self._dense(operation)

    def _mean(self, mean: Mean) -> None:
        source = self._activations[mean.source]
        if mean.cells == 1:
            axes = self._constant(f"{mean.name}.axes", np.array([1, 2], np.int32))
            self._operator("MEAN", [source, axes], self.activation(mean.name, source.shape[-1:]), keep_dims=False)
            return
        height, width, channels = source.shape
        cells = self.activation(f"{mean.name}.cells", (mean.cells, mean.cells, channels))
        part = (height // mean.cells, width // mean.cells)
        self._pool("AVERAGE_POOL_2D", source, cells, part, part, "VALID")
        size = channels * mean.cells**2
        shape = self._constant(f"{mean.name}.shape", np.array([-1, size], np.int32))
        self._operator("RESHAPE", [cells, shape], self.activation(mean.name, (size,)))

    def _join(self, join: Join) -> None:
        a, b = self._activations[join.a], self._activations[join.b]
        out = self.activation(join.name, (a.shape[0] + b.shape[0],))
        self._operator("CONCATENATION", [a, b], out, axis=1, fused_activation_function=_activation(relu=False))

    def _dense(self, dense: Dense) -> None:
        source = self._activations[dense.source]
        # One scale for the whole matrix: tflite-runtime computes wrong logits, silently, from one per row.
        weight, version = self._weight(dense.name, dense.weight, "FULLY_CONNECTED", per_channel=False)
        bias = self._constant(f"{dense.name}.bias", dense.bias)
        out = self.activation(dense.name, dense.bias.shape)
        relu = _activation(dense.relu)
        self._operator("FULLY_CONNECTED", [source, weight, bias], out, version, fused_activation_function=relu)

    def _scale(self, scale: Scale) -> None:
        """A depthwise 1x1 convolution: one pass over the map, 1-4 % of a network faster than MUL and ADD."""
        source = self._activations[scale.source]
        factor = self._constant(f"{scale.name}.scale", scale.scale.reshape(1, 1, 1, -1))
        offset = self._constant(f"{scale.name}.offset", scale.offset)
        self._operator(
            "DEPTHWISE_CONV_2D",
            [source, factor, offset],
            self.activation(scale.name, source.shape),
            padding=PADDING["SAME"],
            stride_w=1,
            stride_h=1,
            depth_multiplier=1,
            fused_activation_function=_activation(scale.relu),
        )

    def _max_pool(self, pool: MaxPool) -> None:
        source = self._activations[pool.source]
        if pool.padding:
            source = self._padded(f"{pool.name}.padded", source, pool.padding)
        height, width, channels = source.shape
        shape = ((height - pool.kernel) // pool.stride + 1, (width - pool.kernel) // pool.stride + 1, channels)
        out = self.activation(pool.name, shape)
        self._pool("MAX_POOL_2D", source, out, (pool.kernel,) * 2, (pool.stride,) * 2, "VALID")

    def _pool(self, operator: str, source: _Tensor, out: _Tensor, kernel: _Sides, stride: _Sides, padding: str) -> None:
        self._operator(
            operator,
            [source],
            out,
            padding=PADDING[padding],
            stride_w=stride[1],
            stride_h=stride[0],
            filter_width=kernel[1],
            filter_height=kernel[0],
            fused_activation_function=ACTIVATION["NONE"],
        )

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
            fused_activation_function=_activation(conv.relu),
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


def _activation(relu: bool) -> int:
    return ACTIVATION["RELU" if relu else "NONE"]
