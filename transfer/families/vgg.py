"""VGG (Simonyan and Zisserman 2015), with or without batch norm. A block is one 3x3 convolution with its ReLU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from transfer.families.ending import ending
from transfer.operations import INPUT, Blueprint, Conv, Dense, Flatten, MaxPool, Mean, Norm, Operation, Relu

if TYPE_CHECKING:
    from transfer.spec import NetSpec

POOLED_SIDE = 7
"""torchvision averages whatever comes out of the last max-pool to 7 x 7 pixels before its hidden layers."""


def vgg(spec: NetSpec) -> Blueprint:
    """Names as in torchvision: everything is counted, the ReLUs and pools (and, in the classifier, dropouts) too."""
    operations: list[Operation] = []
    blocks: list[tuple[str, ...]] = []
    source, width, at = INPUT, 3, 0
    norm, hidden = spec.details.norm, spec.details.hidden
    for group in spec.groups:
        maps = []
        for block in group:
            conv = f"features.{at}"
            operations.append(Conv(conv, source, width, block.out, kernel=3, bias=True))
            if norm:
                operations.append(Norm(f"features.{at + 1}", conv, block.out))
            source, width = f"features.{at + 1 + norm}", block.out
            operations.append(Relu(source, f"features.{at + norm}"))
            maps.append(source)
            at += 2 + norm
        blocks.append(tuple(maps))
        operations.append(MaxPool(f"features.{at}", source, kernel=2, stride=2))
        source = f"features.{at}"
        at += 1
    if not hidden:
        operations += ending(spec, source, blocks, "classifier")
        return Blueprint(tuple(operations), "classifier", "feature", tuple(blocks))
    operations += [Mean("feature", source), Flatten("flat", source, POOLED_SIDE)]
    source, width = "flat", width * POOLED_SIDE**2
    for at, neurons in enumerate(hidden):
        dense, relu = f"classifier.{3 * at}", f"classifier.{3 * at + 1}"
        operations += [Dense(dense, source, width, neurons), Relu(relu, dense)]
        source, width = relu, neurons
    logits = f"classifier.{3 * len(hidden)}"
    operations.append(Dense(logits, source, width, spec.classes))
    return Blueprint(tuple(operations), logits, "feature", tuple(blocks))
