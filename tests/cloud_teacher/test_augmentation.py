from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloud_teacher.augmentation import GREY, Augmentation, augment, papers

QUIET = {"pad": 0, "flip": False}


def noise(n: int = 6, height: int = 16, width: int = 16) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, height, width, 3), np.uint8)


@settings(deadline=None, max_examples=60)
@given(
    st.builds(Augmentation, st.none() | st.integers(0, 9), st.booleans(), st.integers(0, 40), st.floats(0, 0.9)),
    st.integers(1, 5),
    st.integers(1, 20),
    st.integers(1, 20),
    st.integers(0, 99),
)
def test_shape_and_type_stay_and_only_the_generator_decides(
    augmentation: Augmentation, n: int, height: int, width: int, seed: int
) -> None:
    images = noise(n, height, width)
    before = images.copy()
    changed = augmentation(images, np.random.default_rng(seed))
    assert changed.shape == images.shape and changed.dtype == np.uint8
    assert np.array_equal(images, before), "the images themselves must not change"
    assert np.array_equal(changed, augmentation(images, np.random.default_rng(seed)))


def test_doing_nothing_gives_a_copy() -> None:
    images = noise()
    same = Augmentation(**QUIET)(images, np.random.default_rng(0))
    assert np.array_equal(same, images) and not np.shares_memory(same, images)


def test_mirroring_takes_about_half() -> None:
    images = noise(400)
    changed = Augmentation(pad=0)(images, np.random.default_rng(0))
    kept = (changed == images).all(axis=(1, 2, 3))
    mirrored = (changed == images[:, :, ::-1]).all(axis=(1, 2, 3))
    assert (kept ^ mirrored).all() and 150 < mirrored.sum() < 250


def test_shifts_go_up_to_the_pad_and_no_further() -> None:
    image = np.arange(16, dtype=np.uint8)[None, :, None, None] * 10 + np.zeros((500, 16, 16, 3), np.uint8)
    changed = Augmentation(pad=2, flip=False)(image, np.random.default_rng(0))
    assert set(changed[:, 8, 0, 0].tolist()) == {60, 70, 80, 90, 100}


def test_cutout_paints_one_square_that_the_border_may_cut() -> None:
    changed = Augmentation(**QUIET, cutout=6)(np.zeros((500, 16, 16, 3), np.uint8), np.random.default_rng(0))
    for image in changed:
        rows, columns = np.nonzero((image == GREY).all(axis=2))
        assert len(rows) == (np.ptp(rows) + 1) * (np.ptp(columns) + 1), "a filled rectangle"
        assert 3 <= np.ptp(rows) + 1 <= 6 and 3 <= np.ptp(columns) + 1 <= 6
    hidden = (changed == GREY).all(axis=3).mean(axis=0)
    assert hidden[5:11, 5:11].min() > 0.08 and hidden.max() < 0.2, "anywhere, about 6 * 6 of 16 * 16 pixels"


def test_zooming_enlarges_a_window_of_the_image() -> None:
    """On a ramp, a window of half to all of the side still is a ramp, half to fully as steep, somewhere on it."""
    ramp = np.repeat(np.linspace(0, 255, 64).round().astype(np.uint8)[None, None, :, None], 3, axis=3)
    images = np.broadcast_to(ramp, (200, 64, 64, 3))
    changed = Augmentation(**QUIET, zoom=0.5)(images, np.random.default_rng(0)).astype(int)
    span = changed[:, 0, -1, 0] - changed[:, 0, 0, 0]
    assert 120 <= span.min() < 150 and 230 < span.max() <= 255
    assert changed[:, 0, 0, 0].max() > 60, "windows start anywhere"
    assert np.diff(changed[:, 0, :, 0], axis=1).min() >= 0
    assert np.array_equal(changed[:, :1].repeat(64, axis=1), changed), "rows were equal and stay so"


def test_zooming_by_nothing_changes_nothing() -> None:
    images = noise()
    assert np.array_equal(Augmentation(**QUIET, zoom=1e-9)(images, np.random.default_rng(0)), images)


def test_the_papers_own() -> None:
    assert papers(32, flip=True) == Augmentation(pad=4, flip=True, cutout=16)
    assert papers(224, flip=True) == Augmentation(pad=0, flip=True, zoom=0.125)
    assert not papers(32, flip=False).flip


def test_augment_is_the_default_augmentation() -> None:
    for flip in (True, False):
        default = Augmentation(flip=flip)(noise(), np.random.default_rng(3))
        assert np.array_equal(augment(noise(), np.random.default_rng(3), flip=flip), default)


@pytest.mark.parametrize("wrong", [{"pad": -1}, {"cutout": -1}, {"zoom": 1.0}, {"zoom": -0.1}])
def test_what_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        Augmentation(**wrong)  # type: ignore[arg-type]
