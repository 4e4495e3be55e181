from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_teacher.mixed_views import mixed, partners

NAMES = [f"image {number}" for number in range(400)]
DARK, LIGHT = np.full((400, 8, 8, 3), 40, np.uint8), np.full((400, 8, 8, 3), 200, np.uint8)


@given(st.integers(0, 60), st.integers(0, 50))
def test_everybody_is_somebody_s_partner_and_nobody_s_own(count: int, index: int) -> None:
    found = partners(NAMES[:count], index)
    assert sorted(found) == list(range(count))
    assert count < 2 or not (found == np.arange(count)).any()


def test_partners_depend_on_names_and_view_alone() -> None:
    found = partners(NAMES, 3)
    assert (found == partners(NAMES, 3)).all() and (found != partners(NAMES, 5)).any()
    order = np.random.default_rng(0).permutation(len(NAMES))
    again = partners([NAMES[at] for at in order], 3)
    assert [NAMES[at] for at in found[order]] == [NAMES[order[at]] for at in again]


def test_half_are_blended_and_half_hold_a_rectangle_of_the_other() -> None:
    views = mixed(DARK, LIGHT, NAMES, 1)
    values = [np.unique(view) for view in views]
    blended = [view for view, found in zip(views, values, strict=True) if len(found) == 1 and found[0] not in (40, 200)]
    pasted = [view for view, found in zip(views, values, strict=True) if list(found) == [40, 200]]
    assert len(blended) > 150 and len(pasted) > 150
    for view in pasted:
        rows, columns = np.nonzero(view[:, :, 0] == 200)
        assert (view[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] == 200).all()
    shares = np.array([view.mean() for view in views])
    assert abs(shares.mean() - 120) < 8 and shares.min() < 50 and shares.max() > 190


def test_they_are_the_same_for_the_same_names_and_leave_their_images_alone() -> None:
    before = DARK.copy()
    assert (mixed(DARK, LIGHT, NAMES, 1) == mixed(DARK, LIGHT, NAMES, 1)).all()
    assert (mixed(DARK, LIGHT, NAMES, 1) != mixed(DARK, LIGHT, NAMES, 3)).any()
    assert (mixed(DARK[:9], LIGHT[:9], NAMES[:9], 1) == mixed(DARK, LIGHT, NAMES, 1)[:9]).all()
    assert (before == DARK).all()


@pytest.mark.parametrize("value", [0, 1, 254, 255])
def test_equal_images_stay_what_they_are(value: int) -> None:
    same = np.full((400, 8, 8, 3), value, np.uint8)
    assert (mixed(same, same, NAMES, 1) == value).all()
