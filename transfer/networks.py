"""The networks, in torch: one module that runs any blueprint. Names and shapes of its state dict are those of
`transfer.spec.weight_shapes`."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from transfer.blueprint import blueprint, last_convolution, weight_shapes
from transfer.operations import (
    INPUT,
    Add,
    Conv,
    Dense,
    Flatten,
    Join,
    MaxPool,
    Mean,
    Norm,
    Operation,
    Relu,
    Shortcut,
    sources,
)
from transfer.published import spec_of
from transfer.spec import NetSpec


class WeightsError(ValueError):
    """Weights that are no network of ours; the message says what is wrong with them."""


class Outputs(NamedTuple):
    """logits [n, C]; feature [n, D], the mean over the last block's map and, in a network with cells, what an earlier
    one says; blocks[group][position] [n, out, h, w], after their ReLU."""

    logits: Tensor
    feature: Tensor
    blocks: list[list[Tensor]]


class Network(nn.Module):
    """The network of a spec. Takes normalised images float32 NCHW.

    Its modules are found under their names in the blueprint: `net.get_submodule("layer1.0.conv2")`.
    """

    def __init__(self, spec: NetSpec) -> None:
        super().__init__()
        self.spec = spec
        self.blueprint = blueprint(spec)
        self._made_at = {operation.name: at for at, operation in enumerate(self.blueprint.operations)}
        self._last_use = {name: at for at, op in enumerate(self.blueprint.operations) for name in sources(op)}
        for operation in self.blueprint.operations:
            module = _module(operation)
            if module is not None:
                place(self, operation.name, module)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Outputs:
        return self.after({INPUT: x}, 0)

    @property
    def last_linear(self) -> nn.Linear:
        """The layer that makes the logits."""
        layer = self.get_submodule(self.blueprint.logits)
        assert isinstance(layer, nn.Linear)
        return layer

    def last_convolutions(self) -> list[str]:
        """The names of the last convolution of each group's last block."""
        return [last_convolution(self.blueprint, group, -1) for group in range(len(self.spec.groups))]

    # -- in two parts, so that what does not change needs computing once ---------------------------------------------

    def prefix(self, name: str) -> tuple[int, tuple[str, ...]]:
        """Where the operation `name` stands, and the names of the tensors that are needed from there on."""
        position = self._made_at[name]
        made = (INPUT, *(operation.name for operation in self.blueprint.operations[:position]))
        return position, tuple(tensor for tensor in made if self._last_use.get(tensor, -1) >= position)

    def before(self, x: Tensor, position: int) -> dict[str, Tensor]:
        """Run the operations before `position`: the tensors, by name, that those from there on need."""
        values = {INPUT: x}
        self._run(values, 0, position, kept=frozenset())
        return {name: value for name, value in values.items() if self._last_use.get(name, -1) >= position}

    def after(self, values: Mapping[str, Tensor], position: int) -> Outputs:
        """Run the operations from `position` on. Of `blocks`, those that are computed there."""
        plan, computed = self.blueprint, dict(values)
        maps = [[name for name in group if self._made_at[name] >= position] for group in plan.blocks]
        kept = frozenset(name for group in maps for name in group) | {plan.feature, plan.logits}
        self._run(computed, position, len(plan.operations), kept)
        blocks = [[computed[name] for name in group] for group in maps]
        return Outputs(computed[plan.logits], computed[plan.feature], blocks)

    def _run(self, values: dict[str, Tensor], start: int, stop: int, kept: frozenset[str]) -> None:
        """Tensors that nobody takes any more are let go, so that memory does not grow with the depth."""
        for at in range(start, stop):
            operation = self.blueprint.operations[at]
            values[operation.name] = self._made(operation, values)
            for name in sources(operation):
                if self._last_use[name] == at and name not in kept:
                    del values[name]

    def _made(self, operation: Operation, values: Mapping[str, Tensor]) -> Tensor:
        if isinstance(operation, Add):
            return values[operation.a] + values[operation.b]
        if isinstance(operation, Join):
            return torch.cat([values[operation.a], values[operation.b]], dim=1)
        x = values[operation.source]
        if isinstance(operation, Relu):
            return functional.relu(x)
        if isinstance(operation, Shortcut):
            return _shortcut(operation, x)
        if isinstance(operation, MaxPool):
            return functional.max_pool2d(x, operation.kernel, operation.stride, operation.padding)
        if isinstance(operation, Mean):
            return _mean(operation, x)
        if isinstance(operation, Flatten):
            return functional.adaptive_avg_pool2d(x, operation.side).flatten(1)
        made: Tensor = self.get_submodule(operation.name)(x)
        return made


def _module(operation: Operation) -> nn.Module | None:
    """The torch module of an operation that has weights."""
    if isinstance(operation, Conv):
        kernel, edge = operation.kernel, operation.kernel // 2
        return nn.Conv2d(
            operation.channels_in, operation.channels_out, kernel, operation.stride, edge, bias=operation.bias
        )
    if isinstance(operation, Norm):
        return nn.BatchNorm2d(operation.channels)
    if isinstance(operation, Dense):
        return nn.Linear(operation.width_in, operation.width_out)
    return None


def place(root: nn.Module, name: str, module: nn.Module) -> None:
    """Hang the module under its dotted name."""
    *path, last = name.split(".")
    for part in path:
        if part not in dict(root.named_children()):
            root.add_module(part, nn.Module())
        root = root.get_submodule(part)
    root.add_module(last, module)


def _mean(mean: Mean, x: Tensor) -> Tensor:
    if mean.cells == 1:
        return x.mean(dim=(2, 3))
    return functional.adaptive_avg_pool2d(x, mean.cells).permute(0, 2, 3, 1).flatten(1)


def _shortcut(shortcut: Shortcut, x: Tensor) -> Tensor:
    before, after = shortcut.padding
    x = x[:, : shortcut.kept]
    if shortcut.stride > 1 and shortcut.by == "mean":
        x = functional.avg_pool2d(x, shortcut.stride, ceil_mode=True)
    elif shortcut.stride > 1:
        x = x[:, :, :: shortcut.stride, :: shortcut.stride]
    return functional.pad(x, (0, 0, 0, 0, before, after))


def build(spec: NetSpec, weights: Mapping[str, npt.NDArray[np.float32]]) -> Network:
    """The network with these weights (names and shapes of `weight_shapes`), in evaluation mode. Raises WeightsError."""
    if {name: array.shape for name, array in weights.items()} != weight_shapes(spec):
        raise WeightsError("the weights' names or shapes do not fit the network")
    net = Network(spec)
    state = {name: torch.from_numpy(np.array(array, np.float32)) for name, array in weights.items()}
    net.load_state_dict(state, strict=False)  # not strict: batch counters, which nothing reads, are not in bundles
    return net.eval()


def weights_of(net: Network) -> dict[str, npt.NDArray[np.float32]]:
    """A copy of the network's weights, as bundles and `transfer.graph` take them."""
    state = net.state_dict()
    return {name: state[name].detach().cpu().numpy().astype(np.float32) for name in weight_shapes(net.spec)}


def load_published(path: Path) -> tuple[NetSpec, dict[str, npt.NDArray[np.float32]]]:
    """The network and weights in a published checkpoint: of pytorch_resnet_cifar10 (`{"state_dict": {"module....":
    ...}}`), or a state dict of torchvision's resnet18, resnet34, vgg16 or vgg16_bn.

    Only tensors are unpickled, never code. Raises WeightsError.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        raise WeightsError(f"{path} is no torch checkpoint of tensors: {error}") from error
    state = checkpoint.get("state_dict", checkpoint) if isinstance(checkpoint, Mapping) else {}
    weights = {
        str(name).removeprefix("module."): value.float().numpy()
        for name, value in (state.items() if isinstance(state, Mapping) else ())
        if isinstance(value, Tensor) and not str(name).endswith("num_batches_tracked")
    }
    try:
        return spec_of({name: array.shape for name, array in weights.items()}), weights
    except ValueError as error:
        raise WeightsError(f"{path} holds no network that is known here: {error}") from error


def count_parameters(net: nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())
