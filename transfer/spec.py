"""What a network looks like and what it eats: plain data, so that the side that has no torch can read and check it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal, NamedTuple

import msgspec

MAX_WIDTH = 4096
MAX_GROUPS = 8
MAX_BLOCKS = 64
MAX_CLASSES = 10_000
MAX_SIDE = 4096
# 512 MiB of float32, the largest file a bundle may hold: a spec from outside must not ask for more memory than that.
MAX_PARAMETERS = 2**27


def _within(what: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ValueError(f"{what} is {value}; it must be between {low} and {high}")


class InputSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The image a network takes: RGB, `height` x `width` pixels.

    Pixels scaled to 0..1 have `mean` subtracted and are divided by `std`, per channel. With `per_image` each image
    is brought to its own mean 0 and standard deviation 1 instead (the paper, section 5) and both are ignored.
    """

    height: int
    width: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    per_image: bool = False

    def __post_init__(self) -> None:
        _within("height", self.height, 1, MAX_SIDE)
        _within("width", self.width, 1, MAX_SIDE)
        if not all(math.isfinite(value) for value in self.mean):
            raise ValueError(f"mean {self.mean} must be finite")
        if not all(math.isfinite(value) and value > 0 for value in self.std):
            raise ValueError(f"std {self.std} must be finite and positive")


class BlockSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A basic block: 3x3 convolution to `mid` channels, 3x3 convolution to `out` channels, parameter-free shortcut."""

    mid: int
    out: int

    def __post_init__(self) -> None:
        _within("mid", self.mid, 1, MAX_WIDTH)
        _within("out", self.out, 1, MAX_WIDTH)


class PlacedBlock(NamedTuple):
    """A block with all that follows from where it stands. `name` is its prefix in the state dict."""

    group: int
    position: int
    name: str
    channels_in: int
    mid: int
    out: int
    stride: int

    @property
    def kept(self) -> int:
        """Channels of the input that its shortcut keeps (all, or the first `out` when the block narrows)."""
        return min(self.channels_in, self.out)

    @property
    def padding(self) -> tuple[int, int]:
        """Zero channels that its shortcut adds before and after the kept ones."""
        added = self.out - self.kept
        return added // 2, added - added // 2


class NetSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A residual network: 3x3 stem, groups of basic blocks, global average, one linear layer.

    The first block of every group but the first has stride 2.
    """

    stem_width: int
    stem_stride: int
    groups: tuple[tuple[BlockSpec, ...], ...]
    classes: int
    family: Literal["resnet"] = "resnet"

    def __post_init__(self) -> None:
        _within("stem_width", self.stem_width, 1, MAX_WIDTH)
        _within("stem_stride", self.stem_stride, 1, 8)
        _within("number of groups", len(self.groups), 1, MAX_GROUPS)
        _within("smallest number of blocks in a group", min(map(len, self.groups)), 1, MAX_BLOCKS)
        _within("number of blocks", sum(map(len, self.groups)), 1, MAX_BLOCKS)
        _within("classes", self.classes, 1, MAX_CLASSES)
        _within("number of parameters", parameters(self), 1, MAX_PARAMETERS)

    @property
    def feature_width(self) -> int:
        """D, the length of the feature (the pooled output of the last block)."""
        return self.groups[-1][-1].out

    def placed(self) -> Iterator[PlacedBlock]:
        """Every block, in order."""
        channels_in = self.stem_width
        for group, blocks in enumerate(self.groups):
            for position, block in enumerate(blocks):
                stride = 2 if group > 0 and position == 0 else 1
                name = f"layer{group + 1}.{position}"
                yield PlacedBlock(group, position, name, channels_in, block.mid, block.out, stride)
                channels_in = block.out


def resnet_cifar(depth: int, classes: int, stem_stride: int = 1, widths: tuple[int, ...] = (16, 32, 64)) -> NetSpec:
    """The CIFAR ResNet of `depth` layers (8, 14, 20, 32, 56, ...): depth = 2 * blocks * groups + 2, equal groups."""
    blocks, rest = divmod(depth - 2, 2 * len(widths))
    if rest or blocks < 1:
        raise ValueError(f"depth {depth} is not 2 * blocks * {len(widths)} + 2 for any number of blocks")
    groups = tuple(tuple(BlockSpec(width, width) for _ in range(blocks)) for width in widths)
    return NetSpec(widths[0], stem_stride, groups, classes)


def weight_shapes(spec: NetSpec) -> dict[str, tuple[int, ...]]:
    """Name and shape of every array in the state dict (convolutions OIHW), torch's batch counters left out."""
    shapes: dict[str, tuple[int, ...]] = {}

    def convolution(conv: str, norm: str, channels_in: int, out: int) -> None:
        shapes[f"{conv}.weight"] = (out, channels_in, 3, 3)
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{norm}.{part}"] = (out,)

    convolution("conv1", "bn1", 3, spec.stem_width)
    for block in spec.placed():
        convolution(f"{block.name}.conv1", f"{block.name}.bn1", block.channels_in, block.mid)
        convolution(f"{block.name}.conv2", f"{block.name}.bn2", block.mid, block.out)
    shapes["linear.weight"] = (spec.classes, spec.feature_width)
    shapes["linear.bias"] = (spec.classes,)
    return shapes


def parameters(spec: NetSpec) -> int:
    """Number of learned parameters (running statistics are not learned)."""
    return sum(math.prod(shape) for name, shape in weight_shapes(spec).items() if ".running_" not in name)


def macs(spec: NetSpec, height: int, width: int) -> int:
    """Multiply-accumulates of one forward pass on one image, convolutions and the linear layer only."""

    def shrink(stride: int) -> None:
        nonlocal height, width
        height, width = (height - 1) // stride + 1, (width - 1) // stride + 1

    shrink(spec.stem_stride)
    total = height * width * 9 * 3 * spec.stem_width
    for block in spec.placed():
        shrink(block.stride)
        total += height * width * 9 * block.mid * (block.channels_in + block.out)
    return total + spec.feature_width * spec.classes
