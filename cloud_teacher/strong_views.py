"""Views that leave the categories of their images behind: from pictures of two things, pictures of nearly anything.

A student that is to follow its teacher on categories it will never be shown must be asked about more than its images
hold. One photograph, cut and coloured heavily, suffices to teach a small network most of what a large one knows (Asano
and Saeed 2021); mixing images fills the space between them (Beyer et al. 2022). Only numpy; all chance comes from the
generator, so the same seed gives the same views.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Images = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

WINDOW = (0.3, 1.6)
"""Side of the part that is seen, as a share of the image's own; beyond 1 the image repeats, mirrored at its edges."""
MOST_TURN = 0.5
MOST_SHEAR = 0.3
MIXED, PASTED, JIGSAW, BLURRED = 0.35, 0.35, 0.15, 0.15
"""Share of the views that are blended with another, hold a piece of another, are cut up, or lose their detail."""
COLOURED = 0.7
GREY = np.full((3, 3), 1 / 3, np.float32)


def strong_views(images: Images, random: np.random.Generator) -> Images:
    """One view of each image uint8 [n, h, w, 3], of the same size; it may hold parts of the others."""
    views = _window(images, random)
    views = _blended(views, random)
    views = _pasted(views, random)
    views = _cut_up(views, random)
    views = _blurred(views, random)
    views = _coloured(views, random)
    return np.clip(np.rint(views), 0, 255).astype(np.uint8)


def _some(count: int, share: float, random: np.random.Generator) -> npt.NDArray[np.int64]:
    return np.flatnonzero(random.random(count) < share)


def _window(images: Images, random: np.random.Generator) -> Floats:
    """A turned, sheared, stretched and maybe mirrored part of each image, by bilinear interpolation."""
    n, (height, width) = len(images), images.shape[1:3]
    size: Doubles = np.exp(random.uniform(np.log(WINDOW[0]), np.log(WINDOW[1]), n))
    stretch: Doubles = np.exp(random.uniform(-0.3, 0.3, n))
    turn = random.uniform(-MOST_TURN, MOST_TURN, n) * (random.random(n) < 0.5)
    shear = random.uniform(-MOST_SHEAR, MOST_SHEAR, n) * (random.random(n) < 0.5)
    mirror = np.where(random.random(n) < 0.5, -1.0, 1.0)
    # The centre stays where the part lies inside the image, or anywhere if it cannot.
    free = np.abs(1 - size) / 2
    centre: Doubles = 0.5 + random.uniform(-1, 1, (2, n)) * free
    y, x = np.meshgrid((np.arange(height) + 0.5) / height - 0.5, (np.arange(width) + 0.5) / width - 0.5, indexing="ij")
    x, y = x[None] * (mirror * size * stretch)[:, None, None], y[None] * (size / stretch)[:, None, None]
    x = x + shear[:, None, None] * y
    cos, sin = np.cos(turn)[:, None, None], np.sin(turn)[:, None, None]
    rows = (centre[0][:, None, None] + cos * y + sin * x) * height - 0.5
    columns = (centre[1][:, None, None] + cos * x - sin * y) * width - 0.5
    return _sampled(images, rows, columns)


def _sampled(images: Images, rows: Doubles, columns: Doubles) -> Floats:
    """The pixels at these places [n, h, w], in pixels from the first one's centre; outside, the image mirrored."""
    n, (height, width) = len(images), images.shape[1:3]
    top, left = np.floor(rows), np.floor(columns)
    down, right = (rows - top).astype(np.float32)[..., None], (columns - left).astype(np.float32)[..., None]
    flat = images.reshape(n * height * width, 3)
    first = (np.arange(n) * height * width)[:, None, None]

    def at(row: Doubles, column: Doubles) -> Floats:
        pixels: Floats = flat[first + _mirrored(row, height) * width + _mirrored(column, width)].astype(np.float32)
        return pixels

    one = np.float32(1)
    upper = at(top, left) * (one - right) + at(top, left + 1) * right
    lower = at(top + 1, left) * (one - right) + at(top + 1, left + 1) * right
    sampled: Floats = upper * (one - down) + lower * down
    return sampled


def _mirrored(places: Doubles, size: int) -> npt.NDArray[np.int64]:
    """0, 1, ... size - 1, size - 1, ... 1, 0, 0, 1, ..."""
    within = places.astype(np.int64) % (2 * size)
    mirrored: npt.NDArray[np.int64] = np.minimum(within, 2 * size - 1 - within)
    return mirrored


def _blended(views: Floats, random: np.random.Generator) -> Floats:
    """Some are the weighted mean of two (mixup, Zhang et al. 2018)."""
    chosen = _some(len(views), MIXED, random)
    others = random.permutation(len(views))[chosen]
    share = random.uniform(0.3, 0.7, (len(chosen), 1, 1, 1)).astype(np.float32)
    blended: Floats = views.copy()
    blended[chosen] = share * views[chosen] + (1 - share) * views[others]
    return blended


def _pasted(views: Floats, random: np.random.Generator) -> Floats:
    """Some hold a rectangle of another (cutmix, Yun et al. 2019)."""
    n, (height, width) = len(views), views.shape[1:3]
    chosen = _some(n, PASTED, random)
    others = random.permutation(n)[chosen]
    centre, half = random.random((2, len(chosen))), random.uniform(0.15, 0.4, (2, len(chosen)))
    inside = [
        np.abs((np.arange(size) + 0.5) / size - centre[axis][:, None]) < half[axis][:, None]
        for axis, size in enumerate((height, width))
    ]
    mask = inside[0][:, :, None, None] & inside[1][:, None, :, None]
    pasted: Floats = views.copy()
    pasted[chosen] = np.where(mask, views[others], views[chosen])
    return pasted


def _cut_up(views: Floats, random: np.random.Generator) -> Floats:
    """Some are four quarters in another order, each maybe mirrored."""
    height, width = views.shape[1] // 2, views.shape[2] // 2
    cut: Floats = views.copy()
    quarters = [np.s_[:height, :width], np.s_[:height, -width:], np.s_[-height:, :width], np.s_[-height:, -width:]]
    for row in _some(len(views), JIGSAW, random):
        for place, source in zip(quarters, random.permutation(4), strict=True):
            piece = views[row][quarters[source]]
            cut[row][place] = piece[:, ::-1] if random.random() < 0.5 else piece
    return cut


def _blurred(views: Floats, random: np.random.Generator) -> Floats:
    """Some lose their detail: the mean of each pixel and its neighbours."""
    chosen = _some(len(views), BLURRED, random)
    blurred: Floats = views.copy()
    padded = np.pad(views[chosen], ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    rows = (padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]) / 4
    blurred[chosen] = (rows[:, :, :-2] + 2 * rows[:, :, 1:-1] + rows[:, :, 2:]) / 4
    return blurred


def _coloured(views: Floats, random: np.random.Generator) -> Floats:
    """Channels exchanged, mixed, greyed or inverted; brighter or darker, with more or less contrast."""
    n = len(views)
    mix = np.tile(np.eye(3, dtype=np.float32), (n, 1, 1))
    exchanged = _some(n, 0.3, random)
    mix[exchanged] = random.permuted(mix[exchanged], axis=1)
    saturation = random.uniform(0.0, 1.6, (n, 1, 1)).astype(np.float32)
    mix = saturation * mix + (1 - saturation) * GREY
    mix[_some(n, 0.15, random)] *= -1
    gain = random.uniform(0.5, 1.5, (n, 1, 3)) * random.uniform(0.6, 1.4, (n, 1, 1))
    mix = (mix * gain).astype(np.float32)
    mix[_some(n, 1 - COLOURED, random)] = np.eye(3, dtype=np.float32)
    plain = (mix == np.eye(3)).all(axis=(1, 2))
    middle = views.mean(axis=(1, 2), keepdims=True)
    shift = np.where(plain[:, None], 0, random.normal(0, 30, (n, 1)) + random.normal(0, 15, (n, 3)))
    target = np.clip(middle[:, 0, 0] + shift, 0, 255).astype(np.float32)[:, None, :]
    flat = (views - middle).reshape(n, -1, 3)
    coloured: Floats = (flat @ mix + target).reshape(views.shape)
    return coloured
