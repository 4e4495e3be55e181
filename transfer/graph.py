"""A network with its weights as the list of operations that a device runs: between the blueprint and the .tflite
writer, made without torch.

Every operation names the tensor it makes and the tensors it takes; "image" is the input. Maps are NHWC, convolution
weights OHWI. Convolutions pad both sides by half their kernel, as torch does. Batch norms and ReLUs are part of the
operation before them wherever that is exact.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from transfer import operations as planned
from transfer.blueprint import blueprint, tensor_shapes
from transfer.operations import INPUT
from transfer.spec import NetSpec

Floats = npt.NDArray[np.float32]
Weights = Mapping[str, npt.NDArray[np.floating]]

BATCH_NORM_EPSILON = 1e-5  # torch's default, with which all our networks are trained


@dataclass(frozen=True, eq=False)
class Conv:
    name: str
    source: str
    weight: Floats
    bias: Floats
    stride: int
    relu: bool = False


@dataclass(frozen=True, eq=False)
class Scale:
    """x * scale + offset, per channel: a batch norm that follows no convolution."""

    name: str
    source: str
    scale: Floats
    offset: Floats
    relu: bool = False


@dataclass(frozen=True, eq=False)
class Add:
    name: str
    a: str
    b: str
    relu: bool = False


@dataclass(frozen=True, eq=False)
class MaxPool:
    """Pads both sides by `padding` zeros."""

    name: str
    source: str
    kernel: int
    stride: int
    padding: int


@dataclass(frozen=True, eq=False)
class MeanPool:
    """Means over stride x stride pixels, at an odd edge over those that there are."""

    name: str
    source: str
    stride: int


@dataclass(frozen=True, eq=False)
class Mean:
    """Over height and width of each of cells x cells equal parts: [n, h, w, c] to [n, cells * cells * c]."""

    name: str
    source: str
    cells: int = 1


@dataclass(frozen=True, eq=False)
class Join:
    """[n, c] and [n, d] to [n, c + d]."""

    name: str
    a: str
    b: str


@dataclass(frozen=True, eq=False)
class Dense:
    """weight [out, in], where in may also be h * w * c of a map."""

    name: str
    source: str
    weight: Floats
    bias: Floats
    relu: bool = False


Operation = Conv | Scale | Add | MaxPool | MeanPool | Mean | Join | Dense


@dataclass(frozen=True, eq=False)
class Graph:
    """Operations in the order they run; `logits` and `feature` name the two outputs."""

    input_hw: tuple[int, int]
    operations: tuple[Operation, ...]
    logits: str
    feature: str


def network_graph(spec: NetSpec, weights: Weights, height: int, width: int) -> Graph:
    """The network in evaluation mode. `weights`: the state dict, see `transfer.spec.weight_shapes`.

    Raises KeyError where a weight is missing, ValueError where images of this size are too small.
    """
    drawn = blueprint(spec)
    folding = _Folding(weights, tensor_shapes(drawn, height, width), drawn)
    for operation in drawn.operations:
        folding.add(operation)
    named = folding.tensors
    return Graph((height, width), tuple(folding.made.values()), named[drawn.logits], named[drawn.feature])


class _Folding:
    """Goes through a blueprint. `made`: the graph so far, by name; `tensors`: which of its operations makes, at its
    end, a tensor of the blueprint."""

    def __init__(self, weights: Weights, shapes: Mapping[str, tuple[int, ...]], drawn: planned.Blueprint) -> None:
        self._weights, self._shapes, self._logits = weights, shapes, drawn.logits
        self._takers = Counter(name for operation in drawn.operations for name in planned.sources(operation))
        self._flat: dict[str, tuple[tuple[int, ...], int]] = {}
        self.made: dict[str, Operation] = {}
        self.tensors = {INPUT: INPUT}

    def add(self, operation: planned.Operation) -> None:
        name, source = operation.name, self.tensors[planned.sources(operation)[0]]
        if isinstance(operation, planned.Conv):
            weight = self._weights[f"{name}.weight"].transpose(0, 2, 3, 1)
            bias = self._weights[f"{name}.bias"] if operation.bias else np.zeros(len(weight), np.float32)
            self._make(name, Conv(name, source, _float32(weight), _float32(bias), operation.stride))
        elif isinstance(operation, planned.Norm):
            self._norm(operation, source)
        elif isinstance(operation, planned.Relu):
            self._make(name, self._rectified(operation, self.made[source]))
        elif isinstance(operation, planned.Add):
            self._make(name, Add(name, self.tensors[operation.a], self.tensors[operation.b]))
        elif isinstance(operation, planned.Join):
            self._make(name, Join(name, self.tensors[operation.a], self.tensors[operation.b]))
        elif isinstance(operation, planned.Shortcut):
            self._shortcut(operation, source)
        elif isinstance(operation, planned.MaxPool):
            self._make(name, MaxPool(name, source, operation.kernel, operation.stride, operation.padding))
        elif isinstance(operation, planned.Mean):
            self._make(name, Mean(name, source, operation.cells))
        elif isinstance(operation, planned.Flatten):
            self.tensors[name] = source  # the Dense behind it takes the map itself
            self._flat[name] = (self._shapes[operation.source], operation.side)
        else:
            self._dense(operation, source)

    def _make(self, tensor: str, operation: Operation) -> None:
        """`operation` makes `tensor`; it takes the place of one of the same name."""
        self.made[operation.name] = operation
        self.tensors[tensor] = operation.name

    def _rectified(self, relu: planned.Relu, before: Operation) -> Operation:
        """The operation before it, with the ReLU; in none of our blueprints does anything else take what that makes."""
        if self._takers[relu.source] != 1 or not isinstance(before, Conv | Scale | Add | Dense):
            raise ValueError(f"{relu.name} cannot be made part of the operation that it follows")
        return replace(before, relu=True)

    def _norm(self, norm: planned.Norm, source: str) -> None:
        """Part of the convolution before it, if nothing else takes what that makes."""
        weights, before = self._weights, self.made.get(source)
        deviation = np.sqrt(weights[f"{norm.name}.running_var"].astype(np.float64) + BATCH_NORM_EPSILON)
        scale = weights[f"{norm.name}.weight"] / deviation
        if isinstance(before, Conv) and not before.relu and self._takers[norm.source] == 1:
            offset = weights[f"{norm.name}.bias"] + (before.bias - weights[f"{norm.name}.running_mean"]) * scale
            weight = before.weight * scale[:, None, None, None]
            self._make(norm.name, replace(before, weight=_float32(weight), bias=_float32(offset)))
        else:
            offset = weights[f"{norm.name}.bias"] - weights[f"{norm.name}.running_mean"] * scale
            self._make(norm.name, Scale(norm.name, source, _float32(scale), _float32(offset)))

    def _shortcut(self, shortcut: planned.Shortcut, source: str) -> None:
        """Taking every second pixel and adding zero channels, as a 1x1 convolution of zeros and ones: just as exact,
        and one operation that the interpreter accelerates instead of two that it does not (10-30 % of a small network).
        """
        name, stride = shortcut.name, shortcut.stride
        if shortcut.by == "mean" and stride > 1:
            pooled = MeanPool(f"{name}.mean", source, stride)
            self._make(name, pooled)
            if shortcut.channels_in == shortcut.channels_out:
                return
            source, stride = pooled.name, 1
        weight = np.zeros((shortcut.channels_out, 1, 1, shortcut.channels_in), np.float32)
        kept = np.arange(shortcut.kept)
        weight[shortcut.padding[0] + kept, 0, 0, kept] = 1
        self._make(name, Conv(name, source, weight, np.zeros(shortcut.channels_out, np.float32), stride))

    def _dense(self, dense: planned.Dense, source: str) -> None:
        weight, bias = self._weights[f"{dense.name}.weight"], _float32(self._weights[f"{dense.name}.bias"])
        if dense.source in self._flat:
            weight = _over_pixels(weight, *self._flat[dense.source])
        name = "logits" if dense.name == self._logits else dense.name
        self._make(dense.name, Dense(name, source, _float32(weight), bias))


def _over_pixels(weight: npt.NDArray[np.floating], shape: tuple[int, ...], side: int) -> npt.NDArray[np.floating]:
    """Weights [out, c * side * side] on an adaptively averaged map, as weights [out, h * w * c] on the map itself, in
    the order in which it lies in memory. `shape`: [c, h, w] of the map."""
    channels, height, width = shape
    squares = weight.reshape(len(weight), channels, side, side)
    rows, columns = _bins(height, side), _bins(width, side)
    spread: npt.NDArray[np.floating] = np.einsum("ocij,iy,jx->oyxc", squares, rows, columns, optimize=True)
    return spread.reshape(len(weight), -1)


def _bins(length: int, side: int) -> Floats:
    """[side, length]: how much each pixel counts in each bin of torch's adaptive average."""
    shares = np.zeros((side, length), np.float32)
    for at in range(side):
        first, behind = at * length // side, -(-(at + 1) * length // side)
        shares[at, first:behind] = 1 / (behind - first)
    return shares


def _float32(array: npt.NDArray[np.floating]) -> Floats:
    return array.astype(np.float32)
