"""Torch-Pruning: DepGraph (Fang et al. 2023, arXiv 2301.12900) with its own importance, global, to the same size.

It prunes widths only, so its networks are as deep as the teacher. As it is meant to be used, its gradients are those of
the cross entropy on labelled images. Pruned in one go, as ours are; then trained by the same loop.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
import torch_pruning
from torch import Tensor, nn
from torch.nn import functional

from transfer.limit import Limit
from transfer.networks import Network, Outputs, count_parameters
from transfer.operations import Operation, Shortcut

STEPS = 400
"""Of equal shares of all channels; the last one taken undershoots the limit by less than such a share."""

Kind = Literal["taylor", "norm"]


@dataclass(frozen=True, eq=False)
class Pruned:
    """net: takes and gives what the network did. feature: which of the network's features are left, in order. macs: of
    one forward pass on one image."""

    net: nn.Module
    feature: tuple[int, ...]
    parameters: int
    macs: int


class Prunable(Network):
    """The network, its parameter-free shortcuts as 1x1 convolutions that start as the same function: DepGraph cannot
    follow channels through a slice and zeros whose numbers are fixed. They are counted like any projection."""

    def __init__(self, net: Network) -> None:
        super().__init__(net.spec)
        self.load_state_dict(net.state_dict())
        # A network calls what hangs under an operation's name, so a shortcut becomes one more module.
        for shortcut in (one for one in self.blueprint.operations if isinstance(one, Shortcut)):
            path, _, name = shortcut.name.rpartition(".")
            self.get_submodule(path).add_module(name, Projection(shortcut))

    def _made(self, operation: Operation, values: Mapping[str, Tensor]) -> Tensor:
        if isinstance(operation, Shortcut):
            made: Tensor = self.get_submodule(operation.name)(values[operation.source])
            return made
        return super()._made(operation, values)


class Projection(nn.Module):
    def __init__(self, shortcut: Shortcut) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(shortcut.stride, ceil_mode=True) if shortcut.by == "mean" else nn.Identity()
        stride = 1 if shortcut.by == "mean" else shortcut.stride
        self.conv = nn.Conv2d(shortcut.channels_in, shortcut.channels_out, 1, stride, bias=False)
        with torch.no_grad():
            self.conv.weight.zero_()
            for channel in range(shortcut.kept):
                self.conv.weight[channel + shortcut.padding[0], channel] = 1

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.conv(self.pool(x))
        return made


def pruned(net: Network, images: Tensor, targets: Tensor, limit: Limit, kind: Kind = "taylor") -> Pruned:
    """`net` without the channels that DepGraph finds least important. `images` [n, 3, h, w] normalised, `targets` [n]:
    what it computes its gradients on. Raises ValueError where the limit is below what it can reach."""
    small = Prunable(net).eval()
    example = images[:1]
    importance = {
        "taylor": torch_pruning.importance.GroupTaylorImportance,
        "norm": torch_pruning.importance.GroupMagnitudeImportance,
    }[kind]()
    pruner = torch_pruning.pruner.BasePruner(
        small,
        example,
        importance=importance,
        global_pruning=True,
        pruning_ratio=1.0,
        iterative_steps=STEPS,
        ignored_layers=[small.last_linear],
        output_transform=_logits,
    )
    _accumulate_gradients(small, images, targets)
    for _ in range(STEPS):
        if _size(small, example, limit) <= limit.most:
            break
        pruner.step()
    else:
        raise ValueError(f"DepGraph reaches no network of only {limit}")
    small.zero_grad(set_to_none=True)
    for projection in small.modules():
        if isinstance(projection, Projection):
            # Not trained: without a batch norm behind them they diverge at rates that suit everything else.
            projection.requires_grad_(False)
    image = (images.shape[2], images.shape[3])
    size = Limit(limit.most, image)
    return Pruned(small, _left(net, small), count_parameters(small), _size(small, example, size))


def _logits(outputs: Outputs) -> Tensor:
    return outputs.logits


def _accumulate_gradients(net: nn.Module, images: Tensor, targets: Tensor) -> None:
    net.zero_grad()
    for some, wanted in zip(torch.split(images, 32), torch.split(targets, 32), strict=True):
        loss = functional.cross_entropy(net(some).logits, wanted, reduction="sum") / len(images)
        loss.backward()  # type: ignore[no-untyped-call]


def _size(net: nn.Module, example: Tensor, limit: Limit) -> int:
    """Parameters, or multiply-accumulates of convolutions and linear layers, whichever the limit is about."""
    if limit.image is None:
        return count_parameters(net)
    total = 0

    def count(module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        weight = module.get_parameter("weight")
        total += math.prod(output.shape[2:]) * weight.numel()

    layers = [module for module in net.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    handles = [layer.register_forward_hook(count) for layer in layers]
    with torch.no_grad():
        net(example)
    for handle in handles:
        handle.remove()
    return total


def _left(net: Network, small: Network) -> tuple[int, ...]:
    """The features that are left. DepGraph copies what it leaves as it is, so they are told by the columns of the last
    layer or, where hidden layers come before that (VGG), by the biases of the last convolution."""
    hidden = net.spec.family == "vgg" and bool(net.spec.details.hidden)
    name = f"{net.last_convolutions()[-1]}.bias" if hidden else f"{net.blueprint.logits}.weight"
    before, after = (one.get_parameter(name).transpose(0, -1) for one in (net, small))
    found: list[int] = []
    for mark in after:
        at = found[-1] + 1 if found else 0
        while not torch.equal(before[at], mark):
            at += 1
        found.append(at)
    return tuple(found)
