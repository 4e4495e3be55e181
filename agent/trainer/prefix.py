"""What a network makes of the views before the first weight that moves. It never changes, so it is computed once."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from agent.trainer.task import Rows, Task
from transfer.blueprint import tensor_shapes
from transfer.networks import Network, Outputs

AT_ONCE = 64
MOST_BYTES = 64 * 2**20
"""Of maps that are kept, at most: 2,000 views of CIFAR's size in tier transfer. Beyond it they are made at every step
anew, which takes a third longer."""


class Prefix:
    """The maps that `net` needs from its operation `name` on, of every view of a task."""

    def __init__(self, net: Network, name: str, task: Task, report: Callable[[int, int], None]) -> None:
        self._net, self._task = net, task
        self._position, needed = net.prefix(name)
        self._kept: dict[str, Maps] = {}
        size = task.inputs.model.manifest.input
        shapes = tensor_shapes(net.blueprint, size.height, size.width)
        if len(task) * sum(math.prod(shapes[tensor]) for tensor in needed) > MOST_BYTES:
            return
        self._kept = {tensor: Maps(len(task), shapes[tensor]) for tensor in needed}
        for at in range(0, len(task), AT_ONCE):
            report(at, len(task))
            batch = np.arange(at, min(at + AT_ONCE, len(task)))
            for tensor, maps in self._before(batch).items():
                self._kept[tensor].put(batch, maps)
        report(len(task), len(task))

    def outputs(self, batch: Rows) -> Outputs:
        """What the network says of these views; of its blocks, those behind the prefix."""
        values = {name: maps.take(batch) for name, maps in self._kept.items()} or self._before(batch)
        return self._net.after(values, self._position)

    @torch.no_grad()
    def _before(self, batch: Rows) -> dict[str, Tensor]:
        return self._net.before(self._task.tensor(batch), self._position)


class Maps:
    """`count` maps [c, h, w] in 8 bits a number: 256 even steps from the least to the largest of each channel of each
    map."""

    def __init__(self, count: int, shape: Sequence[int]) -> None:
        channels, height, width = shape
        self._steps = torch.empty((count, height, width, channels), dtype=torch.uint8)
        self._least = torch.empty((count, 1, 1, channels))
        self._step = torch.empty((count, 1, 1, channels))

    def put(self, batch: Rows, maps: Tensor) -> None:
        """Keep maps [b, c, h, w] as those numbered `batch`."""
        rows, maps = torch.from_numpy(batch), maps.permute(0, 2, 3, 1)
        least, largest = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
        # A channel of one value only has no step; any that is not zero gives it back.
        step = ((largest - least) / 255).clamp(min=1e-12)
        self._steps[rows] = ((maps - least) / step).round().to(torch.uint8)
        self._least[rows], self._step[rows] = least, step

    def take(self, batch: Rows) -> Tensor:
        """[b, c, h, w], channels last in memory."""
        rows = torch.from_numpy(batch)
        maps = torch.addcmul(self._least[rows], self._steps[rows].float(), self._step[rows])
        return maps.permute(0, 3, 1, 2)
