"""Nesterov's method, step for step as torch.optim.SGD(momentum=0.9, nesterov=True) takes it.

Torch's own optimisers import its compiler: 70 MiB and a second that a small device has better uses for.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

MOMENTUM = 0.9


class Nesterov:
    """Moves `parameters` by their names; `rates`: the learning rate of each. What it remembers: `momentum`, and `pace`,
    by which all rates are multiplied."""

    def __init__(self, parameters: Mapping[str, Tensor], rates: Mapping[str, float]) -> None:
        self.parameters, self._rates = dict(parameters), dict(rates)
        self.momentum = {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
        self.pace = torch.ones(())

    @torch.no_grad()
    def step(self, share: float = 1.0) -> None:
        """One step of `share` of every rate, down the gradients that there are; they are used up."""
        pace = share * float(self.pace)
        for name, parameter in self.parameters.items():
            slope = parameter.grad
            if slope is None:
                continue
            momentum = self.momentum[name].mul_(MOMENTUM).add_(slope)
            parameter.add_(slope.add_(momentum, alpha=MOMENTUM), alpha=-pace * self._rates[name])
            parameter.grad = None
