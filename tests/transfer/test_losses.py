from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from transfer.losses import j1, j3, jb, pooled, unit
from transfer.pairing import scatter

torch.set_num_threads(1)

shapes = st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 4), st.integers(1, 4))


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_j1_is_the_mean_distance_of_the_logits() -> None:
    student, teacher = torch.tensor([[0.0, 0.0], [1.0, 1.0]]), torch.tensor([[3.0, 4.0], [1.0, 1.0]])
    assert j1(student, teacher).item() == pytest.approx(2.5, abs=1e-3)


@settings(deadline=None)
@given(shapes, st.integers(0, 4), st.integers(0, 100))
def test_jb_of_kept_channels_is_exactly_the_distance_of_the_padded_maps(
    shape: tuple[int, int, int, int], dropped: int, seed: int
) -> None:
    n, kept, height, width = shape
    channels = kept + dropped
    where = torch.randperm(channels, generator=torch.Generator().manual_seed(seed))[:kept].tolist()
    student, teacher = noise(n, kept, height, width, seed=seed), noise(n, channels, height, width, seed=seed + 1)
    padded = unit(scatter(student, where, channels))
    full = (unit(teacher) - padded).square().sum(dim=(1, 2, 3)).sqrt().mean()
    others = [channel for channel in range(channels) if channel not in where]
    residual = teacher[:, others].square().sum(dim=(1, 2, 3))
    assert jb(student, teacher[:, where], residual).item() == pytest.approx(full.item(), abs=2e-4)


def test_jb_follows_the_cosine() -> None:
    student, teacher = noise(6, 3, 4, 4), noise(6, 3, 4, 4, seed=1)
    cosine = (unit(student) * unit(teacher)).sum(dim=(1, 2, 3))
    assert jb(student, teacher, torch.zeros(6)).item() == pytest.approx((2 - 2 * cosine).sqrt().mean().item(), abs=1e-4)


def test_slopes_are_finite_where_student_and_teacher_agree() -> None:
    maps, logits = noise(2, 3, 4, 4).requires_grad_(), noise(2, 5).requires_grad_()
    (jb(maps, maps.detach(), torch.zeros(2)) + j1(logits, logits.detach())).backward()
    assert maps.grad is not None and torch.isfinite(maps.grad).all()
    assert logits.grad is not None and torch.isfinite(logits.grad).all()


def test_a_silent_map_costs_a_finite_amount() -> None:
    silent = torch.zeros(2, 3, 4, 4, requires_grad=True)
    loss = jb(silent, torch.zeros(2, 3, 4, 4), torch.zeros(2)) + jb(silent, noise(2, 3, 4, 4), torch.ones(2))
    loss.backward()
    assert torch.isfinite(loss) and silent.grad is not None and torch.isfinite(silent.grad).all()


def test_j3_of_both_kinds() -> None:
    logits, targets = torch.tensor([[2.0, -1.0, 0.5]]), torch.tensor([0])
    p = torch.softmax(logits, dim=1)[0]
    assert j3(logits, targets).item() == pytest.approx(-p[0].log().item(), rel=1e-5)
    expected = -(p[0].log() + (1 - p[1]).log() + (1 - p[2]).log()).item()
    assert j3(logits, targets, "bce").item() == pytest.approx(expected, rel=1e-4)


def test_bce_is_finite_where_the_softmax_is_certain_and_wrong() -> None:
    logits = torch.tensor([[1000.0, 0.0]], requires_grad=True)
    loss = j3(logits, torch.tensor([1]), "bce")
    loss.backward()
    assert torch.isfinite(loss) and logits.grad is not None and torch.isfinite(logits.grad).all()


def test_pooling_averages_and_leaves_small_maps_alone() -> None:
    maps = noise(2, 3, 8, 8)
    assert torch.allclose(pooled(maps, 4)[:, :, 0, 0], maps[:, :, :2, :2].mean(dim=(2, 3)))
    assert torch.equal(pooled(maps, 16), maps)
