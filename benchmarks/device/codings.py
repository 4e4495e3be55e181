"""How the answer about an image could be coded: what each way takes, and what is left of the maps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import safetensors.numpy

from transfer.activations import Activations

Floats = npt.NDArray[np.float32]
Shape = Sequence[int]
"""[C, h, w] of a block's map."""


@dataclass(frozen=True)
class Parts:
    """Bytes. scales: ranges of rounded maps, energies of what is not sent. names: of the samples and categories, and
    the file's header."""

    maps: float
    logits: float
    scales: float = 0
    names: float = 0

    @property
    def all(self) -> float:
        return self.maps + self.logits + self.scales + self.names

    def times(self, factor: float) -> Parts:
        return Parts(self.maps * factor, self.logits * factor, self.scales * factor, self.names * factor)


def every_block(blocks: Sequence[Shape], classes: int, value_bytes: int) -> Parts:
    """All maps of the network for one picture, as floats of so many bytes: what the method needs, taken literally."""
    return Parts(maps=value_bytes * sum(math.prod(shape) for shape in blocks), logits=value_bytes * classes)


def kept_channels(paired: Sequence[Shape], kept: Sequence[int], classes: int) -> Parts:
    """Of one block a group the channels that the student stands for, whole, float32, and the others' energy."""
    values = sum(channels * math.prod(shape[1:]) for channels, shape in zip(kept, paired, strict=True))
    return Parts(maps=4 * values, logits=4 * classes, scales=4 * len(kept))


def pooled(paired: Sequence[Shape], kept: Sequence[int], classes: int, *, side: int, bits: int) -> Parts:
    """The same averaged to `side` x `side`, rounded to `bits`; float32 scale and energy, float16 logits."""
    values = sum(k * min(side, shape[1]) * min(side, shape[2]) for k, shape in zip(kept, paired, strict=True))
    return Parts(maps=values * bits / 8, logits=2 * classes, scales=8 * len(kept))


def shipped(answer: bytes) -> Parts:
    """What `transfer.activations.encode` made, taken apart."""
    sizes = {name: array.nbytes for name, array in safetensors.numpy.load(answer).items()}
    scales = sum(size for name, size in sizes.items() if name.endswith("_range"))
    maps = sum(size for name, size in sizes.items() if name[0] == "g") - scales
    return Parts(maps, sizes["logits"], scales, names=len(answer) - maps - sizes["logits"] - scales)


def as_int8(answer: Activations) -> Activations:
    """As maps of int8 would arrive, one scale for each."""
    steps = {group: np.abs(maps).max(axis=(2, 3, 4), keepdims=True) / 127 for group, maps in answer.maps.items()}
    return replace(answer, maps={group: _rounded(maps, steps[group]) for group, maps in answer.maps.items()})


def without_maps(answer: Activations) -> Activations:
    return replace(answer, maps={}, residuals={})


def _rounded(maps: Floats, step: Floats) -> Floats:
    return np.asarray(np.rint(maps / np.where(step > 0, step, 1)) * step, np.float32)
