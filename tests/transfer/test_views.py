from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transfer.views import view

IMAGE = np.arange(32 * 32 * 3, dtype=np.uint32).reshape(32, 32, 3).astype(np.uint8)


def test_view_zero_is_the_image() -> None:
    assert view(IMAGE, "a", 0) is IMAGE


def test_views_are_these_bytes_for_ever() -> None:
    """Both sides compute them separately, in versions of their own: a change here breaks every cached answer."""
    data = b"".join(view(IMAGE, "sample", index).tobytes() for index in range(1, 20))
    assert hashlib.sha256(data).hexdigest() == "25e8066ba32c82100c12694a66258e2f3e964d2931b5d1dfad09fbef077f2830"


@given(st.text(), st.integers(0, 2**40), st.booleans(), st.integers(1, 40), st.integers(1, 40), st.integers(0, 60))
@settings(deadline=None)
def test_a_view_holds_only_pixels_of_the_image(
    sample_id: str, index: int, flip: bool, height: int, width: int, pad: int
) -> None:
    image = IMAGE[:1].repeat(40, axis=0)[:height, :width] if height > 32 or width > 32 else IMAGE[:height, :width]
    got = view(image, sample_id, index, pad=pad, flip=flip)
    assert got.shape == image.shape
    assert got.dtype == np.uint8
    assert set(map(tuple, got.reshape(-1, 3))) <= set(map(tuple, image.reshape(-1, 3)))
    assert np.array_equal(got, view(image, sample_id, index, pad=pad, flip=flip))
    assert index == 0 or got.flags.c_contiguous


@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 12), st.integers(1, 60))
@settings(deadline=None)
def test_a_view_is_cut_from_the_image_with_a_symmetric_border(height: int, width: int, pad: int, index: int) -> None:
    image = IMAGE[:height, :width]
    whole = np.pad(image, ((pad, pad), (pad, pad), (0, 0)), mode="symmetric")
    cuts = {
        whole[top : top + height, left : left + width][:, ::step].tobytes()
        for top in range(2 * pad + 1)
        for left in range(2 * pad + 1)
        for step in (1, -1)
    }
    assert view(image, "a", index, pad=pad).tobytes() in cuts


def test_shifts_and_mirrors_are_evenly_spread() -> None:
    ramp = np.broadcast_to(np.arange(32, dtype=np.uint8)[None, :, None] * 7, (32, 32, 3))
    views = [view(ramp, "x", index) for index in range(1, 401)]
    mirrored = [bool(v[0, 10, 0] > v[0, 20, 0]) for v in views]
    assert 150 < sum(mirrored) < 250
    shifts = {int(v[0, 10, 0]) for v, m in zip(views, mirrored, strict=True) if not m}
    assert shifts == {7 * column for column in range(6, 15)}
    assert not any(v[0, 10, 0] > v[0, 20, 0] for v in (view(ramp, "x", index, flip=False) for index in range(1, 50)))


def test_without_padding_or_mirror_nothing_changes() -> None:
    assert np.array_equal(view(IMAGE, "a", 5, pad=0, flip=False), IMAGE)


def test_views_count_from_zero() -> None:
    with pytest.raises(ValueError, match="-1"):
        view(IMAGE, "a", -1)
