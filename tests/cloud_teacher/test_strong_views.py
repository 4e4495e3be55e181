from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud_teacher import strong_views as module
from cloud_teacher.strong_views import strong_views

STEPS = ("_blended", "_pasted", "_cut_up", "_blurred", "_coloured")


def pictures(count: int, height: int = 16, width: int = 16, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 9), st.integers(2, 20), st.integers(2, 20), st.integers(0, 2**32))
def test_any_batch_keeps_its_shape_and_is_left_as_it_was(count: int, height: int, width: int, seed: int) -> None:
    images = pictures(count, height, width)
    before = images.copy()
    views = strong_views(images, np.random.default_rng(seed))
    assert views.shape == images.shape and views.dtype == np.uint8
    assert np.array_equal(images, before)


def test_the_same_seed_gives_the_same_views_and_another_seed_others() -> None:
    images = pictures(8)
    first, again, other = (strong_views(images, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert (first != other).mean() > 0.5


def test_one_picture_gives_views_that_differ() -> None:
    views = strong_views(np.repeat(pictures(1), 32, axis=0), np.random.default_rng(0))
    assert len({view.tobytes() for view in views}) == 32


@pytest.mark.parametrize("step", STEPS)
def test_every_step_changes_some_views_and_leaves_others(step: str) -> None:
    views = pictures(64).astype(np.float32)
    changed = np.abs(getattr(module, step)(views, np.random.default_rng(1)) - views).max(axis=(1, 2, 3)) > 1e-2
    assert 0 < changed.sum() < len(views)


def test_sampling_at_the_pixels_themselves_returns_the_image_and_beyond_it_its_mirror() -> None:
    images = pictures(2, 5, 6)
    rows, columns = np.meshgrid(np.arange(5.0), np.arange(6.0), indexing="ij")
    rows, columns = np.stack([rows, rows]), np.stack([columns, columns])
    assert np.array_equal(module._sampled(images, rows, columns), images.astype(np.float32))
    beyond = module._sampled(images, rows + 5, columns)
    assert np.array_equal(beyond, images[:, ::-1].astype(np.float32))


def test_an_even_image_stays_even_until_it_is_coloured() -> None:
    """Windows, pieces and neighbours of one colour are that colour: no border of another shows."""
    even = np.full((16, 8, 8, 3), 77, np.uint8)
    views = module._window(even, np.random.default_rng(0))
    for step in STEPS[:-1]:
        views = getattr(module, step)(views, np.random.default_rng(0))
    assert np.allclose(views, 77, atol=1e-3)
