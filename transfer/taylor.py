"""How much a network's answer hangs on each channel, to first order (Molchanov et al. 2019, for logits, not a loss).

A trained teacher's loss is near its minimum and its gradient near zero; besides, a student is to follow the teacher,
not the labels. So we ask by how much the *logits* would move: the square of sum(activation x gradient) is, to first
order, the squared change of one logit when the channel falls silent, and it needs no label.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from transfer.coupling import coupling
from transfer.networks import Network
from transfer.operations import Blueprint, Conv, Norm, sources
from transfer.pruning import chunks

DRAWS = 8
"""Instead of every logit by itself, so many sums of all logits with random signs: their mean square is the same."""


def importance(net: Network, images: Tensor, draws: int = DRAWS, seed: int = 0) -> dict[str, npt.NDArray[np.float64]]:
    """For each space of channels (see `transfer.coupling`) that convolutions write: by how much the logits would move
    (squared, summed over them, mean over the images) if nothing were written to a channel, [channels].

    `images`: normalised, [n, 3, h, w].
    """
    space = coupling(net.blueprint).space
    gates = _gates(net.blueprint)
    made: dict[str, Tensor] = {}

    def keeping(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
            made[name] = output

        return hook

    random = torch.Generator().manual_seed(seed)
    total: dict[str, Tensor] = {}
    handles = [net.get_submodule(name).register_forward_hook(keeping(name)) for name in gates]
    try:
        for some in chunks(images):
            # The images ask for a gradient so that there is one even where the weights are frozen.
            logits = net.eval()(some.detach().clone().requires_grad_()).logits
            for _ in range(draws):
                signs = torch.randint(0, 2, logits.shape, generator=random).to(logits) * 2 - 1
                slopes = torch.autograd.grad((logits * signs).sum(), [made[name] for name in gates], retain_graph=True)
                changes: dict[str, Tensor] = {}
                for name, slope in zip(gates, slopes, strict=True):
                    change = (made[name].detach() * slope).sum(dim=(2, 3))
                    changes[space[name]] = changes.get(space[name], torch.zeros(())).to(change) + change
                for name, change in changes.items():
                    squares = change.double().square().sum(dim=0)
                    total[name] = total.get(name, torch.zeros(()).to(squares)) + squares
            made.clear()
    finally:
        for handle in handles:
            handle.remove()
    return {name: (value / (draws * len(images))).cpu().numpy() for name, value in total.items()}


def _gates(drawn: Blueprint) -> list[str]:
    """Where a convolution's word is last to be had alone: behind its batch norm, if nothing else takes it before."""
    takers: dict[str, list[str]] = {}
    norms = {operation.name for operation in drawn.operations if isinstance(operation, Norm)}
    for operation in drawn.operations:
        for name in sources(operation):
            takers.setdefault(name, []).append(operation.name)
    found = []
    for operation in drawn.operations:
        if isinstance(operation, Conv):
            taken = takers[operation.name]
            found.append(taken[0] if len(taken) == 1 and taken[0] in norms else operation.name)
    return found
