"""CIFAR-type residual networks (He et al. 2016): a 3x3 stem, basic blocks, shortcuts of option A."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transfer.families.ending import ending
from transfer.operations import INPUT, Add, Blueprint, Conv, Norm, Operation, Relu, Shortcut

if TYPE_CHECKING:
    from transfer.spec import NetSpec, PlacedBlock


def resnet(spec: NetSpec) -> Blueprint:
    """Names as in pytorch_resnet_cifar10."""
    operations: list[Operation] = [
        Conv("conv1", INPUT, 3, spec.stem_width, kernel=3, stride=spec.stem_stride),
        Norm("bn1", "conv1", spec.stem_width),
        Relu("relu1", "bn1"),
    ]
    blocks: list[list[str]] = [[] for _ in spec.groups]
    source = "relu1"
    for block in spec.placed():
        shortcut = source
        if block.reshapes:
            shortcut = f"{block.name}.shortcut"
            operations.append(Shortcut(shortcut, source, block.channels_in, block.out, block.stride, by="pixel"))
        operations += basic_block(block, source, shortcut)
        source = f"{block.name}.relu2"
        blocks[block.group].append(source)
    operations += ending(spec, source, blocks, "linear")
    return Blueprint(tuple(operations), "linear", "feature", tuple(map(tuple, blocks)))


def basic_block(block: PlacedBlock, source: str, shortcut: str) -> list[Operation]:
    """Two 3x3 convolutions with batch norm, added to the tensor `shortcut`; makes `NAME.relu2`."""
    name = block.name
    return [
        Conv(f"{name}.conv1", source, block.channels_in, block.mid, kernel=3, stride=block.stride),
        Norm(f"{name}.bn1", f"{name}.conv1", block.mid),
        Relu(f"{name}.relu1", f"{name}.bn1"),
        Conv(f"{name}.conv2", f"{name}.relu1", block.mid, block.out, kernel=3),
        Norm(f"{name}.bn2", f"{name}.conv2", block.out),
        Add(f"{name}.add", f"{name}.bn2", shortcut),
        Relu(f"{name}.relu2", f"{name}.add"),
    ]
