"""The networks, in torch. Names and shapes of their state dict are those of `transfer.spec.weight_shapes`."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from transfer.spec import BlockSpec, NetSpec, PlacedBlock, weight_shapes


class WeightsError(ValueError):
    """Weights that are no network of ours; the message says what is wrong with them."""


class Outputs(NamedTuple):
    """logits [n, C]; feature [n, D], the mean over the last block's map; blocks[group][position] [n, out, h, w], after
    their ReLU."""

    logits: Tensor
    feature: Tensor
    blocks: list[list[Tensor]]


class Block(nn.Module):
    """Two 3x3 convolutions with batch norm, added to a shortcut without parameters (He et al. 2016, option A)."""

    def __init__(self, placed: PlacedBlock) -> None:
        super().__init__()
        self.placed = placed
        self.conv1 = _convolution(placed.channels_in, placed.mid, placed.stride)
        self.bn1 = nn.BatchNorm2d(placed.mid)
        self.conv2 = _convolution(placed.mid, placed.out, 1)
        self.bn2 = nn.BatchNorm2d(placed.out)

    def forward(self, x: Tensor) -> Tensor:
        inner = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(inner)) + self.shortcut(x))

    def shortcut(self, x: Tensor) -> Tensor:
        """Every stride-th pixel; channels dropped at the end or filled up with zeros on both sides."""
        stride, (before, after) = self.placed.stride, self.placed.padding
        return functional.pad(x[:, : self.placed.kept, ::stride, ::stride], (0, 0, 0, 0, before, after))


class ResNet(nn.Module):
    """A CIFAR-type residual network after `spec`. Takes normalised images float32 NCHW."""

    def __init__(self, spec: NetSpec) -> None:
        super().__init__()
        self.spec = spec
        self.conv1 = _convolution(3, spec.stem_width, spec.stem_stride)
        self.bn1 = nn.BatchNorm2d(spec.stem_width)
        groups: list[list[Block]] = [[] for _ in spec.groups]
        for placed in spec.placed():
            groups[placed.group].append(Block(placed))
        self.groups = [f"layer{number}" for number in range(1, len(groups) + 1)]
        for name, blocks in zip(self.groups, groups, strict=True):
            self.add_module(name, nn.ModuleList(blocks))
        self.linear = nn.Linear(spec.feature_width, spec.classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Outputs:
        x = functional.relu(self.bn1(self.conv1(x)))
        outputs: list[list[Tensor]] = []
        for name in self.groups:
            outputs.append([])
            for block in self.get_submodule(name).children():
                x = block(x)
                outputs[-1].append(x)
        feature = x.mean(dim=(2, 3))
        return Outputs(self.linear(feature), feature, outputs)


def build(spec: NetSpec, weights: Mapping[str, npt.NDArray[np.float32]]) -> ResNet:
    """The network with these weights (names and shapes of `weight_shapes`), in evaluation mode. Raises WeightsError."""
    if {name: array.shape for name, array in weights.items()} != weight_shapes(spec):
        raise WeightsError("the weights' names or shapes do not fit the network")
    net = ResNet(spec)
    state = {name: torch.from_numpy(np.array(array, np.float32)) for name, array in weights.items()}
    net.load_state_dict(state, strict=False)  # not strict: batch counters, which nothing reads, are not in bundles
    return net.eval()


def weights_of(net: ResNet) -> dict[str, npt.NDArray[np.float32]]:
    """A copy of the network's weights, as bundles and `transfer.graph` take them."""
    state = net.state_dict()
    return {name: state[name].detach().cpu().numpy().astype(np.float32) for name in weight_shapes(net.spec)}


def load_published(path: Path) -> tuple[NetSpec, dict[str, npt.NDArray[np.float32]]]:
    """The network and weights in a checkpoint of pytorch_resnet_cifar10 (`{"state_dict": {"module....": ...}}`).

    Only tensors are unpickled, never code. Raises WeightsError.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise WeightsError(f"{path} is no torch checkpoint of tensors: {error}") from error
    state = checkpoint.get("state_dict", checkpoint) if isinstance(checkpoint, dict) else {}
    weights = {
        str(name).removeprefix("module."): value.float().numpy()
        for name, value in state.items()
        if isinstance(value, Tensor) and not str(name).endswith("num_batches_tracked")
    }
    try:
        spec = _spec_of({name: array.shape for name, array in weights.items()})
    except (KeyError, IndexError, ValueError) as error:
        raise WeightsError(f"{path} holds no CIFAR-type residual network: {error!r}") from error
    if {name: array.shape for name, array in weights.items()} != weight_shapes(spec):
        raise WeightsError(f"{path} holds weights that do not fit together as a CIFAR-type residual network")
    return spec, weights


def count_parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def _spec_of(shapes: Mapping[str, tuple[int, ...]]) -> NetSpec:
    blocks: dict[int, dict[int, BlockSpec]] = {}
    for name in shapes:
        found = re.fullmatch(r"layer(\d+)\.(\d+)\.conv1\.weight", name)
        if found:
            group, position = int(found[1]), int(found[2])
            prefix = name.removesuffix("conv1.weight")
            block = BlockSpec(mid=shapes[name][0], out=shapes[f"{prefix}conv2.weight"][0])
            blocks.setdefault(group, {})[position] = block
    groups = tuple(tuple(row[position] for position in sorted(row)) for _, row in sorted(blocks.items()))
    return NetSpec(shapes["conv1.weight"][0], 1, groups, shapes["linear.weight"][0])


def _convolution(channels_in: int, channels_out: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False)
