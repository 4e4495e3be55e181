"""What is computed once says nearly what it would say if it were computed every time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.trainer import prefix
from agent.trainer.inputs import Inputs
from agent.trainer.prefix import Maps, Prefix
from agent.trainer.task import task_of
from transfer.folded import folded
from transfer.networks import build


def silent(done: int, total: int) -> None:
    pass


@pytest.mark.parametrize("group", [0, -1])
@pytest.mark.parametrize("kept", [True, False])
def test_over_the_prefix_the_network_says_nearly_the_same(
    prepared: Callable[..., Inputs], monkeypatch: pytest.MonkeyPatch, group: int, kept: bool
) -> None:
    read = prepared("sparse")
    net = build(read.model.manifest.net, read.model.weights())
    task = task_of(read, None)
    if not kept:
        monkeypatch.setattr(prefix, "MOST_BYTES", 1)
    begun = Prefix(folded(net), net.last_convolutions()[group], task, silent)
    batch = np.array([30, 0, 7, 7])
    with torch.no_grad():
        got, wanted = begun.outputs(batch), net(task.tensor(batch))
    off = 0.02 if kept else 1e-4
    for one, other in (
        (got.logits, wanted.logits),
        (got.feature, wanted.feature),
        (got.blocks[-1][-1], wanted.blocks[-1][-1]),
    ):
        torch.testing.assert_close(one, other, atol=off * float(other.abs().max()), rtol=0)
    assert [len(blocks) for blocks in got.blocks] == ([1, 1, 1] if group == 0 else [0, 0, 1])


def test_it_reports_how_far_it_is(prepared: Callable[..., Inputs], monkeypatch: pytest.MonkeyPatch) -> None:
    read = prepared("sparse")
    net = build(read.model.manifest.net, read.model.weights())
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(prefix, "AT_ONCE", 16)
    Prefix(net, net.last_convolutions()[-1], task_of(read, None), lambda done, total: told.append((done, total)))
    assert told == [(0, 36), (16, 36), (32, 36), (36, 36)]


@given(st.integers(0, 2**32 - 1), st.floats(1e-6, 1e6), st.booleans())
@settings(deadline=None, max_examples=30)
def test_maps_are_off_by_half_a_step_at_most(seed: int, size: float, rectified: bool) -> None:
    maps = size * torch.randn(5, 3, 4, 6, generator=torch.Generator().manual_seed(seed))
    maps = maps.relu() if rectified else maps
    kept = Maps(5, (3, 4, 6))
    kept.put(np.array([4, 0]), maps[[4, 0]])
    kept.put(np.array([1, 2, 3]), maps[1:4])
    taken = kept.take(np.arange(5))
    step = (maps.amax((2, 3), keepdim=True) - maps.amin((2, 3), keepdim=True)) / 255
    assert bool(((taken - maps).abs() <= step * 0.501 + size * 1e-6).all())
    assert taken.is_contiguous(memory_format=torch.channels_last)


def test_maps_of_one_value_come_back_as_they_were() -> None:
    maps = torch.tensor([0.0, -3.0, 7.0])[None, :, None, None].expand(2, 3, 4, 4)
    kept = Maps(2, (3, 4, 4))
    kept.put(np.array([0, 1]), maps)
    assert torch.equal(kept.take(np.array([1, 0])), maps)
