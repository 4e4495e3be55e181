"""A network with its batch norms folded into the convolutions before them: the same outputs, sooner.

What trains is the network it came from: the weights that move stay those of the unfolded network, under the names that
bundles have for them.
"""

from __future__ import annotations

import copy
from collections import Counter

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from transfer.networks import Network, place
from transfer.operations import Blueprint, Conv, Norm, sources


def folded(net: Network) -> Network:
    """A twin of `net` in evaluation mode, laid out as CPUs convolve fastest (channels last in memory).

    It shares the parameters of convolutions and linear layers that require a gradient: a step on them is a step of
    both. All else is copied as it is now, and a batch norm that follows no convolution stays one.
    """
    twin = copy.deepcopy(net).eval().requires_grad_(False)
    norm_of = _norms_behind_convolutions(net.blueprint)
    for name, norm_name in norm_of.items():
        convolution, norm = twin.get_submodule(name), twin.get_submodule(norm_name)
        assert isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
        place(twin, name, fuse_conv_bn_eval(convolution, norm))
        place(twin, norm_name, nn.Identity())
    twin.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear) and module.weight.requires_grad:
            place(twin, name, _Scaled(module, net.get_submodule(norm_of[name])) if name in norm_of else module)
    return twin


def _norms_behind_convolutions(drawn: Blueprint) -> dict[str, str]:
    """By the convolution's name, that of the batch norm which alone takes what it makes."""
    takers = Counter(name for operation in drawn.operations for name in sources(operation))
    convolutions = {operation.name for operation in drawn.operations if isinstance(operation, Conv)}
    norms = (operation for operation in drawn.operations if isinstance(operation, Norm))
    return {norm.source: norm.name for norm in norms if norm.source in convolutions and takers[norm.source] == 1}


class _Scaled(nn.Module):
    """A convolution that trains and the frozen batch norm behind it. The norm's scale is multiplied into the weight at
    every pass: next to nothing, beside the map that it would be multiplied into."""

    scale: Tensor
    offset: Tensor

    def __init__(self, convolution: nn.Module, norm: nn.Module) -> None:
        super().__init__()
        assert isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
        assert norm.running_mean is not None and norm.running_var is not None
        self.convolution = convolution
        with torch.no_grad():
            scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
            self.register_buffer("scale", scale[:, None, None, None])
            self.register_buffer("offset", norm.bias - norm.running_mean * scale)

    def forward(self, x: Tensor) -> Tensor:
        taken = self.convolution
        offset = self.offset if taken.bias is None else self.offset + taken.bias * self.scale.flatten()
        return functional.conv2d(x, taken.weight * self.scale, offset, taken.stride, taken.padding)
