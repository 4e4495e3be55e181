"""ImageNet-type residual networks of basic blocks (ResNet-18, ResNet-34): a 7x7 stem, a max-pool, learned shortcuts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transfer.families.ending import ending
from transfer.families.resnet import basic_block
from transfer.operations import INPUT, Blueprint, Conv, MaxPool, Norm, Operation, Relu

if TYPE_CHECKING:
    from transfer.spec import NetSpec


def imagenet(spec: NetSpec) -> Blueprint:
    """Names as in torchvision. A shortcut that must change shape is a 1x1 convolution with batch norm."""
    operations: list[Operation] = [
        Conv("conv1", INPUT, 3, spec.stem_width, kernel=7, stride=spec.stem_stride),
        Norm("bn1", "conv1", spec.stem_width),
        Relu("relu1", "bn1"),
        MaxPool("maxpool", "relu1", kernel=3, stride=2, padding=1),
    ]
    blocks: list[list[str]] = [[] for _ in spec.groups]
    source = "maxpool"
    for block in spec.placed():
        shortcut = source
        if block.reshapes:
            conv, shortcut = f"{block.name}.downsample.0", f"{block.name}.downsample.1"
            operations.append(Conv(conv, source, block.channels_in, block.out, kernel=1, stride=block.stride))
            operations.append(Norm(shortcut, conv, block.out))
        operations += basic_block(block, source, shortcut)
        source = f"{block.name}.relu2"
        blocks[block.group].append(source)
    operations += ending(spec, source, blocks, "fc")
    return Blueprint(tuple(operations), "fc", "feature", tuple(map(tuple, blocks)))
