"""A student of a shape that a person gives, under any teacher: nothing is pruned and no weight is inherited.

Where a pruned student's channels are some of its teacher's, this one's are its own: it is told which of the teacher's
to become. Those are the ones that differ most from image to image, of each group's last block and of the feature.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch
from msgspec import UNSET
from torch import Tensor

from cloud_teacher.zoo import Teacher
from transfer.blueprint import blueprint
from transfer.spec import NetSpec, resnet_cifar, resnet_imagenet, vgg16, wide_resnet

MAX_FILE_BYTES = 2**20
LARGE_SIDE = 64
"""From this side on a network of CIFAR's type halves the image at once, as the teachers trained here do."""


class ShapeError(ValueError):
    """No shape, or one that this teacher cannot teach; the message says why."""


@dataclass(frozen=True)
class GivenShape:
    """out: per group, the channels of the teacher's last block that the student's last block answers to; none where the
    teacher's block is the narrower. feature: the teacher's features that the student's first ones answer to."""

    spec: NetSpec
    out: tuple[tuple[int, ...], ...]
    feature: tuple[int, ...]


def student_shape(text: str, classes: int, side: int) -> NetSpec:
    """The network for images of this side that `text` names: resnet20, resnet18, wrn-16-2, vgg16, vgg16-bn, or a .json
    file of a NetSpec, whose number of classes and cells do not count. Raises ShapeError."""
    try:
        if text.endswith(".json"):
            return msgspec.structs.replace(_read(Path(text)), classes=classes, cells=UNSET)
        for pattern, make in _NAMED:
            found = re.fullmatch(pattern, text)
            if found:
                return make([int(number) for number in found.groups()], classes, side)
    except ValueError as error:
        raise ShapeError(f"student {text}: {error}") from error
    raise ShapeError(
        f"student {text!r}: give resnet20 (or another depth of CIFAR's ResNets), resnet18, resnet34, wrn-16-2, vgg16, "
        "vgg16-bn, or a .json file of a network's shape (as `net` in a bundle's manifest.json)"
    )


def _cifar(numbers: list[int], classes: int, side: int) -> NetSpec:
    return resnet_cifar(numbers[0], classes, stem_stride=2 if side >= LARGE_SIDE else 1)


_NAMED: tuple[tuple[str, Callable[[list[int], int, int], NetSpec]], ...] = (
    (r"resnet(18|34)", lambda numbers, classes, side: resnet_imagenet(numbers[0], classes)),
    (r"resnet(\d{1,3})", _cifar),
    (r"wrn-(\d{1,3})-(\d{1,2})", lambda numbers, classes, side: wide_resnet(numbers[0], numbers[1], classes)),
    # Without the wide hidden layers: they would be nine tenths of its weights.
    (r"vgg16", lambda numbers, classes, side: vgg16(classes, norm=False, hidden=())),
    (r"vgg16-bn", lambda numbers, classes, side: vgg16(classes, norm=True, hidden=())),
)


def _read(path: Path) -> NetSpec:
    try:
        with path.open("rb") as file:
            spec = msgspec.json.decode(file.read(MAX_FILE_BYTES), type=NetSpec)
    except OSError as error:
        raise ShapeError(f"cannot be read: {error}") from error
    blueprint(spec)  # or it is too large for any memory
    return spec


@torch.no_grad()
def given_shape(teacher: Teacher, spec: NetSpec, images: Tensor) -> GivenShape:
    """`spec` under this teacher, judged by one batch of normalised `images`. Raises ShapeError."""
    if len(spec.groups) != len(teacher.widths):
        raise ShapeError(
            f"the student has {len(spec.groups)} groups of blocks and its teacher {len(teacher.widths)}: give one of "
            "as many (or, in the teacher's YAML file, name the blocks of as many groups)"
        )
    outputs = teacher.module(images)
    maps = [blocks[-1].mean(dim=(2, 3)) for blocks in outputs.blocks]
    wanted = [blocks[-1].out for blocks in spec.groups]
    out = tuple(
        _most_telling(pooled, width) if width <= pooled.shape[1] else ()
        for pooled, width in zip(maps, wanted, strict=True)
    )
    feature = _most_telling(outputs.feature, min(spec.feature_width, outputs.feature.shape[1]))
    return GivenShape(spec, out, feature)


def _most_telling(values: Tensor, count: int) -> tuple[int, ...]:
    """Of values [n, C], the `count` channels with the largest variance, in their own order."""
    order = torch.argsort(values.float().var(dim=0), descending=True, stable=True)
    return tuple(sorted(order[:count].tolist()))
