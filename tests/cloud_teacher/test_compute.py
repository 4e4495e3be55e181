from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from cloud_teacher import compute


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_weights_and_losses_stay_float32(one_thread: None) -> None:
    layer = torch.nn.Conv2d(3, 4, 3).to(compute.device())
    with compute.rounded():
        out = layer(torch.ones(1, 3, 8, 8, device=compute.device()))
    assert out.dtype is (torch.bfloat16 if compute.has_bfloat16() else torch.float32)
    out.float().sum().backward()
    assert layer.weight.grad is not None and layer.weight.grad.dtype is torch.float32


@pytest.mark.skipif(compute.device().type != "cpu", reason="there is a GPU: threads do not matter")
@pytest.mark.parametrize("tiles", [False, True])
def test_several_threads_round_only_what_needs_no_gradient_where_there_are_tiles(
    one_thread: None, tiles: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compute, "has_tiles", lambda: tiles)
    torch.set_num_threads(2)
    layer, images = torch.nn.Conv2d(3, 4, 3), torch.ones(1, 3, 8, 8)
    rounded = torch.bfloat16 if compute.has_bfloat16() else torch.float32
    with compute.rounded():
        assert layer(images).dtype is (torch.float32 if tiles else rounded)
    with torch.no_grad(), compute.rounded():
        assert layer(images).dtype is rounded


def test_the_device_is_one_that_is_there() -> None:
    torch.ones(1, device=compute.device())
