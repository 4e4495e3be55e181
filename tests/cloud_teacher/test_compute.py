from __future__ import annotations

import torch

from cloud_teacher import compute


def test_weights_and_losses_stay_float32() -> None:
    layer = torch.nn.Conv2d(3, 4, 3).to(compute.device())
    with compute.rounded():
        out = layer(torch.ones(1, 3, 8, 8, device=compute.device()))
    assert out.dtype is (torch.bfloat16 if compute.has_bfloat16() else torch.float32)
    out.float().sum().backward()
    assert layer.weight.grad is not None and layer.weight.grad.dtype is torch.float32


def test_the_device_is_one_that_is_there() -> None:
    torch.ones(1, device=compute.device())
