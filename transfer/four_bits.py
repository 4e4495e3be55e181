"""Maps in four bits a value, two values a byte. Numpy only.

Levels run from each map's least value to its largest, so of a map behind a ReLU none is wasted on a sign. One range a
map is enough: with one for every channel besides, the rounding would be no smaller (measured on ResNet-56).
"""

from __future__ import annotations

import math
from typing import cast

import numpy as np
import numpy.typing as npt

LEVELS = 16

Floats = npt.NDArray[np.float32]
Shape = tuple[int, int, int]


def packed_bytes(shape: Shape) -> int:
    """What a map [K, p, q] takes."""
    return -(-math.prod(shape) // 2)


def pack(maps: Floats) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float16]]:
    """maps [n, v, K, p, q] as levels [n, v, bytes], the first value of a byte in its low half, and ranges [n, v, 2]:
    the value of level 0, and the step from one level to the next."""
    flat = maps.reshape(*maps.shape[:2], -1)
    low = flat.min(axis=2).astype(np.float16)
    # float16 may put level 0 above the values of an even map.
    step = ((flat.max(axis=2) - low).clip(0) / (LEVELS - 1)).astype(np.float16)
    divisor = np.where(step > 0, step, 1).astype(np.float32)
    levels = np.rint((flat - low[:, :, None]) / divisor[:, :, None]).clip(0, LEVELS - 1).astype(np.uint8)
    if levels.shape[2] % 2:
        levels = np.pad(levels, ((0, 0), (0, 0), (0, 1)))
    return levels[:, :, 0::2] | levels[:, :, 1::2] << 4, np.stack([low, step], axis=2)


def unpack(packed: npt.NDArray[np.uint8], ranges: npt.NDArray[np.float16], shape: Shape) -> Floats:
    """Maps [n, v, K, p, q] of that `shape` [K, p, q] from what `pack` gave."""
    levels = np.stack([packed & 15, packed >> 4], axis=3).reshape(*packed.shape[:2], -1)[:, :, : math.prod(shape)]
    low, step = ranges[:, :, :1].astype(np.float32), ranges[:, :, 1:].astype(np.float32)
    return cast(Floats, (low + step * levels).reshape(*packed.shape[:2], *shape))
