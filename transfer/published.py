"""Which network a published state dict belongs to, told by the names and shapes of its arrays. Torch-free."""

from __future__ import annotations

import re
from collections.abc import Mapping

from transfer.blueprint import weight_shapes
from transfer.spec import BlockSpec, NetSpec, VggSpec

Shapes = Mapping[str, tuple[int, ...]]

KNOWN = "CIFAR ResNets of pytorch_resnet_cifar10, and torchvision's resnet18, resnet34, vgg16 and vgg16_bn"


def spec_of(shapes: Shapes) -> NetSpec:
    """The network whose arrays these are. Raises ValueError, which says what does not fit."""
    if "layer1.0.conv3.weight" in shapes:
        raise ValueError(f"a residual network of bottleneck blocks (50 layers or more); known are {KNOWN}")
    if "features.0.weight" in shapes:
        spec = _vgg(shapes)
    elif "layer1.0.conv1.weight" in shapes:
        spec = _residual(shapes)
    else:
        raise ValueError(f"known are {KNOWN}")
    wanted = weight_shapes(spec)
    wrong = sorted(name for name in wanted.keys() | shapes.keys() if wanted.get(name) != shapes.get(name))
    if wrong:
        name = wrong[0]
        raise ValueError(
            f"weights that do not fit together as a network of family {spec.family}: {len(wrong)} arrays, the first "
            f"is {name}: {shapes.get(name, 'missing')} instead of {wanted.get(name, 'none')}"
        )
    return spec


def _residual(shapes: Shapes) -> NetSpec:
    blocks: dict[int, dict[int, BlockSpec]] = {}
    for name, shape in shapes.items():
        found = re.fullmatch(r"layer(\d{1,3})\.(\d{1,3})\.conv1\.weight", name)
        if found:
            out = _shape(shapes, name.replace("conv1", "conv2"), 4)[0]
            blocks.setdefault(int(found[1]), {})[int(found[2])] = BlockSpec(shape[0] if shape else 0, out)
    groups = tuple(tuple(row[position] for position in sorted(row)) for _, row in sorted(blocks.items()))
    stem = _shape(shapes, "conv1.weight", 4)
    # torchvision's names do not differ but for the last layer. The stride of a stem leaves no trace.
    if "fc.weight" in shapes:
        return NetSpec(stem[0], 2, groups, _shape(shapes, "fc.weight", 2)[0], "imagenet")
    return NetSpec(stem[0], 1, groups, _shape(shapes, "linear.weight", 2)[0])


def _vgg(shapes: Shapes) -> NetSpec:
    """Layers are numbered, pools too: where a number is left out between two blocks, a group ends."""
    norm = "features.1.running_mean" in shapes
    numbers = sorted(
        int(found[1])
        for name, shape in shapes.items()
        if (found := re.fullmatch(r"features\.(\d{1,4})\.weight", name)) and len(shape) == 4
    )
    groups: list[list[BlockSpec]] = []
    expected = -1
    for number in numbers:
        if number != expected:
            groups.append([])
        out = shapes[f"features.{number}.weight"][0]
        groups[-1].append(BlockSpec(out, out))
        expected = number + 2 + norm
    dense = sorted(int(found[1]) for name in shapes if (found := re.fullmatch(r"classifier\.(\d{1,4})\.weight", name)))
    widths = [_shape(shapes, f"classifier.{number}.weight", 2)[0] for number in dense]
    if not widths:
        raise ValueError("a VGG without `classifier`")
    *hidden, classes = widths
    return NetSpec(3, 1, tuple(map(tuple, groups)), classes, "vgg", VggSpec(norm, tuple(hidden)))


def _shape(shapes: Shapes, name: str, dimensions: int) -> tuple[int, ...]:
    shape = shapes.get(name)
    if shape is None or len(shape) != dimensions:
        raise ValueError(f"{name} is {shape or 'missing'}; it must have {dimensions} dimensions")
    return shape
