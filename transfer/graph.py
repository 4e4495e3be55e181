"""A network as a list of operations, between its weights and the .tflite writer; made without torch.

Every operation names the tensor it makes and the tensors it takes; "image" is the input. Maps are NHWC, convolution
weights OHWI. Convolutions pad both sides by half their kernel, as torch does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from transfer.spec import NetSpec, PlacedBlock

Floats = npt.NDArray[np.float32]

INPUT = "image"
BATCH_NORM_EPSILON = 1e-5  # torch's default, with which all our networks are trained


@dataclass(frozen=True, eq=False)
class Conv:
    name: str
    source: str
    weight: Floats
    bias: Floats
    stride: int
    relu: bool


@dataclass(frozen=True, eq=False)
class Add:
    name: str
    a: str
    b: str
    relu: bool


@dataclass(frozen=True, eq=False)
class Mean:
    """Over height and width: [n, h, w, c] to [n, c]."""

    name: str
    source: str


@dataclass(frozen=True, eq=False)
class Dense:
    """weight [out, in]."""

    name: str
    source: str
    weight: Floats
    bias: Floats


Operation = Conv | Add | Mean | Dense


@dataclass(frozen=True, eq=False)
class Graph:
    """Operations in the order they run; `logits` and `feature` name the two outputs."""

    input_hw: tuple[int, int]
    operations: tuple[Operation, ...]
    logits: str
    feature: str


def resnet_graph(spec: NetSpec, weights: Mapping[str, npt.NDArray[np.floating]], height: int, width: int) -> Graph:
    """The network in evaluation mode. `weights`: the state dict, see `transfer.spec.weight_shapes`; each batch norm is
    folded into the convolution before it. Raises KeyError where a weight is missing."""

    def folded(name: str, source: str, conv: str, norm: str, stride: int, relu: bool) -> Conv:
        scale = weights[f"{norm}.weight"] / np.sqrt(
            weights[f"{norm}.running_var"].astype(np.float64) + BATCH_NORM_EPSILON
        )
        weight = weights[f"{conv}.weight"].transpose(0, 2, 3, 1) * scale[:, None, None, None]
        bias = weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * scale
        return Conv(name, source, weight.astype(np.float32), bias.astype(np.float32), stride, relu)

    operations: list[Operation] = [folded("stem", INPUT, "conv1", "bn1", spec.stem_stride, relu=True)]
    source = "stem"
    for block in spec.placed():
        name, shortcut = block.name, source
        if block.stride != 1 or block.channels_in != block.out:
            shortcut = f"{name}.shortcut"
            operations.append(_shortcut(shortcut, source, block))
        operations += [
            folded(f"{name}.conv1", source, f"{name}.conv1", f"{name}.bn1", block.stride, relu=True),
            folded(f"{name}.conv2", f"{name}.conv1", f"{name}.conv2", f"{name}.bn2", 1, relu=False),
            Add(name, f"{name}.conv2", shortcut, relu=True),
        ]
        source = name
    row, bias = weights["linear.weight"].astype(np.float32), weights["linear.bias"].astype(np.float32)
    operations += [Mean("feature", source), Dense("logits", "feature", row, bias)]
    return Graph((height, width), tuple(operations), logits="logits", feature="feature")


def _shortcut(name: str, source: str, block: PlacedBlock) -> Conv:
    """Taking every second pixel and adding zero channels, as a 1x1 convolution of zeros and ones: just as exact, and
    one operation that the interpreter accelerates instead of two that it does not (10-30 % of a small network)."""
    weight = np.zeros((block.out, 1, 1, block.channels_in), np.float32)
    kept = np.arange(block.kept)
    weight[block.padding[0] + kept, 0, 0, kept] = 1
    return Conv(name, source, weight, np.zeros(block.out, np.float32), block.stride, relu=False)
