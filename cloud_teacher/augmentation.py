"""What is done to training images at random, every time they are shown: the paper's augmentation (section 5) and ours.

Pixels stay uint8 and every step treats the whole batch at once: this runs for every batch, on slow processors too. All
chance comes from the generator given, in a fixed order, so that a resumed training sees what it would have seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Images = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]

GREY = (124, 116, 104)
"""ImageNet's mean colour: what is cut out is near zero once normalised."""
PAPER_PAD, PAPER_CUTOUT = 4, 16
PHOTOGRAPH_SIDE = 128
"""From this side on images are treated as the paper treats ImageNet's."""


@dataclass(frozen=True)
class Augmentation:
    """What may happen to an image, in this order.

    zoom: a square window of 1 - zoom to 1 times the side, anywhere, is enlarged to the whole (a random crop of a
    photograph that was scaled to a little more than the network takes). pad: shifted by up to so many pixels both ways,
    the border reflected; None is an eighth of the height. flip: mirrored half of the time. cutout: a square of so many
    pixels a side around any pixel is painted grey; at the border less of it is seen (DeVries and Taylor 2017).
    """

    pad: int | None = None
    flip: bool = True
    cutout: int = 0
    zoom: float = 0.0

    def __post_init__(self) -> None:
        if (self.pad or 0) < 0 or self.cutout < 0 or not 0 <= self.zoom < 1:
            raise ValueError(f"{self}: pad and cutout must not be negative, and zoom must be at least 0 and below 1")

    def __call__(self, images: Images, random: np.random.Generator) -> Images:
        """A changed copy of images [n, h, w, 3], of the same shape."""
        if self.zoom:
            images = _zoomed(images, self.zoom, random)
        changed = _shifted(images, images.shape[1] // 8 if self.pad is None else self.pad, random)
        if self.flip:
            mirrored = random.integers(0, 2, len(changed)).astype(bool)
            changed[mirrored] = changed[mirrored, :, ::-1]
        if self.cutout:
            changed[_squares(changed.shape[:3], self.cutout, random)] = GREY
        return changed


def papers(side: int, *, flip: bool) -> Augmentation:
    """The paper's, for images of this side: CIFAR's and Caltech's are padded by 4 pixels, cropped, flipped and cut out
    (16 x 16 of 32 x 32 pixels); of ImageNet's photographs a random crop is taken, as 224 pixels out of 256, and
    flipped."""
    if side >= PHOTOGRAPH_SIDE:
        return Augmentation(pad=0, flip=flip, zoom=1 / 8)
    return Augmentation(pad=PAPER_PAD, flip=flip, cutout=PAPER_CUTOUT)


def augment(images: Images, random: np.random.Generator, *, flip: bool) -> Images:
    """Each image shifted by up to an eighth of its side (the border reflected) and, with `flip`, mirrored at random."""
    return Augmentation(flip=flip)(images, random)


def _shifted(images: Images, pad: int, random: np.random.Generator) -> Images:
    """A copy, even where nothing is shifted."""
    if not pad:
        copied: Images = images.copy()
        return copied
    n, height, width = images.shape[:3]
    padded = np.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)), mode="symmetric")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(1, 2))
    top, left = random.integers(0, 2 * pad + 1, (2, n))
    # Indexing copied the windows, whose own axes come last.
    shifted: Images = windows[np.arange(n), top, left].transpose(0, 2, 3, 1)
    return shifted


def _zoomed(images: Images, zoom: float, random: np.random.Generator) -> Images:
    n, height, width = images.shape[:3]
    share = np.asarray(random.uniform(1 - zoom, 1, n))
    top, left = random.uniform(0, 1, (2, n)) * (1 - share)
    rows = _enlarged(images, height * top, share)
    columns = _enlarged(rows.transpose(0, 2, 1, 3), width * left, share)
    zoomed: Images = columns.transpose(0, 2, 1, 3)
    return zoomed


def _enlarged(images: Images, first: Floats, share: Floats) -> Images:
    """Along the first axis of each image, `share` of it from `first` on, linearly enlarged to the whole."""
    length = images.shape[1]
    places = first[:, None] + (np.arange(length) + 0.5) * share[:, None] - 0.5
    # In 256ths of a pixel, so that integers do the rest.
    fixed = np.clip(np.rint(places * 256), 0, (length - 1) * 256).astype(np.int64)
    low, part = fixed >> 8, (fixed & 255).astype(np.uint16)[:, :, None, None]
    each = np.arange(len(images))[:, None]
    before = images[each, low].astype(np.uint16)
    after = images[each, np.minimum(low + 1, length - 1)]
    # At most 256 * 255 + 128: it fits 16 bits.
    mixed: Images = ((before * (256 - part) + after * part + 128) >> 8).astype(np.uint8)
    return mixed


def _squares(shape: tuple[int, ...], side: int, random: np.random.Generator) -> npt.NDArray[np.bool_]:
    """A mask [n, h, w] with one square each."""
    n, height, width = shape
    first_row = random.integers(0, height, (n, 1)) - side // 2
    first_column = random.integers(0, width, (n, 1)) - side // 2
    rows = np.arange(height) - first_row
    columns = np.arange(width) - first_column
    inside_rows, inside_columns = (rows >= 0) & (rows < side), (columns >= 0) & (columns < side)
    mask: npt.NDArray[np.bool_] = inside_rows[:, :, None] & inside_columns[:, None, :]
    return mask
