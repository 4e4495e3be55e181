from __future__ import annotations

import numpy as np
import pytest

from benchmarks.device import codings
from benchmarks.device.codings import Parts
from transfer.activations import Activations, encode

WRN = ((160, 32, 32), (320, 16, 16), (640, 8, 8))
STUDENT = (84, 169, 337)


def answer(n: int = 2) -> Activations:
    random = np.random.default_rng(0)
    return Activations(
        sample_ids=tuple(f"{index:064x}" for index in range(n)),
        labels=("a", "b", "c"),
        teacher="t",
        logits=random.normal(0, 1, (n, 1, 3)).astype(np.float32),
        maps={g: random.normal(0, 1, (n, 1, 5, 2, 2)).astype(np.float32) for g in (0, 2)},
        residuals={g: np.ones((n, 1), np.float32) for g in (0, 2)},
    )


def test_all_twelve_blocks_of_wrn_28_10_are_four_and_a_half_megabytes() -> None:
    every = [shape for shape in WRN for _ in range(4)]
    assert codings.every_block(every, 10, 4) == Parts(maps=4_587_520, logits=40)
    assert codings.every_block(every, 10, 2).maps == 2_293_760


def test_its_kept_channels_by_4_x_4_as_int8_are_nine_kilobytes() -> None:
    assert codings.pooled(WRN, STUDENT, 10, side=4, bits=8) == Parts(maps=9440, logits=20, scales=24)
    assert codings.pooled(WRN, STUDENT, 10, side=2, bits=4).maps == 1180
    assert codings.kept_channels(WRN, STUDENT, 10).maps == 4 * (84 * 1024 + 169 * 256 + 337 * 64)


def test_maps_smaller_than_the_side_are_not_blown_up() -> None:
    assert codings.pooled([(8, 2, 2)], [8], 10, side=4, bits=8).maps == 32


def test_an_answer_is_taken_apart_without_a_byte_left_over() -> None:
    data = encode(answer())
    parts = codings.shipped(data)
    # Two images; in two groups 20 values of half a byte and a range of four bytes each; three logits.
    assert (parts.maps, parts.scales, parts.logits) == (2 * 2 * 10, 2 * 2 * 4, 2 * 3 * 2)
    assert parts.all == len(data) and parts.names > 64
    assert parts.times(0.5).all == pytest.approx(len(data) / 2)


def test_int8_rounds_to_steps_of_the_largest_value() -> None:
    before = answer()
    after = codings.as_int8(before)
    step = np.abs(before.maps[0]).max(axis=(2, 3, 4), keepdims=True) / 127
    assert not np.array_equal(after.maps[0], before.maps[0])
    assert (np.abs(after.maps[0] - before.maps[0]) <= step * 0.51).all()
    assert after.maps[0].dtype == np.float32 and np.array_equal(after.logits, before.logits)


def test_a_silent_map_survives_int8() -> None:
    silent = answer()
    silent.maps[0][:] = 0
    assert not codings.as_int8(silent).maps[0].any()


def test_without_maps_the_logits_stay() -> None:
    bare = codings.without_maps(answer())
    assert bare.maps == {} and bare.residuals == {} and np.array_equal(bare.logits, answer().logits)
