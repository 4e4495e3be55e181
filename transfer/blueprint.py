"""A spec as a list of operations, and all that follows from it by counting. Torch-free."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from transfer.families.imagenet import imagenet
from transfer.families.resnet import resnet
from transfer.families.vgg import vgg
from transfer.families.wide import wide
from transfer.operations import (
    INPUT,
    Blueprint,
    Conv,
    Dense,
    Flatten,
    Join,
    MaxPool,
    Mean,
    Norm,
    Operation,
    Shortcut,
    sources,
)
from transfer.spec import MAX_PARAMETERS, NetSpec

FAMILIES: Final[dict[str, Callable[[NetSpec], Blueprint]]] = {
    "resnet": resnet,
    "wide": wide,
    "imagenet": imagenet,
    "vgg": vgg,
}


@lru_cache(maxsize=256)
def blueprint(spec: NetSpec) -> Blueprint:
    """The network as its operations; the same object for the same spec. Raises ValueError for one of more than
    MAX_PARAMETERS: whoever builds, counts or runs a network draws it first."""
    drawn = FAMILIES[spec.family](spec)
    shapes = (shape for operation in drawn.operations for shape in operation_shapes(operation).values())
    if sum(map(math.prod, shapes)) > MAX_PARAMETERS:
        raise ValueError(f"the network has more than {MAX_PARAMETERS} parameters")
    return drawn


def last_convolution(plan: Blueprint, group: int, position: int) -> str:
    """The name of the convolution that writes a block's activation map: the last one before it."""
    convolution = ""
    for operation in plan.operations:
        if isinstance(operation, Conv):
            convolution = operation.name
        if operation.name == plan.blocks[group][position]:
            return convolution
    raise KeyError(plan.blocks[group][position])


def operation_shapes(operation: Operation) -> dict[str, tuple[int, ...]]:
    """Name and shape of the operation's arrays, as they stand in the state dict."""
    name = operation.name
    if isinstance(operation, Conv):
        kernel = (operation.channels_out, operation.channels_in, operation.kernel, operation.kernel)
        return {f"{name}.weight": kernel} | ({f"{name}.bias": kernel[:1]} if operation.bias else {})
    if isinstance(operation, Norm):
        return {f"{name}.{part}": (operation.channels,) for part in ("weight", "bias", "running_mean", "running_var")}
    if isinstance(operation, Dense):
        return {f"{name}.weight": (operation.width_out, operation.width_in), f"{name}.bias": (operation.width_out,)}
    return {}


def weight_shapes(spec: NetSpec) -> dict[str, tuple[int, ...]]:
    """Name and shape of every array in the state dict (convolutions OIHW), torch's batch counters left out."""
    shapes: dict[str, tuple[int, ...]] = {}
    for operation in blueprint(spec).operations:
        shapes |= operation_shapes(operation)
    return shapes


def parameters(spec: NetSpec) -> int:
    """Number of learned parameters (running statistics are not learned)."""
    return sum(math.prod(shape) for name, shape in weight_shapes(spec).items() if ".running_" not in name)


def tensor_shapes(plan: Blueprint, height: int, width: int) -> dict[str, tuple[int, ...]]:
    """[channels, height, width] or [width] of every tensor, the image included. Raises ValueError where no pixel is
    left: the network shrinks its maps more often than images of this size allow."""
    shapes: dict[str, tuple[int, ...]] = {INPUT: (3, height, width)}
    for operation in plan.operations:
        made = _made(operation, *(shapes[source] for source in sources(operation)))
        if 0 in made:
            raise ValueError(f"images of {height} x {width} are too small: nothing is left of them at {operation.name}")
        shapes[operation.name] = made
    return shapes


def _made(operation: Operation, taken: tuple[int, ...], other: tuple[int, ...] = ()) -> tuple[int, ...]:
    if isinstance(operation, Join):
        return (taken[0] + other[0],)
    if isinstance(operation, Conv | Shortcut):
        _, height, width = taken
        stride = operation.stride
        return operation.channels_out, (height - 1) // stride + 1, (width - 1) // stride + 1
    if isinstance(operation, MaxPool):
        channels, height, width = taken
        more = 2 * operation.padding - operation.kernel
        return channels, (height + more) // operation.stride + 1, (width + more) // operation.stride + 1
    if isinstance(operation, Mean):
        channels, height, width = taken
        if height % operation.cells or width % operation.cells:
            raise ValueError(f"a map of {height} x {width} has no {operation.cells} x {operation.cells} equal cells")
        return (channels * operation.cells**2,)
    if isinstance(operation, Flatten):
        return (taken[0] * operation.side**2,)
    if isinstance(operation, Dense):
        return (operation.width_out,)
    return taken


def macs(spec: NetSpec, height: int, width: int) -> int:
    """Multiply-accumulates of one forward pass on one image, convolutions and linear layers only. Raises ValueError."""
    plan, total = blueprint(spec), 0
    shapes = tensor_shapes(plan, height, width)
    for operation in plan.operations:
        if isinstance(operation, Conv):
            total += math.prod(shapes[operation.name]) * operation.channels_in * operation.kernel**2
        elif isinstance(operation, Dense):
            total += operation.width_in * operation.width_out
    return total
