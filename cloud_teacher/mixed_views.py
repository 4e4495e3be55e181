"""Views of two images at once: half of them a weighted mean (mixup, Zhang et al. 2018), half with a rectangle of the
other pasted in (cutmix, Yun et al. 2019).

Between the images of known categories lies much that resembles neither, and a teacher that knows more categories says
so: a student that is asked to follow it there learns more of what it was never shown. All chance comes from hashes, as
in `transfer.views`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Images = npt.NDArray[np.uint8]
Rows = npt.NDArray[np.int64]


LARGEST_DRAW = 2**64


def partners(names: Sequence[str], index: int) -> Rows:
    """[n]: with whom the image of each name is mixed in view `index`. Every image is somebody's partner once, and
    nobody's own where there are two or more."""
    keys = [hashlib.blake2b(f"partner:{index}:{name}".encode(), digest_size=8).digest() for name in names]
    circle = np.array(sorted(range(len(names)), key=keys.__getitem__), np.int64)
    other = np.empty_like(circle)
    other[circle] = np.roll(circle, 1)
    return other


def mixed(views: Images, others: Images, names: Sequence[str], index: int) -> Images:
    """Each of `views` uint8 [n, h, w, 3] mixed with its other; the names are those of the first. The share of the first
    is anything from none to all."""
    made: Images = views.copy()
    height, width = views.shape[1:3]
    for at, name in enumerate(names):
        kind, share, down, right = _draws(name, index)
        if kind % 2:
            made[at] = _blend(views[at], others[at], int(share % 257))
        else:
            side = math.sqrt(share / LARGEST_DRAW)
            rows, columns = round(height * side), round(width * side)
            top, left = down % (height - rows + 1), right % (width - columns + 1)
            place = np.s_[top : top + rows, left : left + columns]
            made[at][place] = others[at][place]
    return made


def _blend(one: Images, other: Images, parts: int) -> Images:
    """`parts` of 256 of the first, in integers: the same on every machine."""
    both = one.astype(np.uint16) * parts + other.astype(np.uint16) * (256 - parts)
    blended: Images = ((both + 128) >> 8).astype(np.uint8)
    return blended


def _draws(name: str, index: int) -> tuple[int, int, int, int]:
    digest = hashlib.sha256(f"mixed:{index}:{name}".encode()).digest()
    one, two, three, four = (int.from_bytes(digest[at : at + 8], "big") for at in (0, 8, 16, 24))
    return one, two, three, four
