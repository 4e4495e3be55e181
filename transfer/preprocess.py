"""From the bytes of an image file to what a network takes, the same on the device and in the cloud.

Images are uint8 [height, width, 3] RGB until `normalise`. Decoding trusts nothing: the declared size is checked
before a pixel is decoded, and whatever a damaged file provokes in the decoder becomes an `ImageError`.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from PIL import (
    Image,
    ImageOps,
    TiffImagePlugin,  # noqa: F401
    UnidentifiedImageError,
    WebPImagePlugin,  # noqa: F401
)

from transfer.spec import InputSpec

Pixels = npt.NDArray[np.uint8]

FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF")
# Pillow brings four of them along. For lack of one it would import all that there are, and keep them (2 MiB): hence the
# two plugins above.

# Pillow warns of bombs at its own limit; ours below is stricter and an error.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class ImageError(ValueError):
    """The bytes are no usable image. `code`: empty | truncated | not_an_image | too_large."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def decode_image(data: bytes, *, max_pixels: int = 50_000_000, near: tuple[int, int] | None = None) -> Pixels:
    """The whole first frame of a JPEG, PNG, BMP, WebP, GIF or TIFF as RGB, upright (EXIF), transparency over white.

    `near`=(height, width): the image is going to be `fit` to that size, so a much larger JPEG may be decoded at
    1/2, 1/4 or 1/8 of its size (never below twice `near`). Raises ImageError.
    """
    if not data:
        raise ImageError("empty", "the file is empty (0 bytes)")
    try:
        image: Image.Image = Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError("too_large", f"the image is larger than {max_pixels} pixels: {error}") from error
    except UnidentifiedImageError as error:
        raise ImageError("not_an_image", f"not an image in any of {', '.join(FORMATS)}") from error
    except Exception as error:  # decoders raise anything (struct.error, SyntaxError, KeyError, ...) on hostile headers
        raise ImageError("not_an_image", f"the image header cannot be read: {error}") from error

    width, height = image.size
    if width * height > max_pixels:
        raise ImageError("too_large", f"the image is {width} x {height}, more than {max_pixels} pixels")
    try:
        if near is not None:
            side = 2 * max(near)  # both directions: the image may still be turned by its EXIF orientation
            image.draft("RGB", (side, side))
        image.load()
        with contextlib.suppress(Exception):  # broken EXIF must not cost a good picture
            image = ImageOps.exif_transpose(image)
        return _rgb(image)
    except Exception as error:
        raise ImageError("truncated", f"the {image.format} image is truncated or damaged: {error}") from error


def _rgb(image: Image.Image) -> Pixels:
    if image.mode.startswith("I"):  # 16 bits a pixel: Pillow would clip where we want the upper 8 bits
        image = Image.fromarray((np.clip(np.asarray(image), 0, 0xFFFF) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.new("RGBA", layer.size, "white")
        image.alpha_composite(layer)
    return np.array(image.convert("RGB"))


def fit(image: Pixels, spec: InputSpec) -> Pixels:
    """The centre of `image` with the aspect ratio of `spec`, resized to it (bilinear, anti-aliased)."""
    height, width = _checked(image).shape[:2]
    if (height, width) == (spec.height, spec.width):
        return image
    scale = min(height / spec.height, width / spec.width)
    top, left = (height - scale * spec.height) / 2, (width - scale * spec.width) / 2
    box = (max(left, 0.0), max(top, 0.0), min(left + scale * spec.width, width), min(top + scale * spec.height, height))
    return np.array(Image.fromarray(image).resize((spec.width, spec.height), Image.Resampling.BILINEAR, box=box))


def normalise(images: Pixels, spec: InputSpec) -> npt.NDArray[np.float32]:
    """uint8 [n, h, w, 3] to the float32 [n, h, w, 3] that the network takes."""
    if images.dtype != np.uint8 or images.shape[1:] != (spec.height, spec.width, 3):
        raise ValueError(
            f"images are {images.dtype} {images.shape}; expected uint8 [n, {spec.height}, {spec.width}, 3]: `fit` first"
        )
    rows = images.reshape(len(images), spec.height, spec.width * 3).astype(np.float32)
    rows /= np.float32(255)
    if not spec.per_image:
        mean, std = _along_a_row(spec)
    else:
        mean = rows.mean(axis=(1, 2), keepdims=True)
        # An even image has no deviation: the floor keeps it at zeros instead of dividing by zero.
        std = np.maximum(rows.std(axis=(1, 2), keepdims=True), np.float32(1 / np.sqrt(spec.height * spec.width * 3)))
    rows -= mean
    rows /= std
    return rows.reshape(images.shape)


@lru_cache(maxsize=4)
def _along_a_row(spec: InputSpec) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Mean and deviation of every number in a row of pixels: numpy is ten times slower over three numbers at a time."""
    mean, std = np.asarray(spec.mean, np.float32), np.asarray(spec.std, np.float32)
    return np.tile(mean, spec.width), np.tile(std, spec.width)


def encode_png(image: Pixels) -> bytes:
    """A PNG that `decode_image` turns back into exactly these pixels."""
    file = io.BytesIO()
    Image.fromarray(_checked(image)).save(file, "PNG")
    return file.getvalue()


def _checked(image: Pixels) -> Pixels:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ValueError(f"image is {image.dtype} {image.shape}; expected uint8 [height, width, 3]")
    return image
