from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from transfer.preprocess import ImageError, decode_image, encode_png, fit, normalise
from transfer.spec import InputSpec

NOISE = np.random.default_rng(0).integers(0, 256, (48, 48, 3), np.uint8)
SPEC = InputSpec(8, 12, (0.5, 0.4, 0.3), (0.2, 0.25, 0.5))


def photo(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([y * 255 // height, x * 255 // width, (x + y) % 256], axis=2).astype(np.uint8)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(3))))
@settings(deadline=None, max_examples=30)
def test_png_is_lossless_both_ways(image: np.ndarray) -> None:
    assert np.array_equal(decode_image(encode_png(image)), image)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF"])
def test_every_format_is_read(kind: str) -> None:
    image = np.full((20, 30, 3), (200, 100, 50), np.uint8)
    got = decode_image(encoded(Image.fromarray(image), kind))
    assert got.shape == image.shape
    assert np.abs(got.astype(int) - image).max() <= 4


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    kind = "TIFF" if mode in ("CMYK", "YCbCr") else "PNG"
    got = decode_image(encoded(Image.new("RGB", (6, 5), "white").convert(mode), kind))
    assert got.shape == (5, 6, 3)
    assert got.min() >= 250


def test_transparency_shows_white_whatever_colour_lies_under_it() -> None:
    got = decode_image(encoded(Image.new("RGBA", (4, 4), (255, 0, 0, 0)), "PNG"))
    assert (got == 255).all()


def test_sixteen_bit_grey_keeps_its_upper_bits() -> None:
    got = decode_image(encoded(Image.fromarray(np.full((4, 4), 0x80FF, np.uint16)), "PNG"))
    assert (got == 0x80).all()


def test_exif_orientation_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: turn a quarter clockwise
    upright = decode_image(encoded(Image.fromarray(photo(40, 80)), "JPEG", exif=exif))
    assert upright.shape == (80, 40, 3)
    assert upright[0, -1].tolist() == pytest.approx(photo(40, 80)[0, 0].tolist(), abs=12)


def test_broken_exif_does_not_cost_the_picture() -> None:
    data = encoded(Image.new("RGB", (9, 7)), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert decode_image(data).shape == (7, 9, 3)


def test_a_big_jpeg_is_decoded_near_the_wanted_size() -> None:
    data = encoded(Image.fromarray(photo(1600, 2400)), "JPEG", quality=90)
    small = decode_image(data, near=(32, 32))
    assert 64 <= small.shape[0] <= 400
    spec = InputSpec(32, 32, (0, 0, 0), (1, 1, 1))
    difference = fit(small, spec).astype(int) - fit(decode_image(data), spec)
    assert np.abs(difference[:, :, :2]).max() <= 4  # the third channel is finer than the reduced picture can hold


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "empty"),
        (b"hello, this is a text file\n" * 20, "not_an_image"),
        (b"%PDF-1.7\n", "not_an_image"),
        (encode_png(NOISE)[:-200], "truncated"),
        (encoded(Image.fromarray(NOISE), "JPEG")[:-200], "truncated"),
        (encoded(Image.fromarray(NOISE), "GIF")[:-200], "truncated"),
        (encoded(Image.fromarray(NOISE), "TIFF")[:-200], "truncated"),
    ],
)
def test_bad_files_are_told_apart(data: bytes, code: str) -> None:
    with pytest.raises(ImageError) as caught:
        decode_image(data)
    assert caught.value.code == code


@pytest.mark.parametrize("side", [10_000, 60_000])
def test_a_bomb_is_refused_before_a_pixel_is_decoded(side: int) -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    # Its pixels are no zlib stream at all: any attempt to decode them would say "truncated".
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"boom") + chunk(b"IEND", b"")
    with pytest.raises(ImageError) as caught:
        decode_image(bomb)
    assert caught.value.code == "too_large"


JPEG, PNG = encoded(Image.fromarray(photo(24, 24)), "JPEG"), encode_png(photo(24, 24))


@given(st.sampled_from([JPEG, PNG]), st.data())
@settings(deadline=None, max_examples=150)
def test_damage_gives_an_image_or_an_image_error(good: bytes, data: st.DataObject) -> None:
    damaged = bytearray(good)
    for at in data.draw(st.lists(st.integers(0, len(good) - 1), max_size=8)):
        damaged[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(good)))
    try:
        image = decode_image(bytes(damaged[:cut]), max_pixels=1_000_000)
    except ImageError as error:
        assert error.code in {"empty", "truncated", "not_an_image", "too_large"}
    else:
        assert image.dtype == np.uint8 and image.shape[2] == 3


def test_fit_keeps_what_already_fits() -> None:
    image = photo(8, 12)
    assert fit(image, SPEC) is image


@given(st.integers(1, 90), st.integers(1, 90))
@settings(deadline=None, max_examples=60)
def test_fit_gives_the_size_from_any_size(height: int, width: int) -> None:
    assert fit(photo(height, width), SPEC).shape == (8, 12, 3)


def test_fit_cuts_the_centre() -> None:
    image = np.zeros((80, 240, 3), np.uint8)
    image[:, 60:180] = 255  # exactly the middle part with the aspect ratio 8:12
    got = fit(image, SPEC)
    assert (got[:, 1:-1] == 255).all()
    assert got.min() > 200  # the anti-aliasing filter of the outermost column looks a little over the edge


def test_normalise() -> None:
    images = np.stack([photo(8, 12), 255 - photo(8, 12)])
    expected = (images / 255 - SPEC.mean) / SPEC.std
    got = normalise(images, SPEC)
    assert got.dtype == np.float32
    assert np.allclose(got, expected, atol=1e-6)


def test_normalise_per_image() -> None:
    spec = InputSpec(8, 12, (0, 0, 0), (1, 1, 1), per_image=True)
    got = normalise(np.stack([photo(8, 12), np.full((8, 12, 3), 77, np.uint8)]), spec)
    assert got[0].mean() == pytest.approx(0, abs=1e-5)
    assert got[0].std() == pytest.approx(1, abs=1e-5)
    assert np.abs(got[1]).max() < 1e-3
    assert normalise(np.zeros((0, 8, 12, 3), np.uint8), spec).shape == (0, 8, 12, 3)


@pytest.mark.parametrize("per_image", [False, True])
def test_it_does_not_matter_how_images_lie_in_memory(per_image: bool) -> None:
    spec = InputSpec(8, 12, (0.5, 0.4, 0.3), (0.2, 0.25, 0.5), per_image=per_image)
    images = np.stack([photo(8, 12), 255 - photo(8, 12), NOISE[:8, :12]])
    mirrored = images[::-1, :, ::-1]
    got = normalise(mirrored, spec)
    assert got.flags.c_contiguous and np.array_equal(got, normalise(mirrored.copy(), spec))
    assert np.array_equal(mirrored, images[::-1, :, ::-1])


def test_normalise_wants_fitted_images() -> None:
    with pytest.raises(ValueError, match="fit"):
        normalise(photo(9, 9)[None], SPEC)


def test_what_is_no_image_does_not_make_pillow_load_all_its_plugins() -> None:
    code = (
        "import sys; from transfer.preprocess import ImageError, decode_image\n"
        "try: decode_image(b'no image ' * 99)\nexcept ImageError: print('PIL.PcxImagePlugin' in sys.modules)"
    )
    root = Path(__file__).resolve().parents[2]
    ran = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"
