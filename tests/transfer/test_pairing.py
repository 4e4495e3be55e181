from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from transfer import pairing

torch.set_num_threads(1)


def maps(n: int, channels: int, seed: int) -> torch.Tensor:
    return torch.rand(n, channels, 4, 4, generator=torch.Generator().manual_seed(seed))


def test_tail_padding_puts_zeros_behind() -> None:
    padded = pairing.pad_tail(maps(2, 3, 0), 5)
    assert torch.equal(padded[:, :3], maps(2, 3, 0))
    assert not padded[:, 3:].any()


def test_scattering_puts_each_channel_where_it_came_from() -> None:
    whole = pairing.scatter(maps(2, 2, 0), [4, 1], 6)
    assert torch.equal(whole[:, 4], maps(2, 2, 0)[:, 0])
    assert torch.equal(whole[:, 1], maps(2, 2, 0)[:, 1])
    assert not whole[:, [0, 2, 3, 5]].any()


@pytest.mark.parametrize("kept", [[0], [0, 0], [0, 9], [-1, 0]])
def test_scattering_to_impossible_places_is_refused(kept: list[int]) -> None:
    with pytest.raises(ValueError, match="cannot be scattered"):
        pairing.scatter(maps(1, 2, 0), kept, 4)


@settings(deadline=None)
@given(st.integers(0, 1000), st.floats(0.01, 100))
def test_cosine_is_one_with_itself_at_any_scale_and_symmetric(seed: int, scale: float) -> None:
    one, other = maps(3, 4, seed), maps(3, 4, seed + 1)
    assert torch.allclose(pairing.cosine(one, one * scale), torch.ones(3), atol=1e-3)
    assert torch.allclose(pairing.cosine(one, other), pairing.cosine(other, one))


def test_the_most_similar_block_is_chosen_in_each_group() -> None:
    kept = [2, 0, 5]
    student = [maps(4, 3, 0), maps(4, 3, 1)]
    same = pairing.scatter(student[0], kept, 6) * 3
    teacher = [[maps(4, 6, 2), same, maps(4, 6, 3)], [pairing.pad_tail(student[1], 6), maps(4, 6, 4)]]
    assert pairing.per_batch(student, teacher, [kept, None]) == (1, 0)
    assert pairing.last(teacher) == (2, 1)


def test_calibration_counts_samples_not_batches() -> None:
    student = maps(9, 2, 0)
    right, wrong = student, student.flip(0, 2, 3) * torch.rand(9, 2, 4, 4, generator=torch.Generator().manual_seed(5))
    # Block 0 is better on the nine samples of one batch, block 1 on the single ones of two others.
    batches = [
        ([student], [[right, wrong]]),
        ([student[:1]], [[wrong[:1], right[:1]]]),
        ([student[1:2]], [[wrong[1:2], right[1:2]]]),
    ]
    votes = [pairing.per_batch(*batch, [None]) for batch in batches]
    assert pairing.histogram(votes)[0] == {0: 1, 1: 2}
    assert pairing.fixed(batches, [None]) == (0,)


def test_calibration_needs_a_batch() -> None:
    with pytest.raises(ValueError, match="at least one batch"):
        pairing.fixed([], [None])
