"""What every network is made of: operations on named tensors, plain data without weights.

Each operation names the tensor it makes and those it takes; `INPUT` is the image. Names of operations with weights are
the prefixes of their arrays in the state dict. Convolutions pad both sides by half their kernel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

INPUT = "image"


@dataclass(frozen=True)
class Conv:
    """A square, odd kernel; arrays `weight` (OIHW) and, with `bias`, `bias`."""

    name: str
    source: str
    channels_in: int
    channels_out: int
    kernel: int
    stride: int = 1
    bias: bool = False


@dataclass(frozen=True)
class Norm:
    """Batch norm: arrays `weight`, `bias`, `running_mean`, `running_var`."""

    name: str
    source: str
    channels: int


@dataclass(frozen=True)
class Relu:
    name: str
    source: str


@dataclass(frozen=True)
class Add:
    name: str
    a: str
    b: str


@dataclass(frozen=True)
class Shortcut:
    """A block's input brought to the shape of its output without parameters.

    Every stride-th `pixel` (He et al. 2016, option A) or the `mean` over stride x stride pixels (fewer at an odd edge);
    then channels are dropped at the end, or filled up with zeros on both sides.
    """

    name: str
    source: str
    channels_in: int
    channels_out: int
    stride: int
    by: Literal["pixel", "mean"]

    @property
    def kept(self) -> int:
        """How many of the first channels stay."""
        return min(self.channels_in, self.channels_out)

    @property
    def padding(self) -> tuple[int, int]:
        """Zero channels before and after the kept ones."""
        added = self.channels_out - self.kept
        return added // 2, added - added // 2


@dataclass(frozen=True)
class MaxPool:
    """Its source comes out of a ReLU, so that padding with zeros is as good as with minus infinity."""

    name: str
    source: str
    kernel: int
    stride: int
    padding: int = 0


@dataclass(frozen=True)
class Mean:
    """Over each of cells x cells equal parts of the map: [c, h, w] to [cells * cells * c], part after part by rows."""

    name: str
    source: str
    cells: int = 1


@dataclass(frozen=True)
class Join:
    """[c] and [d] to [c + d]."""

    name: str
    a: str
    b: str


@dataclass(frozen=True)
class Flatten:
    """[c, h, w], averaged (adaptively) to [c, side, side], to [c * side * side]."""

    name: str
    source: str
    side: int


@dataclass(frozen=True)
class Dense:
    """Arrays `weight` [width_out, width_in] and `bias`."""

    name: str
    source: str
    width_in: int
    width_out: int


Operation = Conv | Norm | Relu | Add | Shortcut | MaxPool | Mean | Join | Flatten | Dense


def sources(operation: Operation) -> tuple[str, ...]:
    """The tensors it takes."""
    return (operation.a, operation.b) if isinstance(operation, Add | Join) else (operation.source,)


@dataclass(frozen=True)
class Blueprint:
    """Operations in the order they run.

    `logits` and `feature` name the outputs, `blocks[group][position]` the activation map of each block: its output
    behind the ReLU that follows. `logits` is also the name of the last Dense. The feature is always the mean over the
    last block's map, after the max-pool where there is one, and in a network with cells an earlier map's parts.
    """

    operations: tuple[Operation, ...]
    logits: str
    feature: str
    blocks: tuple[tuple[str, ...], ...]
