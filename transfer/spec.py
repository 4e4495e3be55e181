"""What a network looks like and what it eats: plain data, so that the side that has no torch can read and check it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal, NamedTuple

import msgspec
from msgspec import UNSET, UnsetType

MAX_WIDTH = 4096
MAX_GROUPS = 8
MAX_BLOCKS = 64
MAX_CLASSES = 10_000
MAX_SIDE = 4096
MAX_HIDDEN = 4
MAX_CELLS = 8
# 1 GiB of float32, the largest file a bundle may hold: a spec from outside must not ask for more memory than that.
# VGG-16, the largest teacher of the paper, has 138 M parameters (553 MB).
MAX_PARAMETERS = 2**28

Family = Literal["resnet", "wide", "imagenet", "vgg"]


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
    """A basic block: 3x3 convolution to `mid` channels, 3x3 convolution to `out` channels, added to a shortcut.

    In family vgg a block is a single convolution to `out` channels; it has no inside, and `mid` equals `out`.
    """

    mid: int
    out: int

    def __post_init__(self) -> None:
        _within("mid", self.mid, 1, MAX_WIDTH)
        _within("out", self.out, 1, MAX_WIDTH)


class VggSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What only VGG has. norm: batch norm behind each convolution. hidden: widths of the linear layers between the
    7 x 7 pixels of the last map and the logits (torchvision's 4096, 4096); with none, the logits are a linear function
    of the feature, as a student's must be."""

    norm: bool
    hidden: tuple[int, ...]

    def __post_init__(self) -> None:
        _within("number of hidden layers", len(self.hidden), 0, MAX_HIDDEN)
        for width in self.hidden:
            _within("width of a hidden layer", width, 1, MAX_WIDTH)


class PlacedBlock(NamedTuple):
    """A residual block with all that follows from where it stands. `name` is its prefix in the state dict."""

    group: int
    position: int
    name: str
    channels_in: int
    mid: int
    out: int
    stride: int

    @property
    def reshapes(self) -> bool:
        """Its output has another shape than its input, so its shortcut must change it."""
        return self.stride != 1 or self.channels_in != self.out


class NetSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A network: a stem, groups of blocks, global average, one linear layer; see `transfer.families`.

    The first block of every group but the first has stride 2. VGG has no stem (its stem_width is the image's 3
    channels, its stem_stride 1), halves its maps behind every group, and says the rest in `vgg`. With `cells`, the
    feature also holds the means over each of cells x cells parts of an earlier map (`transfer.cells`).
    """

    stem_width: int
    stem_stride: int
    groups: tuple[tuple[BlockSpec, ...], ...]
    classes: int
    family: Family = "resnet"
    # Not None: what is unset is not written, so that manifests (and their digests) stay what they were.
    vgg: VggSpec | UnsetType = UNSET
    cells: int | UnsetType = UNSET

    def __post_init__(self) -> None:
        _within("stem_width", self.stem_width, 1, MAX_WIDTH)
        _within("stem_stride", self.stem_stride, 1, 8)
        _within("number of groups", len(self.groups), 1, MAX_GROUPS)
        _within("smallest number of blocks in a group", min(map(len, self.groups)), 1, MAX_BLOCKS)
        _within("number of blocks", sum(map(len, self.groups)), 1, MAX_BLOCKS)
        _within("classes", self.classes, 1, MAX_CLASSES)
        if (self.family == "vgg") != isinstance(self.vgg, VggSpec):
            raise ValueError(f"a network of family {self.family}: `vgg` must be given for family vgg and for no other")
        if self.family == "vgg" and (self.stem_width, self.stem_stride) != (3, 1):
            raise ValueError("family vgg has no stem: stem_width must be 3 and stem_stride 1")
        if self.family == "vgg" and any(block.mid != block.out for blocks in self.groups for block in blocks):
            raise ValueError("a block of family vgg is one convolution: its mid must equal its out")
        if isinstance(self.cells, int):
            _within("cells", self.cells, 1, MAX_CELLS)
            if isinstance(self.vgg, VggSpec) and self.vgg.hidden:
                raise ValueError("a network with hidden layers has no cells: it is a teacher's")
            if sum(map(len, self.groups)) == 1:
                raise ValueError("a network of one block has no earlier map that cells could be of")

    def __repr__(self) -> str:
        """Without what is unset: checkpoints are named after this text and must be found again."""
        fields = (name for name in self.__struct_fields__ if getattr(self, name) is not UNSET)
        return f"NetSpec({', '.join(f'{name}={getattr(self, name)!r}' for name in fields)})"

    @property
    def feature_width(self) -> int:
        """D, the length of the feature: the pooled output of the last block, which the logits are made of, and the
        cells of an earlier one."""
        group, position = self.earlier
        return self.pooled_width + self.cells_a_side**2 * self.groups[group][position].out

    @property
    def pooled_width(self) -> int:
        """The channels of the last block's map; as many numbers of the feature come first, and make the logits."""
        return self.groups[-1][-1].out

    @property
    def cells_a_side(self) -> int:
        """`cells`, 0 where the feature has none."""
        return self.cells if isinstance(self.cells, int) else 0

    @property
    def earlier(self) -> tuple[int, int]:
        """Group and position of the block that cells are of: the last group's first one or, where it is alone, the one
        before."""
        groups = len(self.groups)
        return (groups - 1, 0) if len(self.groups[-1]) > 1 or groups == 1 else (groups - 2, len(self.groups[-2]) - 1)

    @property
    def widths(self) -> tuple[tuple[int, ...], ...]:
        """Per group, the channels of its blocks' maps."""
        return tuple(tuple(block.out for block in blocks) for blocks in self.groups)

    @property
    def details(self) -> VggSpec:
        """`vgg`, where it is known to be there."""
        if not isinstance(self.vgg, VggSpec):
            raise ValueError(f"a network of family {self.family} has no details of a VGG")
        return self.vgg

    def placed(self) -> Iterator[PlacedBlock]:
        """Every block of a residual network, in order."""
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
    return NetSpec(widths[0], stem_stride, _equal(widths, (blocks,) * len(widths)), classes)


def wide_resnet(depth: int, k: int, classes: int, widths: tuple[int, ...] | None = None) -> NetSpec:
    """WRN-depth-k (10, 16, 22, 28, ...): depth = 6 * blocks + 4; groups of 16k, 32k and 64k channels, or `widths`.

    The stem has 16 channels whatever k is.
    """
    blocks, rest = divmod(depth - 4, 6)
    if rest or blocks < 1:
        raise ValueError(f"depth {depth} is not 6 * blocks + 4 for any number of blocks")
    return NetSpec(16, 1, _equal(widths or (16 * k, 32 * k, 64 * k), (blocks,) * 3), classes, "wide")


def resnet_imagenet(depth: int, classes: int, widths: tuple[int, ...] = (64, 128, 256, 512)) -> NetSpec:
    """ResNet-18 or ResNet-34."""
    blocks = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}.get(depth)
    if blocks is None:
        raise ValueError(f"depth {depth}: of this family there are 18 and 34 (deeper ones have bottleneck blocks)")
    return NetSpec(widths[0], 2, _equal(widths, blocks), classes, "imagenet")


def vgg16(
    classes: int,
    *,
    norm: bool,
    hidden: tuple[int, ...] = (4096, 4096),
    widths: tuple[int, ...] = (64, 128, 256, 512, 512),
) -> NetSpec:
    """VGG-16, with batch norm or without; with no `hidden` layers, global average and one linear layer."""
    return NetSpec(3, 1, _equal(widths, (2, 2, 3, 3, 3)), classes, "vgg", VggSpec(norm, hidden))


def _equal(widths: tuple[int, ...], blocks: tuple[int, ...]) -> tuple[tuple[BlockSpec, ...], ...]:
    """Groups of so many blocks of one width each."""
    return tuple((BlockSpec(width, width),) * count for width, count in zip(widths, blocks, strict=True))
