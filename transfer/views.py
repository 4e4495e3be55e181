"""The views of an image that training uses, computed from its name: teacher and student see the very same pixels
without sending them (a 'consistent teacher', Beyer et al. 2022), and a view can be cached by (sample id, index).

The parameters come from SHA-256 and the pixels from slicing: no random generator whose stream could change between
versions, no torch.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np
import numpy.typing as npt


def view(
    image: npt.NDArray[np.uint8], sample_id: str, index: int, *, pad: int | None = None, flip: bool = True
) -> npt.NDArray[np.uint8]:
    """View `index` of an image uint8 [h, w, 3], of the same size. View 0 is the image itself.

    Any other is shifted by up to `pad` pixels (an eighth of the height by default) both ways, the border filled by
    reflection, and with `flip` mirrored left to right half of the time.
    """
    if index < 0:
        raise ValueError(f"view {index}: views are counted from 0")
    if index == 0:
        return image
    height, width = image.shape[:2]
    most = height // 8 if pad is None else pad
    vertical, horizontal, mirrored = _draws(sample_id, index)
    down, right = vertical % (2 * most + 1) - most, horizontal % (2 * most + 1) - most
    columns = _places(width, right)[:: -1 if flip and mirrored % 2 else 1]
    # Both `take`s together are many times faster than one index of two dimensions, or than padding and cutting.
    return image.take(_places(height, down), axis=0).take(columns, axis=1)


@lru_cache(maxsize=512)
def _places(size: int, shift: int) -> npt.NDArray[np.intp]:
    """From where in [0, size) an axis moved by `shift` takes its places; beyond its ends it runs back, the edge twice:
    so it goes on however far it is moved."""
    there = np.arange(shift, shift + size) % (2 * size)
    return np.minimum(there, 2 * size - 1 - there)


def _draws(sample_id: str, index: int) -> tuple[int, int, int]:
    """Three independent 64-bit numbers that depend on nothing but their arguments."""
    digest = hashlib.sha256(f"{index}:{sample_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big"), int.from_bytes(digest[8:16], "big"), int.from_bytes(digest[16:24], "big")
