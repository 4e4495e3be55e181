from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transfer.four_bits import LEVELS, pack, packed_bytes, unpack

SHAPES = st.tuples(st.integers(1, 7), st.integers(1, 3), st.integers(1, 3))


@settings(deadline=None)
@given(SHAPES, st.integers(0, 99), st.sampled_from([1.0, 1e-3]), st.booleans())
def test_a_value_comes_back_within_half_a_step(
    shape: tuple[int, int, int], seed: int, loudness: float, signed: bool
) -> None:
    random = np.random.default_rng(seed)
    maps = (loudness * random.normal(0 if signed else 0.5, 0.3, (3, 2, *shape))).clip(
        -loudness if signed else 0, loudness
    )
    packed, ranges = pack(maps.astype(np.float32))
    assert packed.shape == (3, 2, packed_bytes(shape)) and ranges.dtype == np.float16
    spread = maps.max(axis=(2, 3, 4), keepdims=True) - maps.min(axis=(2, 3, 4), keepdims=True)
    # Half a step, and what the range itself loses as float16.
    most = spread / (LEVELS - 1) / 2 + 2e-3 * loudness
    assert (np.abs(unpack(packed, ranges, shape) - maps) <= most).all()


def test_two_values_share_a_byte_the_first_in_its_low_half() -> None:
    maps = np.array([0, 15, 1], np.float32).reshape(1, 1, 3, 1, 1)
    packed, ranges = pack(maps)
    assert packed.tolist() == [[[0xF0, 0x01]]] and ranges.tolist() == [[[0, 1]]]
    np.testing.assert_array_equal(unpack(packed, ranges, (3, 1, 1)), maps)


def test_zeros_behind_a_relu_stay_zeros() -> None:
    maps = np.maximum(np.random.default_rng(0).normal(0, 1, (4, 1, 6, 2, 2)), 0).astype(np.float32)
    assert (unpack(*pack(maps), (6, 2, 2))[maps == 0] == 0).all()


@pytest.mark.parametrize("value", [0.0, 0.3, 0.2401, -0.7])
def test_an_even_map_stays_even(value: float) -> None:
    maps = np.full((2, 1, 3, 2, 2), value, np.float32)
    packed, ranges = pack(maps)
    assert (ranges[:, :, 1] >= 0).all()
    np.testing.assert_allclose(unpack(packed, ranges, (3, 2, 2)), maps, rtol=1e-3)
