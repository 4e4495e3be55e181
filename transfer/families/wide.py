"""Wide residual networks (Zagoruyko and Komodakis 2016), pre-activated, with shortcuts that have no parameters.

With these shortcuts, and only with them, WRN-28-10 has the 36.22 M parameters of arXiv 2201.10947, table 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from transfer.families.ending import ending
from transfer.operations import INPUT, Add, Blueprint, Conv, Norm, Operation, Relu, Shortcut

if TYPE_CHECKING:
    from transfer.spec import NetSpec


def wide(spec: NetSpec) -> Blueprint:
    """A block ends in a sum without a ReLU. Its activation map is therefore the next block's relu1 or, behind the last
    block, the relu of the network's last batch norm `bn`."""
    operations: list[Operation] = [Conv("conv1", INPUT, 3, spec.stem_width, kernel=3, stride=spec.stem_stride)]
    activated: list[str] = []
    stream = "conv1"
    for block in spec.placed():
        name, shortcut = block.name, stream
        operations += [Norm(f"{name}.bn1", stream, block.channels_in), Relu(f"{name}.relu1", f"{name}.bn1")]
        if block.reshapes:
            shortcut = f"{name}.shortcut"
            operations.append(Shortcut(shortcut, stream, block.channels_in, block.out, block.stride, by="mean"))
        operations += [
            Conv(f"{name}.conv1", f"{name}.relu1", block.channels_in, block.mid, kernel=3, stride=block.stride),
            Norm(f"{name}.bn2", f"{name}.conv1", block.mid),
            Relu(f"{name}.relu2", f"{name}.bn2"),
            Conv(f"{name}.conv2", f"{name}.relu2", block.mid, block.out, kernel=3),
            Add(f"{name}.add", f"{name}.conv2", shortcut),
        ]
        activated.append(f"{name}.relu1")
        stream = f"{name}.add"
    operations += [Norm("bn", stream, spec.groups[-1][-1].out), Relu("relu", "bn")]
    maps = iter([*activated[1:], "relu"])
    blocks = tuple(tuple(next(maps) for _ in group) for group in spec.groups)
    operations += ending(spec, "relu", blocks, "linear")
    return Blueprint(tuple(operations), "linear", "feature", blocks)
